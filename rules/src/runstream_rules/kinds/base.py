"""What a kind of rule is: a check of its own fields, and which values open and close an episode.

A kind sees values only. Which series it sees, what an episode is and what an alert says are its neighbours' business, so that a new kind is one small module here and
one line in `kinds`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]
    Bools = NDArray[np.bool_]


class Kind(Protocol):
    """One kind of rule. A value may open an episode, close one, or do neither; it never does both."""

    def check(self, rule: Rule) -> None:
        """Raises RuleRefused when a field that only this kind reads does not fit."""
        ...

    def opens(self, rule: Rule, values: Doubles) -> Bools:
        """Which values of [R, C] make the rule fire."""
        ...

    def closes(self, rule: Rule, values: Doubles) -> Bools:
        """Which values of [R, C] make a firing rule resolve; only asked where something fires."""
        ...
