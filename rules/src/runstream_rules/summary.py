"""Summaries of series: what the rows so far come to, in packed columns.

Every figure is computed strictly in the order of the seqs, one value after the other, so that any grouping of the same rows gives the same bits: sums are never
pairwise, means and squared deviations are Welford's. The vectorised way works across columns and never across rows; `recompute` says the same in plain Python.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]

COUNT, NON_FINITE, MIN_STEP, MAX_STEP, FIRST_STEP, LAST_STEP, FIRST_TIME, LAST_TIME = range(8)
SUM, MEAN, M2, MIN, MAX, FIRST, LAST = range(7)
LONGS, DOUBLES = 8, 7

# Below this width the numpy calls of a row cost more than plain Python does for its values (measured: 3 us a row against 0.2 us a value).
_WIDTH_MIN = 14


class Rows(NamedTuple):
    """Rows of some columns, seqs rising: `seqs`, `steps`, `times` are [R], `values` [R, C]."""

    seqs: Longs
    steps: Longs
    times: Longs
    values: Doubles


def empty(series: int) -> tuple[Longs, Doubles]:
    """Columns for series that have seen nothing. Least and greatest start at the infinities, which no finite value is."""
    longs = np.zeros((LONGS, series), dtype=np.int64)
    doubles = np.zeros((DOUBLES, series), dtype=np.float64)
    doubles[MIN] = np.inf
    doubles[MAX] = -np.inf
    return longs, doubles


def add(longs: Longs, doubles: Doubles, places: Longs, rows: Rows) -> None:
    """Takes rows into the columns at `places`, in place; the rows must follow all that were taken before. Numpy's warnings must be off."""
    values = rows.values
    count = len(rows.seqs)
    part_longs = longs[:, places]
    part_doubles = doubles[:, places]
    new = part_longs[COUNT] == 0
    if new.any():
        np.copyto(part_longs[FIRST_STEP], rows.steps[0], where=new)
        np.copyto(part_longs[FIRST_TIME], rows.times[0], where=new)
        np.copyto(part_doubles[FIRST], values[0], where=new)
    part_longs[LAST_STEP] = rows.steps[-1]
    part_longs[LAST_TIME] = rows.times[-1]
    part_doubles[LAST] = values[-1]
    finite = np.isfinite(values)
    if len(places) >= _WIDTH_MIN and finite.all():
        _add_wide(part_longs, part_doubles, rows)
    else:
        _add_narrow(part_longs, part_doubles, rows)
    part_longs[COUNT] += count
    longs[:, places] = part_longs
    doubles[:, places] = part_doubles


def _add_wide(longs: Longs, doubles: Doubles, rows: Rows) -> None:
    """All columns at once, row after row; every value is finite."""
    values = rows.values
    count, width = values.shape
    running = np.empty((count + 1, width))
    running[0] = doubles[SUM]
    running[1:] = values
    np.add.accumulate(running, axis=0, out=running)  # An accumulation is sequential by definition; a reduction need not be.
    doubles[SUM] = running[-1]

    columns = np.arange(width, dtype=np.int64)
    least = values.argmin(axis=0)  # The first of equals.
    lows = values[least, columns]
    lower = lows < doubles[MIN]
    np.copyto(doubles[MIN], lows, where=lower)
    np.copyto(longs[MIN_STEP], rows.steps[least], where=lower)
    greatest = values.argmax(axis=0)
    highs = values[greatest, columns]
    higher = highs > doubles[MAX]
    np.copyto(doubles[MAX], highs, where=higher)
    np.copyto(longs[MAX_STEP], rows.steps[greatest], where=higher)

    seen = (longs[COUNT] - longs[NON_FINITE]).astype(np.float64)
    numbers = seen + np.arange(1.0, count + 1.0)[:, None]
    mean, m2 = doubles[MEAN], doubles[M2]
    delta, change = np.empty(width), np.empty(width)
    for row, number in zip(values, numbers, strict=True):
        np.subtract(row, mean, delta)
        np.divide(delta, number, change)
        np.add(mean, change, mean)
        np.subtract(row, mean, change)
        np.multiply(delta, change, change)
        np.add(m2, change, m2)


def _add_narrow(longs: Longs, doubles: Doubles, rows: Rows) -> None:
    """Column after column in plain Python: the same operations on the same doubles in the same order."""
    steps: list[int] = rows.steps.tolist()
    for place in range(rows.values.shape[1]):
        values: list[float] = rows.values[:, place].tolist()
        total, mean, m2, least, greatest = doubles[:FIRST, place].tolist()
        non_finite = int(longs[NON_FINITE, place])
        number = float(int(longs[COUNT, place]) - non_finite)
        min_step, max_step = int(longs[MIN_STEP, place]), int(longs[MAX_STEP, place])
        for value, step in zip(values, steps, strict=True):
            if not math.isfinite(value):
                non_finite += 1
                continue
            total += value
            number += 1.0
            delta = value - mean
            mean += delta / number
            m2 += delta * (value - mean)
            if value < least:
                least, min_step = value, step
            if value > greatest:
                greatest, max_step = value, step
        doubles[:FIRST, place] = total, mean, m2, least, greatest
        longs[NON_FINITE, place], longs[MIN_STEP, place], longs[MAX_STEP, place] = non_finite, min_step, max_step
