"""The kinds that compare ranks: straggler, desync and disagreement. What is made of a block of steps is `blocks`' work, and who is judged `fleet`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from runstream_schemas.records import Rule


class Straggler:
    """A rank's step time above so many times the median."""

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:
        """Seconds a step, or the mean of the values."""
        return "mean" if rule.measure == "value" else "interval"


class Desync:
    """The fastest rank so many steps ahead of the slowest."""

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:  # noqa: ARG002  # the protocol's signature
        """When the block was over."""
        return "time"


class Disagreement:
    """Ranks' figures that should agree lie apart."""

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:  # noqa: ARG002  # the protocol's signature
        """The mean of the values."""
        return "mean"
