"""Which columns of a list of names a metric name with `*` and `?` matches; how it matches is said in the schemas.

Matching a hundred rules with a thousand names takes a while, and is the same for every rank that logs those names: what was found is remembered by the list itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_schemas.patterns import is_pattern, pattern

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Columns = NDArray[np.int64]
    Names = tuple[str, ...]

_LISTS_MAX = 4096


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
