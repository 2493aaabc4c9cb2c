"""What training feels of logging: a real numpy training loop of about 5 ms a step, with 20 metrics logged each step against without, in pairs, an agent shipping beside it."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

import numpy as np

import runstream
from benchmarks.broker import logging_to_a_broker
from benchmarks.figures import Bar, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runstream import Run

_STEPS = 8  # Steps of one side of a pair: long enough for the clock, short enough that both sides see the same machine.
_STEP_S = 0.005


class _Training:
    """A two-layer network on random data, sized so that a step takes about 5 ms here."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._width = 64
        self._make()
        while self._step_s() < _STEP_S and self._width < 4096:
            self._width = int(self._width * 1.25)
            self._make()

    def _make(self) -> None:
        self._inputs = self._rng.normal(size=(128, self._width))
        self._targets = self._rng.normal(size=(128, 1))
        self._first = self._rng.normal(size=(self._width, self._width)) * 0.05
        self._second = self._rng.normal(size=(self._width, 1)) * 0.05

    def _step_s(self) -> float:
        times: list[float] = []
        for _ in range(7):
            begun = time.perf_counter()
            self.step()
            times.append(time.perf_counter() - begun)
        return min(times)  # The first steps also wake BLAS up.

    def step(self) -> float:
        """One step of gradient descent; returns its loss."""
        hidden = np.maximum(self._inputs @ self._first, 0.0)
        error = hidden @ self._second - self._targets
        slope = (error @ self._second.T) * (hidden > 0.0)
        self._second -= 1e-4 * hidden.T @ error / 128
        self._first -= 1e-4 * self._inputs.T @ slope / 128
        return float((error * error).mean())


def _block(training: _Training, run: Run | None, first: int) -> float:
    begun = time.perf_counter()
    for step in range(first, first + _STEPS):
        loss = training.step()
        if run is not None:
            run.log({f"metric_{number}": loss + number for number in range(20)}, step=step)
    return time.perf_counter() - begun


def run(seconds: float) -> Iterator[Figure]:
    """The slowdown in per cent: the median of pairs, each side first by turns."""
    with logging_to_a_broker(), runstream.init(project="benchmarks", name="training_impact") as one:
        training = _Training()
        ratios: list[float] = []
        plain_s: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(ratios) < 20:
            number = len(ratios)
            if number % 2:
                plain, logged = _block(training, None, 0), _block(training, one, number * _STEPS)
            else:
                logged, plain = _block(training, one, number * _STEPS), _block(training, None, 0)
            ratios.append(logged / plain)
            plain_s.append(plain)
        yield Figure("slowdown_pct", (statistics.median(ratios) - 1.0) * 100.0, "%", len(ratios), Bar("<=", 0.5))
        yield Figure("step_ms", statistics.median(plain_s) / _STEPS * 1000.0, "ms", len(ratios))
        yield Figure("points_logged", float(one.points_logged), "points", len(ratios))
