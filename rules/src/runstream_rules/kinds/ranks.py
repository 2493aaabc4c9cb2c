"""The kinds that compare ranks: straggler, desync and disagreement. Here are their fields; what is made of a block of steps is `blocks`' work, and who is judged `fleet`'s."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from runstream_rules.errors import RuleRefused
from runstream_rules.kinds.base import a, require_one_of, require_points, require_threshold

if TYPE_CHECKING:
    from runstream_schemas.records import Rule

_STEPS_MAX = 1_000_000_000


class _AcrossRanks:
    """What the three have in common: blocks of `window` steps (1 unless set), closed after `window_s` seconds (30) at the latest."""

    least = 0.0

    def check(self, rule: Rule) -> None:
        """Raises RuleRefused for a threshold that is not above the least one, a `clear` above it, and blocks or waits out of range."""
        require_threshold(rule, least=self.least)
        assert rule.threshold is not None, "the threshold was checked"
        if rule.clear is not None and not self.least <= rule.clear <= rule.threshold:
            raise RuleRefused("clear", f"from {self.least:g} to the threshold, {rule.threshold:g}", rule.clear)
        require_points(rule, "window", 1, most=_STEPS_MAX)
        if not 0.0 <= rule.window_s < math.inf:
            raise RuleRefused("window_s", f"a number of seconds for {a(rule.kind)} rule, or left out", rule.window_s)


class Straggler(_AcrossRanks):
    """A rank's step time above so many times the median."""

    fields = frozenset({"threshold", "clear", "window", "window_s", "measure"})
    least = 1.0

    def check(self, rule: Rule) -> None:
        """Refuses a measure that is none too."""
        super().check(rule)
        require_one_of(rule, "measure", ("interval", "value", ""))

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:
        """Seconds a step, or the mean of the values."""
        return "mean" if rule.measure == "value" else "interval"


class Desync(_AcrossRanks):
    """The fastest rank so many steps ahead of the slowest."""

    fields = frozenset({"threshold", "clear", "window", "window_s"})

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:  # noqa: ARG002  # the protocol's signature
        """When the block was over."""
        return "time"


class Disagreement(_AcrossRanks):
    """Ranks' figures that should agree lie apart."""

    fields = frozenset({"threshold", "clear", "window", "window_s", "measure"})

    def check(self, rule: Rule) -> None:
        """Refuses a measure that is none too."""
        super().check(rule)
        require_one_of(rule, "measure", ("relative", "absolute", ""))

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:  # noqa: ARG002  # the protocol's signature
        """The mean of the values."""
        return "mean"
