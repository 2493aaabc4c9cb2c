"""Z-score rules: how far a value lies from the mean of the points before it, in their standard deviations."""

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

_WINDOW = 30


class ZScore:
    """By default against the 30 points before, either way."""

    finite = True
    plain = False

    def bounds(self, rule: Rule) -> Bounds:
        """More than the threshold in the direction."""
        assert rule.threshold is not None, "the threshold was checked"
        return beyond(rule.direction, rule.threshold, rule.clear)

    def fresh(self, rule: Rule) -> Doubles:
        """The points of the window."""
        return windows.fresh(rule.window or _WINDOW)

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:
        """The scores at the rows; nothing where the window does not vary."""
        window = rule.window or _WINDOW
        line, first = windows.push(state, rows.values.T)
        past = windows.moments(line[:, :-1], first, window)
        figures = np.where(past.deviations == 0.0, np.nan, (rows.values.T - past.means) / past.deviations)
        return Seen(figures.T, figures.T, past.means.T)
