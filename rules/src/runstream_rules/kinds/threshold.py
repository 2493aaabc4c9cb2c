"""Threshold rules: a value stands in one of six relations to a number.

NaN stands in none of them, not even `!=`: it neither fires nor resolves, and the episode stays as it was. Infinite values compare like any other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.kinds.base import Seen
from runstream_rules.regions import Bounds, complement, relation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]


def relation_bounds(rule: Rule) -> Bounds:
    """Where `figure operator threshold` holds, and where `figure operator clear` does not."""
    assert rule.threshold is not None, "the threshold was checked"
    return Bounds(relation(rule.operator, rule.threshold), complement(relation(rule.operator, rule.threshold if rule.clear is None else rule.clear)))


class Threshold:
    """`operator`, `threshold` and `clear` are this kind's fields."""

    finite = False
    plain = True

    def bounds(self, rule: Rule) -> Bounds:
        """By the relation."""
        return relation_bounds(rule)

    def fresh(self, rule: Rule) -> Doubles:  # noqa: ARG002  # the protocol's signature
        """No state."""
        return np.empty(0)

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:  # noqa: ARG002  # the protocol's signature
        """The values themselves."""
        return Seen(rows.values, rows.values)
