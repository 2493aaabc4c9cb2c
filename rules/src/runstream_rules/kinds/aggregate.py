"""Aggregate rules: min, max, mean, median or last of the last points or seconds, in one of six relations to a number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules import buckets, windows
from runstream_rules.kinds.base import Seen
from runstream_rules.kinds.threshold import relation_bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.regions import Bounds
    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]

_UFUNCS: dict[str, np.ufunc] = {"min": np.minimum, "max": np.maximum, "mean": np.add}


class Aggregate:
    """A window of points or of seconds, never both."""

    finite = True
    plain = False

    def bounds(self, rule: Rule) -> Bounds:
        """By the relation."""
        return relation_bounds(rule)

    def fresh(self, rule: Rule) -> Doubles:
        """Points that are still needed, or thirtieths."""
        return windows.fresh(rule.window - 1) if rule.window else buckets.fresh()

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:
        """The aggregates of the windows that end at the rows."""
        figures = _of_points(rule, state, rows) if rule.window else buckets.take(state, rows.times, rows.values.T, rule.window_s * 1000.0, rule.aggregate)
        return Seen(figures.T, figures.T)


def _of_points(rule: Rule, state: Doubles, rows: Rows) -> Doubles:
    line, first = windows.push(state, rows.values.T)
    if rule.aggregate == "median":
        return windows.medians(line, rule.window)
    if rule.aggregate == "last":
        return np.where(np.isnan(line[:, : line.shape[1] - rule.window + 1]), np.nan, line[:, rule.window - 1 :])
    figures = windows.rolling(line, first, rule.window, _UFUNCS[rule.aggregate])
    return figures / rule.window if rule.aggregate == "mean" else figures
