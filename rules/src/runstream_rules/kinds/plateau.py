"""Plateau rules: no improvement of the goal for so many points.

The best value changes only when it is improved by more than the threshold, so that many small steps count once they come to that together.
"""

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


class Plateau:
    """`goal` and `window` are needed; `threshold` is the least improvement, 0 unless given. State: the best value, and points since."""

    finite = True
    plain = False

    def bounds(self, rule: Rule) -> Bounds:
        """So many points without improvement, and an improvement."""
        return Bounds(Region(rule.window, math.inf), Region(0.0, 0.0))

    def fresh(self, rule: Rule) -> Doubles:
        """Anything is better than nothing."""
        return np.array([math.inf if rule.goal == "min" else -math.inf, 0.0])

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:
        """Points since the last improvement, at each row."""
        sign = 1.0 if rule.goal == "min" else -1.0
        least = rule.threshold or 0.0
        values = rows.values * sign
        figures, bests = np.empty_like(values), np.empty_like(values)
        numbers = np.arange(len(values), dtype=np.float64)
        for column in range(values.shape[1]):
            best, since = float(state[column, 0]) * sign, float(state[column, 1])
            points: list[float] = values[:, column].tolist()
            start = 0
            # Only rows that are better than the best as of now can improve it, and few do.
            for row in np.flatnonzero(values[:, column] < best - least).tolist():
                if points[row] < best - least:
                    figures[start:row, column] = since + 1.0 + numbers[: row - start]
                    bests[start:row, column] = best
                    figures[row, column] = 0.0
                    best, since, start = points[row], 0.0, row + 1
                    bests[row, column] = best
            figures[start:, column] = since + 1.0 + numbers[: len(points) - start]
            bests[start:, column] = best
            state[column] = best * sign, since + float(len(points) - start)
        return Seen(figures, rows.values, bests * sign)
