"""Change rules: the mean of the last points against the mean of those before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules import windows
from runstream_rules.kinds.base import Seen
from runstream_rules.regions import Bounds, beyond

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]

_WINDOW, _BASELINE = 10, 50


class Change:
    """By default the last 10 points against the 50 before, relative to their mean, either way."""

    finite = True
    plain = False

    def bounds(self, rule: Rule) -> Bounds:
        """More than the threshold in the direction."""
        assert rule.threshold is not None, "the threshold was checked"
        return beyond(rule.direction, rule.threshold, rule.clear)

    def fresh(self, rule: Rule) -> Doubles:
        """The points of both windows but one."""
        return windows.fresh((rule.window or _WINDOW) + (rule.baseline or _BASELINE) - 1)

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:
        """The changes at the rows; nothing where they would be relative to 0."""
        window, baseline = rule.window or _WINDOW, rule.baseline or _BASELINE
        line, first = windows.push(state, rows.values.T)
        past = windows.sums(line[:, :-window], first, baseline) / baseline
        figures = windows.sums(line[:, baseline:], first + baseline, window) / window - past
        if rule.measure != "absolute":
            figures = np.where(past == 0.0, np.nan, figures / np.abs(past))
        return Seen(figures.T, figures.T, past.T)
