"""Stale rules: no point for so long while the writer lives.

Rows can only resolve these; they fire at heartbeats, which `pulse` judges. State: the seq of the series' last row, which names the silence after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.kinds.base import Seen
from runstream_rules.regions import EVERYWHERE, NOWHERE, Bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]


class Stale:
    """`window_s` is needed."""

    finite = False
    plain = False

    def bounds(self, rule: Rule) -> Bounds:  # noqa: ARG002  # the protocol's signature
        """Any row resolves."""
        return Bounds(NOWHERE, EVERYWHERE)

    def fresh(self, rule: Rule) -> Doubles:  # noqa: ARG002  # the protocol's signature
        """No row yet."""
        return np.array([-1.0])

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:  # noqa: ARG002  # the protocol's signature
        """Takes note of the last row."""
        state[:, 0] = rows.seqs[-1]
        return Seen(np.zeros_like(rows.values), rows.values)
