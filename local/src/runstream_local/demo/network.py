"""A small classifier in numpy: three dense layers with leaky ReLU and a softmax, trained by plain gradient descent. Real enough to learn, and to diverge."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Labels = NDArray[np.int64]


# The slope of leaky ReLU below zero. With a plain ReLU a network that diverges dies instead: nothing is active and its loss stands still.
LEAK = 0.1


@dataclass(frozen=True, slots=True)
class Measured:
    """What one pass measured: mean cross-entropy in nats, and the share of right answers."""

    loss: float
    accuracy: float


class Network:
    """Weights [in, out] and biases [out] of each layer."""

    def __init__(self, sizes: tuple[int, ...], seed: int) -> None:
        rng = np.random.default_rng(seed)
        # He's initialisation (He et al. 2015), which keeps the size of activations through ReLU layers.
        self.weights: list[Floats] = [rng.normal(0.0, np.sqrt(2.0 / n), (n, m)) for n, m in itertools.pairwise(sizes)]
        self.biases: list[Floats] = [np.zeros(m) for m in sizes[1:]]

    @property
    def parameters(self) -> int:
        """Number of trainable values."""
        return sum(one.size for one in (*self.weights, *self.biases))

    def measure(self, inputs: Floats, labels: Labels) -> Measured:
        """Loss and accuracy on `inputs` [N, in] and `labels` [N]."""
        return _measured(self._forward(inputs)[-1], labels)

    def step(self, inputs: Floats, labels: Labels, learning_rate: float) -> tuple[Measured, list[float]]:
        """One step of gradient descent; returns what was measured before it, and the gradient's norm for each layer."""
        layers = self._forward(inputs)
        measured = _measured(layers[-1], labels)
        slope = _probabilities(layers[-1])
        slope[np.arange(len(labels)), labels] -= 1.0
        slope /= len(labels)
        norms: list[float] = []
        for index in reversed(range(len(self.weights))):
            gradient = layers[index].T @ slope
            norms.append(float(np.sqrt((gradient * gradient).sum())))
            below = slope @ self.weights[index].T * np.where(layers[index] > 0.0, 1.0, LEAK)
            self.weights[index] -= learning_rate * gradient
            self.biases[index] -= learning_rate * slope.sum(axis=0)
            slope = below
        return measured, norms[::-1]

    def save(self, path: Path) -> int:
        """Writes all weights into one file and returns its size in bytes."""
        arrays = {f"weight_{index}": one for index, one in enumerate(self.weights)} | {f"bias_{index}": one for index, one in enumerate(self.biases)}
        np.savez(path, allow_pickle=False, **arrays)
        return path.stat().st_size

    def _forward(self, inputs: Floats) -> list[Floats]:
        """The input, each hidden layer's output, and the logits."""
        layers = [inputs]
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            out = layers[-1] @ weight + bias
            layers.append(out if index == len(self.weights) - 1 else np.maximum(out, LEAK * out))
        return layers


def _probabilities(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def _measured(logits: Floats, labels: Labels) -> Measured:
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    return Measured(float(losses.mean()), float((logits.argmax(axis=1) == labels).mean()))
