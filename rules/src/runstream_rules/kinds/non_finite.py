"""Non-finite rules: NaN or an infinity fires, the next finite value resolves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.errors import RuleRefused

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]
    Bools = NDArray[np.bool_]


class NonFinite:
    """This kind has no fields of its own; a threshold or operator on it is a mistake that is said."""

    def check(self, rule: Rule) -> None:
        """Raises RuleRefused when a comparison was given too."""
        if rule.operator:
            raise RuleRefused("operator", "empty for a non_finite rule", rule.operator)
        if rule.threshold is not None:
            raise RuleRefused("threshold", "left out of a non_finite rule", rule.threshold)

    def opens(self, rule: Rule, values: Doubles) -> Bools:  # noqa: ARG002  # the protocol's signature
        """NaN and infinities."""
        return ~np.isfinite(values)

    def closes(self, rule: Rule, values: Doubles) -> Bools:  # noqa: ARG002  # the protocol's signature
        """Finite values."""
        return np.isfinite(values)
