"""Metric names with `*` and `?`: how they match, and which columns of a list of names they match.

Matching a hundred rules with a thousand names takes a while, and is the same for every rank that logs those names: what was found is remembered by the list itself.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Names = tuple[str, ...]

_LISTS_MAX = 4096


def pattern(metric: str) -> re.Pattern[str]:
    """A metric name with `*` for any text and `?` for any one character; every other character stands for itself, case included.

    Matching takes time in proportion to the name, whatever the pattern: each piece between two stars is taken at its first place and never given back (an atomic group),
    since a later place could not make the rest match where the first one does not.
    """
    first, *pieces = ["".join("." if one == "?" else re.escape(one) for one in piece) for piece in metric.split("*")]
    if not pieces:
        return re.compile(first, re.DOTALL)
    *middle, last = pieces
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last, re.DOTALL)


def is_pattern(metric: str) -> bool:
    """Whether a text means more than itself."""
    return "*" in metric or "?" in metric


class _List(NamedTuple):
    names: Names
    places: dict[str, list[int]]
    found: dict[str, Columns | None]


class Matches:
    """Columns by list of names and pattern. Lists are known by identity, since the codec gives the same list for the same bytes and hashing a thousand names takes longer
    than all that is done with them."""

    def __init__(self) -> None:
        self._lists: dict[int, _List] = {}

    def columns(self, metric: str, names: Names) -> Columns | None:
        """Places of the names that a pattern matches, rising; None where there are none."""
        known = self._lists.get(id(names))
        if known is None or known.names is not names:
            if len(self._lists) >= _LISTS_MAX:
                self._lists.clear()
            places: dict[str, list[int]] = {}
            for place, name in enumerate(names):
                places.setdefault(name, []).append(place)
            known = self._lists[id(names)] = _List(names, places, {})
        if metric not in known.found:
            known.found[metric] = _columns(metric, known)
        return known.found[metric]


def _columns(metric: str, known: _List) -> Columns | None:
    if is_pattern(metric):
        matches = pattern(metric).fullmatch
        places = [place for place, name in enumerate(known.names) if matches(name)]
    else:
        places = known.places.get(metric, [])
    return np.array(places, dtype=np.int64) if places else None
