"""Figures over the last N points of series, for every new point at once, and to the same bits however the points were cut.

A window that ends at a point is the tail of one aligned stretch of N points and the head of the next, or exactly one stretch. Heads and tails are running sums (least, greatest), which
numpy's `accumulate` computes one after the other by definition; stretches are aligned by how many points the series had before. So a figure depends on the points alone.

State and figures of columns lie beside each other as [C, ...], time last. What is not there yet is NaN and makes the figures NaN that it goes into.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Ints = NDArray[np.intp]


class Moments(NamedTuple):
    """Mean and standard deviation of windows, the deviation divided by the count."""

    means: Doubles
    deviations: Doubles


def fresh(kept: int) -> Doubles:
    """The state of a series that has seen nothing: how many points it had, and the last `kept` of them."""
    state = np.full(1 + kept, np.nan)
    state[0] = 0.0
    return state


def push(state: Doubles, points: Doubles) -> tuple[Doubles, NDArray[np.int64]]:
    """Takes new points [C, R] into a state [C, 1 + kept], in place. Gives kept and new points in one [C, kept + R], and how many points there were before the first of these."""
    line = np.concatenate((state[:, 1:], points), axis=1)
    kept = state.shape[1] - 1
    first = state[:, 0].astype(np.int64) - kept
    state[:, 0] += points.shape[1]
    if kept:
        state[:, 1:] = line[:, -kept:]
    return line, first


def phases(first: NDArray[np.int64], window: int) -> Iterator[tuple[Ints | None, int]]:
    """Columns that stand at the same place of their stretches, with that place; None is all of them, which is usual."""
    if len(first) == 1:
        yield None, int(first[0]) % window
        return
    at = first % window
    if len(at) and (at == at[0]).all():
        yield None, int(at[0])
        return
    for phase in np.unique(at).tolist():
        yield np.flatnonzero(at == phase), phase


def rolling(line: Doubles, first: NDArray[np.int64], window: int, ufunc: np.ufunc) -> Doubles:
    """`ufunc` over each window of [C, T]: [C, T - window + 1]."""
    return _by_phase(line, first, window, lambda part, phase: _rolled(part, phase, window, ufunc))


def sums(line: Doubles, first: NDArray[np.int64], window: int) -> Doubles:
    """Sums of each window of [C, T]."""
    return rolling(line, first, window, np.add)


def medians(line: Doubles, window: int) -> Doubles:
    """Medians of each window of [C, T]; between the two in the middle where their number is even."""
    views = np.lib.stride_tricks.sliding_window_view(line, window, axis=1)
    low, high = (window - 1) // 2, window // 2
    parted = np.partition(views, (low, high), axis=2)
    middle = parted[:, :, low] if low == high else (parted[:, :, low] + parted[:, :, high]) / 2.0
    return np.where(np.isnan(views).any(axis=2), np.nan, middle)


def moments(line: Doubles, first: NDArray[np.int64], window: int) -> Moments:
    """Mean and deviation of each window of [C, T].

    Sums are taken of differences from one of the window's own points, so that a large mean does not swallow a small deviation.
    """
    packed = _by_phase(line, first, window, lambda part, phase: _moments(part, phase, window))
    return Moments(packed[..., 0], packed[..., 1])


def _by_phase(line: Doubles, first: NDArray[np.int64], window: int, work: Callable[[Doubles, int], Doubles]) -> Doubles:
    out: Doubles | None = None
    for columns, phase in phases(first, window):
        if columns is None:
            return work(line, phase)
        part = work(line[columns], phase)
        if out is None:
            out = np.empty((len(line), *part.shape[1:]))
        out[columns] = part
    return np.empty((0, max(line.shape[1] - window + 1, 0))) if out is None else out


def _stretches(line: Doubles, phase: int, window: int) -> Doubles:
    """A line as stretches [C, S, window], NaN where it has nothing."""
    columns, length = line.shape
    count = -(-(phase + length) // window)
    padded = np.full((columns, count * window), np.nan)
    padded[:, phase : phase + length] = line
    return padded.reshape(columns, count, window)


@lru_cache(maxsize=4096)
def _places(phase: int, length: int, window: int) -> tuple[Ints, Ints, Ints]:
    """For each window: the stretch of its last point, that point's place there, and where the window begins in the stretch before (`window` where it does not)."""
    ends = phase + np.arange(window - 1, length)
    at = ends % window
    return ends // window, at, at + 1


def _rolled(line: Doubles, phase: int, window: int, ufunc: np.ufunc) -> Doubles:
    stretches = _stretches(line, phase, window)
    heads = ufunc.accumulate(stretches, axis=2)
    tails = ufunc.accumulate(stretches[:, :, ::-1], axis=2)[:, :, ::-1]
    stretch, at, begins = _places(phase, line.shape[1], window)
    head = heads[:, stretch, at]
    tail = tails[:, np.maximum(stretch - 1, 0), np.minimum(begins, window - 1)]
    return np.where(begins == window, head, ufunc(tail, head))


def _moments(line: Doubles, phase: int, window: int) -> Doubles:
    stretches = _stretches(line, phase, window)
    stretches = np.concatenate((np.full_like(stretches[:, :1], np.nan), stretches), axis=1)  # Before the first there is one that nothing is known of.
    shifts = stretches[:, 1:, :1]
    ours, theirs = stretches[:, 1:] - shifts, (stretches[:, :-1] - shifts)[:, :, ::-1]
    stretch, at, begins = _places(phase, line.shape[1], window)
    whole = begins == window
    begin = np.minimum(begins, window - 1)

    def total(own: Doubles, before: Doubles) -> Doubles:
        head = np.add.accumulate(own, axis=2)[:, stretch, at]
        tail = np.add.accumulate(before, axis=2)[:, :, ::-1][:, stretch, begin]
        return np.where(whole, head, tail + head)

    mean = total(ours, theirs) / window
    square = total(ours * ours, theirs * theirs) / window
    deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
    return np.stack((mean + shifts[:, stretch, 0], deviation), axis=2)
