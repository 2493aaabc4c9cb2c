"""Ranges of figures: where a rule's condition holds, and where it has calmed down.

Every relation is said as one closed range, or the outside of one, so that the conditions of many rules are compared with one pair of operations. NaN lies nowhere, unless a region
says that it does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_INF = math.inf


class Region(NamedTuple):
    """Figures in [low, high], or with `outside` those that are not; `nan` says whether NaN belongs to it."""

    low: float
    high: float
    outside: bool = False
    nan: bool = False

    def holds(self, figures: Doubles) -> Bools:
        """Which figures lie in the region."""
        inside = (figures >= self.low) & (figures <= self.high)
        if not self.outside:
            return inside
        return ~inside if self.nan else ~inside & (figures == figures)


class Bounds(NamedTuple):
    """Where a rule fires and where it resolves; a figure may lie in neither."""

    hot: Region
    calm: Region


EVERYWHERE = Region(-_INF, _INF)
NOWHERE = Region(_INF, -_INF)


def relation(operator: str, bound: float) -> Region:
    """Figures for which `figure operator bound` holds; the bound is finite."""
    match operator:
        case "<":
            return Region(-_INF, math.nextafter(bound, -_INF))
        case "<=":
            return Region(-_INF, bound)
        case ">":
            return Region(math.nextafter(bound, _INF), _INF)
        case ">=":
            return Region(bound, _INF)
        case "==":
            return Region(bound, bound)
        case _:
            return Region(bound, bound, outside=True)


def complement(region: Region) -> Region:
    """Figures that are not in a region; NaN is in neither."""
    return Region(region.low, region.high, outside=not region.outside)


def beyond(direction: str, threshold: float, clear: float | None) -> Bounds:
    """Figures that are more than `threshold` up, down or either way from 0; calm once they are no more than `clear` (the threshold if None)."""
    quiet = threshold if clear is None else clear
    if direction == "up":
        return Bounds(relation(">", threshold), relation("<=", quiet))
    if direction == "down":
        return Bounds(relation("<", -threshold), relation(">=", -quiet))
    return Bounds(Region(-threshold, threshold, outside=True), Region(-quiet, quiet))


def in_columns(found: Bools) -> Bools:
    """Which columns of [R, C] have any that is true."""
    out: Bools = np.logical_or.reduce(found, axis=0)
    return out


class Stack(NamedTuple):
    """The regions of many columns at once."""

    lows: Doubles
    highs: Doubles
    outside: Bools | None
    nan: Bools | None

    def holds(self, figures: Doubles) -> Bools:
        """Which figures of [R, P] lie in the region of their column."""
        found = (figures >= self.lows) & (figures <= self.highs)
        if self.outside is not None:
            found ^= self.outside
            numbers = figures == figures
            found &= numbers if self.nan is None else numbers | self.nan
        return found


def stacked(regions: Sequence[Region], widths: Sequence[int]) -> Stack:
    """Regions side by side, each for as many columns as its width."""

    def spread(values: Sequence[float] | Sequence[bool]) -> NDArray[np.generic]:
        return np.repeat(np.array(values), widths)

    outside = spread([one.outside for one in regions]).astype(np.bool_)
    nan = spread([one.nan for one in regions]).astype(np.bool_)
    lows = spread([one.low for one in regions]).astype(np.float64)
    highs = spread([one.high for one in regions]).astype(np.float64)
    return Stack(lows, highs, outside if outside.any() else None, nan if nan.any() else None)
