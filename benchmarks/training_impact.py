"""What training feels of logging: a real numpy training loop of about 5 ms a step, with 20 metrics logged each step against without, by turns, an agent shipping beside it.

One thread computes, so that the agent has a core of its own as it has beside a rank."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

import runstream
from benchmarks.broker import logging_to_a_broker
from benchmarks.figures import Bar, Figure
from benchmarks.timing import by_turns, median_us

if TYPE_CHECKING:
    from collections.abc import Iterator


_STEP_S = 0.005
_NAMES = [f"metric_{number}" for number in range(20)]


class _Training:
    """A two-layer network on random data, sized so that a step takes about 5 ms here."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._width = 64
        self._make()
        while self._step_s() < _STEP_S and self._width < 4096:
            self._width = int(self._width * 1.1)
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


def run(seconds: float) -> Iterator[Figure]:
    """The slowdown in per cent: medians of steps with and without logging, taken by turns."""
    with logging_to_a_broker(), threadpool_limits(1), runstream.init(project="benchmarks", name="training_impact") as one:
        training = _Training()
        step = 0

        def plain() -> None:
            training.step()

        def logged() -> None:
            nonlocal step
            loss = training.step()
            one.log(dict.fromkeys(_NAMES, loss), step=step)
            step += 1

        plain_ns, logged_ns = by_turns((plain, logged), seconds=seconds)
        slowdown = median_us(logged_ns, 1) / median_us(plain_ns, 1) - 1.0
        yield Figure("slowdown_pct", slowdown * 100.0, "%", len(logged_ns), Bar("<=", 0.5))
        yield Figure("step_ms", median_us(plain_ns, 1) / 1000.0, "ms", len(plain_ns))
        yield Figure("points_logged", float(one.points_logged), "points", len(logged_ns))
