"""Blocks of steps, for rules across ranks: what a rank's rows in a block come to once it has the block behind it.

The first stage's part: it sees one writer. Few series are watched in this way, so each goes through its rows by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows

    Doubles = NDArray[np.float64]
    Longs = NDArray[np.int64]
    Makes = Literal["mean", "interval", "time"]


class Closed(NamedTuple):
    """A block that a series has behind it: its column, the block's number, what its rows came to, and the time of the row that ended it."""

    column: int
    block: int
    figure: float
    time_ms: int


def fresh() -> Doubles:
    """The state of a series that has seen nothing: the block it is in, count and sum of its values there, and step and time of its first row there."""
    return np.array([np.nan, 0.0, 0.0, 0.0, 0.0])


def take(state: Doubles, own: Longs, rows: Rows, columns: Longs, steps: int, makes: Makes) -> list[Closed]:
    """Takes some columns of rows into their rows of a state, in place, with blocks of `steps` steps. Gives the blocks that ended; rows for blocks before the newest are left out."""
    numbers: list[int] = (rows.steps // steps).tolist()
    every: list[int] = rows.steps.tolist()
    times: list[int] = rows.times.tolist()
    out: list[Closed] = []
    for at, (place, column) in enumerate(zip(own.tolist(), columns.tolist(), strict=True)):
        values: list[float] = rows.values[:, column].tolist()
        current, count, total, first_step, first_ms = state[place].tolist()
        for number, step, time_ms, value in zip(numbers, every, times, values, strict=True):
            if number < current:
                continue
            if number != current:
                if current == current:
                    figure = _figure(count, total, step - first_step, time_ms - first_ms, time_ms, makes)
                    if math.isfinite(figure):
                        out.append(Closed(at, int(current), figure, time_ms))
                current, count, total, first_step, first_ms = float(number), 0.0, 0.0, float(step), float(time_ms)
            if math.isfinite(value):
                count += 1.0
                total += value
        state[place] = current, count, total, first_step, first_ms
    return out


def _figure(count: float, total: float, steps: float, millis: float, time_ms: int, makes: Makes) -> float:
    """What the rows of a block come to, now that a row of a later block is there; NaN where they come to nothing."""
    if makes == "time":
        return float(time_ms)
    if makes == "mean":
        return total / count if count else math.nan
    return millis / 1000.0 / steps
