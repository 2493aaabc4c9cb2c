"""Data that a test knows beforehand: what a rank logs at a step is a function of rank and step, so that every stored point can be compared with it, and every alert."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

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


def params(rate: float, first: int) -> dict[str, float | int | str | bool]:
    """What a rank says of itself: a param of each type."""
    return {"rate": rate, "first": first, "data": "known", "begins": first == 0}


@dataclass(frozen=True, slots=True)
class Episode:
    """An alert that must fire: by which rule, at which step, and at which it resolves; None where no row follows that resolves it."""

    rule: Literal["spike", "not finite"]
    step: int
    resolved_step: int | None


def episodes(steps: Iterable[int]) -> list[Episode]:
    """The episodes of a writer whose rows are those of these steps, in order. Of spikes a value that is not finite neither begins nor ends one."""
    opened: dict[Literal["spike", "not finite"], int] = {}
    found: list[Episode] = []

    def turn(rule: Literal["spike", "not finite"], step: int, *, holds: bool) -> None:
        if holds:
            opened.setdefault(rule, step)
        elif rule in opened:
            found.append(Episode(rule, opened.pop(rule), step))

    for step in steps:
        is_nan = step % NAN_EVERY == 0 and step > 0
        turn("not finite", step, holds=is_nan)
        if not is_nan:
            turn("spike", step, holds=step % SPIKE_EVERY < SPIKE_STEPS and step >= SPIKE_EVERY)
    return found + [Episode(rule, step, None) for rule, step in opened.items()]
