"""Throughput rules: steps a second over the last rows against those of the rows before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.kinds.base import Seen
from runstream_rules.regions import Bounds, beyond

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]

_WINDOW, _BASELINE = 20, 200


class Throughput:
    """By default the last 20 rows against the 200 before. State: steps and times of as many rows as both windows span."""

    finite = False
    plain = False

    def bounds(self, rule: Rule) -> Bounds:
        """Less by more than the threshold."""
        assert rule.threshold is not None, "the threshold was checked"
        return beyond("down", rule.threshold, rule.clear)

    def fresh(self, rule: Rule) -> Doubles:
        """Nothing known of the rows before."""
        return np.full(2 * _span(rule), np.nan)

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:
        """Change of the rate at the rows; nothing where time or steps did not grow."""
        window, span = rule.window or _WINDOW, _span(rule)
        steps = np.concatenate((state[:, :span], np.broadcast_to(rows.steps.astype(np.float64), (len(state), len(rows.steps)))), axis=1)
        times = np.concatenate((state[:, span:], np.broadcast_to(rows.times.astype(np.float64), (len(state), len(rows.times)))), axis=1)
        state[:, :span], state[:, span:] = steps[:, -span:], times[:, -span:]
        middle = slice(span - window, -window)
        now = _rate(steps[:, span:] - steps[:, middle], times[:, span:] - times[:, middle])
        count = len(rows.steps)
        past = _rate(steps[:, middle] - steps[:, :count], times[:, middle] - times[:, :count])
        figures = now / past - 1.0
        return Seen(figures.T, now.T, past.T)


def _span(rule: Rule) -> int:
    return (rule.window or _WINDOW) + (rule.baseline or _BASELINE)


def _rate(steps: Doubles, millis: Doubles) -> Doubles:
    return np.where((steps > 0.0) & (millis > 0.0), steps / (millis / 1000.0), np.nan)
