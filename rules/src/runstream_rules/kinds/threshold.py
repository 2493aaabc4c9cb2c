"""Threshold rules: a value stands in one of six relations to a number.

NaN stands in none of them, not even `!=`: it neither fires nor resolves, and the episode stays as it was. Infinite values compare like any other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from runstream_rules.errors import RuleRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Compare = Callable[[Doubles, float], Bools]


# Written with < and > alone where != would be, since NaN != x holds in IEEE arithmetic.
_OPENS: dict[str, Compare] = {
    "<": lambda values, bound: values < bound,
    "<=": lambda values, bound: values <= bound,
    ">": lambda values, bound: values > bound,
    ">=": lambda values, bound: values >= bound,
    "==": lambda values, bound: values == bound,
    "!=": lambda values, bound: (values < bound) | (values > bound),
}
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


def _bound(rule: Rule) -> float:
    assert rule.threshold is not None, "a threshold rule was checked when it was learned"
    return rule.threshold


class Threshold:
    """`operator` and `threshold` are this kind's fields."""

    def check(self, rule: Rule) -> None:
        """Raises RuleRefused for an operator that is not one of the six, or a threshold that is missing or NaN."""
        if rule.operator not in _OPENS:
            raise RuleRefused("operator", f"one of {' '.join(_OPENS)} for a threshold rule", rule.operator)
        if rule.threshold is None or math.isnan(rule.threshold):
            raise RuleRefused("threshold", "a number for a threshold rule", rule.threshold)

    def opens(self, rule: Rule, values: Doubles) -> Bools:
        """Values for which `value operator threshold` holds."""
        return _OPENS[rule.operator](values, _bound(rule))

    def closes(self, rule: Rule, values: Doubles) -> Bools:
        """Values for which it does not hold, NaN left out."""
        return _OPENS[_OPPOSITE[rule.operator]](values, _bound(rule))
