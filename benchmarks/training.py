"""A real training loop for benchmarks: a classifier of four layers in numpy, by stochastic gradient descent with momentum, about 5 ms a step, on one thread."""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Matrix = NDArray[np.float64]

STEP_S = 0.005
_BATCH, _INPUTS, _CLASSES, _LAYERS = 64, 256, 10, 4
_BATCHES = 16  # Of data, which come again and again.


class Training:
    """The network, sized so that a step takes about 5 ms here. Hold BLAS to one thread around it, so that an agent has a core of its own as it has beside a rank.

    A step computes what such loops log, 20 numbers: loss, accuracy and learning rate, and for each layer norms of gradient, weights and update, and how many units are alive.
    """

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        centres = self._rng.normal(size=(_CLASSES, _INPUTS))
        self._labels = self._rng.integers(0, _CLASSES, size=(_BATCHES, _BATCH))
        self._data: Matrix = centres[self._labels] + self._rng.normal(size=(_BATCHES, _BATCH, _INPUTS))
        self._width = 64
        self._make()
        while self._step_s() < STEP_S and self._width < 4096:
            self._width = int(self._width * 1.1)
            self._make()

    def _make(self) -> None:
        sizes = [_INPUTS, *[self._width] * (_LAYERS - 1), _CLASSES]
        self._weights: list[Matrix] = [self._rng.normal(size=(one, other)) * math.sqrt(2.0 / one) for one, other in itertools.pairwise(sizes)]
        self._moments: list[Matrix] = [np.zeros_like(one) for one in self._weights]
        self._steps = 0

    def _step_s(self) -> float:
        times: list[float] = []
        for _ in range(7):
            begun = time.thread_time()
            self.step()
            times.append(time.thread_time() - begun)
        return min(times)  # The first steps also wake BLAS up.

    def step(self) -> dict[str, float]:
        """One step; returns its metrics."""
        inputs, labels = self._data[self._steps % _BATCHES], self._labels[self._steps % _BATCHES]
        rate = 1e-4 / (1.0 + 1e-4 * self._steps)
        self._steps += 1
        outputs = [inputs]
        for weights in self._weights[:-1]:
            outputs.append(np.maximum(outputs[-1] @ weights, 0.0))
        scores = outputs[-1] @ self._weights[-1]
        scores -= scores.max(axis=1, keepdims=True)
        shares = np.exp(scores)
        shares /= shares.sum(axis=1, keepdims=True)
        rows = np.arange(_BATCH)
        metrics = {
            "train/loss": float(-np.log(shares[rows, labels] + 1e-12).mean()),
            "train/accuracy": float((scores.argmax(axis=1) == labels).mean()),
            "train/learning_rate": rate,
            "train/confidence": float(shares.max(axis=1).mean()),
        }
        shares[rows, labels] -= 1.0
        slope = shares / _BATCH
        for layer in reversed(range(_LAYERS)):
            weights, moment = self._weights[layer], self._moments[layer]
            gradient = outputs[layer].T @ slope
            if layer:
                slope = (slope @ weights.T) * (outputs[layer] > 0.0)
            moment *= 0.9
            moment += gradient
            weights -= rate * moment
            metrics[f"layer_{layer}/gradient_norm"] = float(np.linalg.norm(gradient))
            metrics[f"layer_{layer}/weight_norm"] = float(np.linalg.norm(weights))
            metrics[f"layer_{layer}/update_norm"] = rate * float(np.linalg.norm(moment))
            metrics[f"layer_{layer}/active"] = float((outputs[layer] > 0.0).mean())
        return metrics
