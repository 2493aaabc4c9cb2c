"""From rows of several values to one row a value: the geometry of a chunk of points, in whole arrays. What the columns mean is `points`' business."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    Longs = NDArray[np.int64]

Number = TypeVar("Number", np.float64, np.int64, np.uint32, np.uint64)


class _Block(NamedTuple):
    """Rows of one kind, and where their points begin: first all rows of the name that sorts first, then of the next. `columns` are where those names stand in a row."""

    begin: int
    end: int
    at: int
    keys: tuple[str, ...]
    columns: list[int]

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.columns), self.end - self.begin


class Spread:
    """Rows to points: each row comes out once for each of its names."""

    def __init__(self, keys_of: Sequence[tuple[str, ...]], kind_of_row: Longs) -> None:
        self._blocks: list[_Block] = []
        self._count = 0
        changes: list[int] = (np.flatnonzero(np.diff(kind_of_row)) + 1).tolist()
        for begin, end in pairwise([0, *changes, len(kind_of_row)]):
            if begin < end:
                keys = keys_of[int(kind_of_row[begin])]
                self._blocks.append(_Block(begin, end, self._count, keys, sorted(range(len(keys)), key=keys.__getitem__)))
                self._count += len(keys) * (end - begin)

    def points(self, column: NDArray[Number]) -> NDArray[Number]:
        """A value for each point, from one for each row (or from several side by side)."""
        out = np.empty((self._count, *column.shape[1:]), column.dtype)
        for block in self._blocks:
            names, rows = block.shape
            out[block.at : block.at + names * rows].reshape(names, rows, *column.shape[1:])[:] = column[block.begin : block.end]
        return out

    def columns(self) -> Longs:
        """For each point the place of its value in its row."""
        return self._of_names(lambda block: block.columns)

    def names(self, code: Callable[[str], int]) -> Longs:
        """For each point the code of its name."""
        return self._of_names(lambda block: [code(block.keys[one]) for one in block.columns])

    def _of_names(self, values: Callable[[_Block], list[int]]) -> Longs:
        out = np.empty(self._count, np.int64)
        for block in self._blocks:
            names, rows = block.shape
            out[block.at : block.at + names * rows].reshape(names, rows)[:] = np.array(values(block), np.int64)[:, np.newaxis]
        return out


def starts(counts: Longs) -> Longs:
    """Where each begins, if each takes so many places."""
    return np.cumsum(counts) - counts


def within(counts: Longs) -> Longs:
    """0 up to each count, one after the other."""
    return np.arange(int(counts.sum())) - np.repeat(starts(counts), counts)


def joined(parts: list[NDArray[Number]], kind: type[Number]) -> NDArray[Number]:
    """All parts in one array; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else np.empty(0, kind)
