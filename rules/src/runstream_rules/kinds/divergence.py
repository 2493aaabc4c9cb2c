"""Divergence rules: so many points in a row, each worse than the one before it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.kinds.base import Seen
from runstream_rules.regions import Bounds, Region

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]

_LAST, _RUN, _BEFORE = range(3)


class Divergence:
    """`window` is needed; rising is worse unless the goal is max. State: the last value, how many points were worse in a row, and the value before the first of these."""

    finite = True
    plain = False

    def bounds(self, rule: Rule) -> Bounds:
        """So many points in a row, and one that is not worse."""
        return Bounds(Region(rule.window, math.inf), Region(0.0, 0.0))

    def fresh(self, rule: Rule) -> Doubles:  # noqa: ARG002  # the protocol's signature
        """No last value: the first point is not worse than it."""
        return np.array([np.nan, 0.0, np.nan])

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:
        """How many points were worse in a row, at each row."""
        values = rows.values
        before = np.concatenate((state[None, :, _LAST], values[:-1]))
        worse = values < before if rule.goal == "max" else values > before
        numbers = np.arange(1.0, len(values) + 1.0)[:, None]
        # The number of the newest row that was not worse; 0 where the run goes on from before.
        ended = np.maximum.accumulate(np.where(worse, 0.0, numbers), axis=0)
        figures = np.where(ended == 0.0, numbers + state[:, _RUN], numbers - ended)
        from_rows = np.take_along_axis(values, np.maximum(ended - 1.0, 0.0).astype(np.int64), axis=0)
        starts = np.where(ended == 0.0, state[:, _BEFORE], from_rows)
        state[:, _LAST], state[:, _RUN], state[:, _BEFORE] = values[-1], figures[-1], starts[-1]
        return Seen(figures, values, starts)
