"""Which records are meant: bounds as people write them, and the span of offsets that they come to in each partition. Pure: `now` is an argument."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError
from runstream_schemas.topics import TOPICS
from runstream_sinks.tables import TABLE_OF

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_schemas import topics

_AGO_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_EPOCH = re.compile(r"@(\d+(?:\.\d+)?)")
FORMS = "a time such as 2026-11-05, 2026-11-05T14:30 (UTC unless it says), @1762351800, 2h (ago) or now, an offset such as 120000, or beginning, end"


@dataclass(frozen=True, slots=True)
class At:
    """A time: the first record at or after it. Epoch milliseconds."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class Offset:
    """The same offset in every partition."""

    offset: int


@dataclass(frozen=True, slots=True)
class Edge:
    """The oldest record that is there, or behind the newest one that was there when the work began."""

    at_end: bool


Bound = At | Offset | Edge
BEGINNING = Edge(at_end=False)
END = Edge(at_end=True)


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets of one partition from `first` up to, not including, `end`; an `end` of None is open."""

    first: int
    end: int | None

    @property
    def records(self) -> int:
        """How many offsets it has; 0 for one that is open."""
        return 0 if self.end is None else max(0, self.end - self.first)


def parse_bound(option: str, text: str, now: float) -> Bound:
    """The bound that a person wrote for an option; `now` in epoch seconds. Raises SettingsError."""
    word = text.strip().lower()
    if word == "beginning":
        return BEGINNING
    if word == "end":
        return END
    if word == "now":
        return At(int(1000 * now))
    if word.isascii() and word.isdigit():
        return Offset(int(word))
    if ago := _AGO.fullmatch(word):
        return At(int(1000 * (now - float(ago[1]) * _AGO_S[ago[2]])))
    if epoch := _EPOCH.fullmatch(word):
        return At(int(1000 * float(epoch[1])))
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise SettingsError(f"{option} must be {FORMS}, got {text!r}") from None
    return At(int(1000 * (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()))


def parse_topics(option: str, texts: Iterable[str], prefix: str) -> tuple[topics.Name, ...]:
    """The topics that a person named, with or without the prefix; all that have a table where none is named. Raises SettingsError."""
    found: dict[topics.Name, None] = {}
    for text in texts:
        name = _topic(text, prefix)
        if name is None:
            raise SettingsError(f"{option} must be one of {', '.join(TABLE_OF)}, got {text!r}")
        found[name] = None
    return tuple(found) or tuple(TABLE_OF)


def _topic(text: str, prefix: str) -> topics.Name | None:
    for one in TABLE_OF:
        if text == one or text == TOPICS[one].full_name(prefix):
            return one
    return None


def resolve(since: Bound, until: Bound, *, low: int, high: int, at_since: int | None, at_until: int | None) -> Span:
    """The span of a partition that holds offsets `low` up to, not including, `high`.

    `at_since` and `at_until` are the offsets that the partition has for bounds that are times; None where all its records are older.
    """
    first = min(max(_offset(since, low, high, at_since), low), high)
    return Span(first, max(first, min(_offset(until, low, high, at_until), high)))


def _offset(bound: Bound, low: int, high: int, at: int | None) -> int:
    match bound:
        case At():
            return high if at is None else at
        case Offset(offset):
            return offset
        case Edge(at_end):
            return high if at_end else low
