"""Data that a test knows beforehand: what a rank logs at a step is a function of rank and step, so that every stored point can be compared with it."""

from __future__ import annotations

import math
from collections.abc import Iterable

METRICS = ("loss", "grad_norm", "tokens_per_second", "lr")
# Every so many steps the loss of a rank leaps over the threshold for a few steps, and every so many it is not finite: an alert each.
SPIKE_EVERY, SPIKE_STEPS = 200, 5
NAN_EVERY = 350
THRESHOLD = 50.0


def row(rank: int, step: int) -> dict[str, float]:
    """What a rank logs at a step."""
    base = 3.0 * math.exp(-step / 400.0) + 0.01 * math.sin(step * 1.7 + rank)
    spike = step % SPIKE_EVERY < SPIKE_STEPS and step >= SPIKE_EVERY
    loss = math.nan if step % NAN_EVERY == 0 and step else 100.0 + rank if spike else base
    return {
        "loss": loss,
        "grad_norm": 0.5 + 0.1 * math.cos(step * 0.9 + rank),
        "tokens_per_second": 41_500.0 + (step * 37 + rank * 11) % 997,
        "lr": 3e-4 * (1.0 + step % 7),
    }


def spikes(steps: Iterable[int]) -> int:
    """How many episodes over the threshold begin for a writer whose rows are those of these steps, in order; a value that is not finite neither begins nor ends one."""
    begun, inside = 0, False
    for step in steps:
        if not _is_nan(step):
            is_over = step % SPIKE_EVERY < SPIKE_STEPS and step >= SPIKE_EVERY
            begun += is_over and not inside
            inside = is_over
    return begun


def nans(steps: Iterable[int]) -> int:
    """How many episodes of values that are not finite begin for a writer whose rows are those of these steps, in order."""
    begun, inside = 0, False
    for step in steps:
        begun += _is_nan(step) and not inside
        inside = _is_nan(step)
    return begun


def _is_nan(step: int) -> bool:
    return step % NAN_EVERY == 0 and step > 0
