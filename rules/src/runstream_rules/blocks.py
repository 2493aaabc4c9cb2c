"""Blocks of steps, for rules across ranks: what a rank's rows in a block come to once it has the block behind it.

The first stage's part: it sees one writer. Rows of a group share their steps, so all of its columns go through blocks together; columns that stand elsewhere are worked on apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows

    Doubles = NDArray[np.float64]

_BLOCK, _COUNT, _SUM, _FIRST_STEP, _FIRST_MS = range(5)
WIDTH = 5


class Closed(NamedTuple):
    """A block that a series has behind it: its column, the block's number, what its rows came to, and the time of the row that ended it."""

    column: int
    block: int
    figure: float
    time_ms: int


def fresh() -> Doubles:
    """The state of a series that has seen nothing."""
    return np.array([np.nan, 0.0, 0.0, 0.0, 0.0])


def take(state: Doubles, rows: Rows, steps: int, makes: Literal["mean", "interval", "time"]) -> tuple[list[Closed], int]:
    """Takes rows [R, C] into a state [C, WIDTH], in place, with blocks of `steps` steps. Gives the blocks that ended, by row, and how many rows came for blocks before."""
    numbers: list[int] = (rows.steps // steps).tolist()
    out: list[tuple[int, Closed]] = []
    late = 0
    for current in np.unique(state[:, _BLOCK]).tolist():  # NaN, a series without rows, counts as one.
        alike = np.isnan(state[:, _BLOCK]) if np.isnan(current) else state[:, _BLOCK] == current
        columns = np.flatnonzero(alike)
        part = state[columns]
        late += len(columns) * _take(part, columns, rows, numbers, makes, out)
        state[columns] = part
    out.sort(key=lambda one: (one[0], one[1].column))
    return [closed for _, closed in out], late


def _take(
    part: Doubles, columns: NDArray[np.intp], rows: Rows, numbers: list[int], makes: Literal["mean", "interval", "time"], out: list[tuple[int, Closed]]
) -> int:
    late = 0
    row = 0
    while row < len(numbers):
        current, number = float(part[0, _BLOCK]), numbers[row]
        if number < current:
            late += 1
            row += 1
            continue
        if number != current:
            if not np.isnan(current):
                figures = _figures(part, int(rows.steps[row]), int(rows.times[row]), makes)
                out += [
                    (row, Closed(column, int(current), figure, int(rows.times[row])))
                    for column, figure in zip(columns.tolist(), figures.tolist(), strict=True)
                    if not np.isnan(figure)
                ]
            part[:, _BLOCK], part[:, _COUNT], part[:, _SUM] = number, 0.0, 0.0
            part[:, _FIRST_STEP], part[:, _FIRST_MS] = rows.steps[row], rows.times[row]
        end = row + 1
        while end < len(numbers) and numbers[end] == number:
            end += 1
        values = rows.values[row:end, columns].T
        finite = np.isfinite(values)
        # Adding 0 where a value does not count changes no sum.
        running = np.concatenate((part[:, _SUM, None], np.where(finite, values, 0.0)), axis=1)
        part[:, _SUM] = np.add.accumulate(running, axis=1)[:, -1]
        part[:, _COUNT] += finite.sum(axis=1)
        row = end
    return late


def _figures(part: Doubles, step: int, time_ms: int, makes: Literal["mean", "interval", "time"]) -> Doubles:
    """What the rows of the block come to, now that a row of a later block is there; NaN where they come to nothing."""
    if makes == "time":
        return np.full(len(part), float(time_ms))
    if makes == "mean":
        return part[:, _SUM] / part[:, _COUNT]
    return (time_ms - part[:, _FIRST_MS]) / 1000.0 / (step - part[:, _FIRST_STEP])
