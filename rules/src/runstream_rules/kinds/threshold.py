"""Threshold rules: a value stands in one of six relations to a number.

NaN stands in none of them, not even `!=`: it neither fires nor resolves, and the episode stays as it was. Infinite values compare like any other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.errors import RuleRefused
from runstream_rules.kinds.base import Seen, require_one_of, require_threshold
from runstream_rules.regions import Bounds, complement, relation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]

OPERATORS = ("<", "<=", ">", ">=", "==", "!=")


def check_relation(rule: Rule) -> None:
    """Raises RuleRefused for an operator that is not one of the six, a threshold that is no finite number, or a `clear` on the wrong side of it."""
    require_one_of(rule, "operator", OPERATORS)
    require_threshold(rule)
    assert rule.threshold is not None, "the threshold was checked"
    if rule.clear is None:
        return
    if rule.operator in ("==", "!="):
        raise RuleRefused("clear", f"left out with the operator {rule.operator}", rule.clear)
    below = rule.operator in (">", ">=")
    if not math.isfinite(rule.clear) or (rule.clear > rule.threshold if below else rule.clear < rule.threshold):
        raise RuleRefused("clear", f"a number not {'above' if below else 'below'} the threshold, {rule.threshold:g}", rule.clear)


def relation_bounds(rule: Rule) -> Bounds:
    """Where `figure operator threshold` holds, and where `figure operator clear` does not."""
    assert rule.threshold is not None, "the threshold was checked"
    return Bounds(relation(rule.operator, rule.threshold), complement(relation(rule.operator, rule.threshold if rule.clear is None else rule.clear)))


class Threshold:
    """`operator`, `threshold` and `clear` are this kind's fields."""

    fields = frozenset({"operator", "threshold", "clear"})
    finite = False
    plain = True

    def check(self, rule: Rule) -> None:
        """Raises RuleRefused when the relation does not fit."""
        check_relation(rule)

    def bounds(self, rule: Rule) -> Bounds:
        """By the relation."""
        return relation_bounds(rule)

    def fresh(self, rule: Rule) -> Doubles:  # noqa: ARG002  # the protocol's signature
        """No state."""
        return np.empty(0)

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:  # noqa: ARG002  # the protocol's signature
        """The values themselves."""
        return Seen(rows.values, rows.values)
