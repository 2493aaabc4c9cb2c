"""Figures over the last T seconds of series, kept in thirtieths of it: bounded memory however many points come, and the same figures however they were cut.

A series' state is the number of its newest thirtieth, when its window began, and count, sum, least and greatest of each thirtieth. Rows of a group share their times,
so all of its columns move on together; columns that stand elsewhere (they were missing for a while) are worked on apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Longs = NDArray[np.int64]

BUCKETS = 30
_COUNT, _SUM, _LEAST, _GREATEST = range(4)
_NEWEST, _BEGAN, _HEAD = 0, 1, 2
WIDTH = _HEAD + 4 * BUCKETS
_EMPTY = np.repeat(np.array([0.0, 0.0, np.inf, -np.inf]), BUCKETS)


def fresh() -> Doubles:
    """The state of a series that has seen nothing."""
    return np.concatenate((np.array([np.nan, np.nan]), _EMPTY))


def take(state: Doubles, times: Longs, points: Doubles, window_ms: float, aggregate: str) -> Doubles:
    """Takes points [C, R] with times [R] in milliseconds into a state [C, WIDTH], in place; gives the figure of the window at each point, NaN before it is full."""
    figures = np.empty(points.shape)
    if not len(state):
        return figures
    begins = state[:, :_HEAD]
    alike = (begins == begins[0]) | (np.isnan(begins) & np.isnan(begins[0]))
    if alike.all():
        _take(state, times, points, window_ms, aggregate, figures)
        return figures
    _, group = np.unique(begins, axis=0, return_inverse=True, equal_nan=True)
    for one in np.unique(group).tolist():
        columns = np.flatnonzero(group.ravel() == one)
        part, found = state[columns], np.empty((len(columns), points.shape[1]))
        _take(part, times, points[columns], window_ms, aggregate, found)
        state[columns], figures[columns] = part, found
    return figures


def _take(state: Doubles, times: Longs, points: Doubles, window_ms: float, aggregate: str, figures: Doubles) -> None:
    """The same for columns whose windows stand at the same place."""
    newest, began = float(state[0, _NEWEST]), float(state[0, _BEGAN])
    cells = state[:, _HEAD:].reshape(len(state), 4, BUCKETS)
    numbers: list[float] = np.floor(times / (window_ms / BUCKETS)).tolist()
    clock: list[int] = times.tolist()
    row = 0
    while row < len(numbers):
        number = numbers[row]
        # Not a number is in no order, so a series that has seen nothing begins its window here too.
        if not newest - BUCKETS <= number < newest + BUCKETS:
            cells[:] = _EMPTY.reshape(4, BUCKETS)
            newest, began = number, float(clock[row])
        while newest < number:
            newest += 1
            cells[:, :, int(newest % BUCKETS)] = (0.0, 0.0, np.inf, -np.inf)
        end = row + 1
        while end < len(numbers) and newest - BUCKETS <= numbers[end] <= newest:
            end += 1
        found = _segment(cells, int(newest % BUCKETS), points[:, row:end], aggregate)
        full = times[row:end] - began >= window_ms
        figures[:, row:end] = np.where(full, found, np.nan)
        row = end
    state[:, _NEWEST], state[:, _BEGAN] = newest, began
    state[:, _HEAD:] = cells.reshape(len(state), -1)


def _segment(cells: Doubles, now: int, points: Doubles, aggregate: str) -> Doubles:
    """Takes points that all fall into the thirtieth `now`; gives the figures at each."""
    running = np.concatenate((cells[:, _SUM, now, None], points), axis=1)
    sums = np.add.accumulate(running, axis=1)[:, 1:]
    counts = cells[:, _COUNT, now, None] + np.arange(1.0, points.shape[1] + 1.0)
    least = np.minimum.accumulate(np.concatenate((cells[:, _LEAST, now, None], points), axis=1), axis=1)[:, 1:]
    greatest = np.maximum.accumulate(np.concatenate((cells[:, _GREATEST, now, None], points), axis=1), axis=1)[:, 1:]
    older = [(now + 1 + one) % BUCKETS for one in range(BUCKETS - 1)]  # From the oldest on, so that sums are taken in the order of time.
    if aggregate == "mean":
        before = np.add.accumulate(cells[:, _SUM, older], axis=1)[:, -1:]
        out = (before + sums) / (cells[:, _COUNT, older].sum(axis=1, keepdims=True) + counts)
    elif aggregate == "min":
        out = np.minimum(cells[:, _LEAST, older].min(axis=1, keepdims=True), least)
    elif aggregate == "max":
        out = np.maximum(cells[:, _GREATEST, older].max(axis=1, keepdims=True), greatest)
    elif aggregate == "median":
        out = _medians(cells[:, _SUM, older] / cells[:, _COUNT, older], sums / counts)
    else:
        out = points
    cells[:, _COUNT, now], cells[:, _SUM, now] = counts[:, -1], sums[:, -1]
    cells[:, _LEAST, now], cells[:, _GREATEST, now] = least[:, -1], greatest[:, -1]
    return out


def _medians(older: Doubles, current: Doubles) -> Doubles:
    """Medians of the means of the older thirtieths [C, B - 1], NaN where they are empty, and the one that is filling [C, R]."""
    columns, rows = current.shape
    means = np.empty((columns, rows, BUCKETS))
    means[:, :, 0] = current
    means[:, :, 1:] = older[:, None, :]
    means.sort(axis=2)  # NaN goes to the end.
    count = BUCKETS - np.isnan(means).sum(axis=2, keepdims=True)
    low = np.take_along_axis(means, (count - 1) // 2, axis=2)[:, :, 0]
    high = np.take_along_axis(means, count // 2, axis=2)[:, :, 0]
    return np.where(low == high, low, (low + high) / 2.0)
