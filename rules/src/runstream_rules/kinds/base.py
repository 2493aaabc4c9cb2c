"""What a kind of rule is: what it makes of rows. Which fields it has, and what fits them, the schemas say (`rule_fields`).

A kind that watches series turns rows into figures, and says within which bounds a figure fires and resolves. Which series it sees, what an episode is and what an alert says
are its neighbours' business, so that a new kind is one small module here and one line in `kinds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runstream_rules.regions import Bounds
    from runstream_rules.summary import Rows
    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]


class Seen(NamedTuple):
    """What a kind made of rows, each [R, C]: figures, the values that alerts show, and what they were compared with. A NaN figure says nothing."""

    figures: Doubles
    values: Doubles
    baselines: Doubles | None = None


class SeriesKind(Protocol):
    """A kind that watches each series by itself.

    `finite` leaves values out that are not finite: their rows say nothing, and state does not see them.
    """

    @property
    def finite(self) -> bool:
        """Whether only finite values are looked at."""
        ...

    @property
    def plain(self) -> bool:
        """Whether figures are the values themselves and no state is kept."""
        ...

    def bounds(self, rule: Rule) -> Bounds:
        """Within which figures the rule fires and resolves."""
        ...

    def fresh(self, rule: Rule) -> Doubles:
        """The state of a series that has seen nothing; empty where none is kept."""
        ...

    def look(self, rule: Rule, state: Doubles, rows: Rows) -> Seen:
        """Takes rows [R, C] into the state [C, W] of their columns, in place."""
        ...


class BlockKind(Protocol):
    """A kind that compares ranks: the first stage makes a figure of each block of steps of a series, the second one judges all ranks' figures of a block."""

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:
        """What the rows of a block come to: the mean of their values, seconds a step, or the time at which the block was over."""
        ...
