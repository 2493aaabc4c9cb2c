"""Episodes: a series under a rule fires, and later resolves, once each.

The usual case, in which nothing changes, costs one comparison of the whole matrix. A writer that ends while a rule fires leaves the episode firing: nothing was seen
that resolves it. Episodes of a rule that was changed or withdrawn end without a word; a new version opens its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from runstream_rules.book import Pick
    from runstream_rules.summary import Rows

    Longs = NDArray[np.int64]
    Bools = NDArray[np.bool_]


class Transition(NamedTuple):
    """One opening (`firing`) or closing of an episode: which column, at which row, and the seq that opened it."""

    column: int
    row: int
    opened_seq: int
    firing: bool


def transitions(pick: Pick, rows: Rows, places: Longs, opened: Mapping[int, int]) -> list[Transition]:
    """What changes under a rule over some rows, given the places that fire before them; in no order that matters."""
    values = rows.values if pick.columns is None else rows.values[:, pick.columns]
    opens = pick.kind.opens(pick.rule, values)
    if not opened and not opens.any():
        return []
    chosen = places if pick.columns is None else places[pick.columns]
    firing = np.array([place in opened for place in chosen.tolist()], dtype=np.bool_)
    closes = pick.kind.closes(pick.rule, values)
    changes = np.where(firing, closes.any(axis=0), opens.any(axis=0))
    out: list[Transition] = []
    for at in np.flatnonzero(changes).tolist():
        column = at if pick.columns is None else int(pick.columns[at])
        seq = opened.get(int(chosen[at]))
        for row, opening in _flips(opens[:, at], closes[:, at], firing=bool(firing[at])):
            if opening:
                seq = int(rows.seqs[row])
            assert seq is not None, "an episode that closes was opened"
            out.append(Transition(column, row, seq, opening))
    return out


def _flips(opens: Bools, closes: Bools, *, firing: bool) -> list[tuple[int, bool]]:
    """The rows at which one column changes, and whether it fires from there."""
    rows = np.flatnonzero(opens | closes)
    states = opens[rows]
    before = np.empty_like(states)
    before[0], before[1:] = firing, states[:-1]
    changed = states != before
    return list(zip(rows[changed].tolist(), states[changed].tolist(), strict=True))
