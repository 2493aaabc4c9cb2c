"""What a kind of rule is: a check of its own fields, and what it makes of rows.

A kind that watches series turns rows into figures, and says within which bounds a figure fires and resolves. Which series it sees, what an episode is and what an alert says
are its neighbours' business, so that a new kind is one small module here and one line in `kinds`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from runstream_rules.errors import RuleRefused

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


class Kind(Protocol):
    """Any kind of rule. `fields` are those of a rule, besides what every rule has, that it reads; others must be left out."""

    @property
    def fields(self) -> frozenset[str]:
        """Names of fields."""
        ...

    def check(self, rule: Rule) -> None:
        """Raises RuleRefused when a field that only this kind reads does not fit."""
        ...


class SeriesKind(Kind, Protocol):
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


class BlockKind(Kind, Protocol):
    """A kind that compares ranks: the first stage makes a figure of each block of steps of a series, the second one judges all ranks' figures of a block."""

    def closes_by(self, rule: Rule) -> Literal["mean", "interval", "time"]:
        """What the rows of a block come to: the mean of their values, seconds a step, or the time at which the block was over."""
        ...


def require_threshold(rule: Rule, *, least: float = -math.inf) -> None:
    """Refuses a rule whose threshold is no finite number greater than `least`."""
    if rule.threshold is None or not math.isfinite(rule.threshold) or rule.threshold <= least:
        wanted = "a finite number" if least == -math.inf else f"a finite number above {least:g}"
        raise RuleRefused("threshold", f"{wanted} for {a(rule.kind)} rule", rule.threshold)


def require_clear(rule: Rule) -> None:
    """Refuses a bound of resolving that is not from 0 to the threshold."""
    assert rule.threshold is not None, "the threshold was checked"
    if rule.clear is not None and not 0.0 <= rule.clear <= rule.threshold:
        raise RuleRefused("clear", f"from 0 to the threshold, {rule.threshold:g}", rule.clear)


def require_points(rule: Rule, field: str, default: int, *, least: int = 1, most: int) -> None:
    """Refuses a number of points that is out of range; 0 stands for the default, or is refused where that is 0."""
    points: int = getattr(rule, field)
    if not least <= (points or default) <= most:
        raise RuleRefused(field, f"from {least} to {most} points for {a(rule.kind)} rule", points)


def require_one_of(rule: Rule, field: str, words: tuple[str, ...]) -> None:
    """Refuses a word that is not one of these; the empty word is among them where it may be left out."""
    word = getattr(rule, field)
    if word not in words:
        raise RuleRefused(field, f"one of {', '.join(filter(None, words))} for {a(rule.kind)} rule", word)


def a(word: str) -> str:
    """A word with its article."""
    return f"{'an' if word[:1] in 'aeio' else 'a'} {word}"
