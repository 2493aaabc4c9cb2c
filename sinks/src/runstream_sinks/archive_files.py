"""Which records make a file of the archive, what it is called, and which files hold what is asked for. Pure: no storage, no Kafka, no clock.

A file holds the records of one partition from a first to a last offset; both stand in its name, under a folder for the topic and one for the day (UTC) of its first record. Records that were
produced late stay where their offset belongs, so that a file never has a hole.
"""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from runstream_feed.records import Place

if TYPE_CHECKING:
    from collections.abc import Iterable

DAY_MS = 86_400_000
_NAME = re.compile(r"(?P<topic>[^/]+)/day=(?P<day>-?\d{4,}-\d\d-\d\d)/(?P<partition>\d{5,})-(?P<first>\d{20})-(?P<last>\d{20})\.parquet")
# Days that have a name; a time beyond them lies in the folder of the bound.
_DAYS_MAX = (dt.date(9999, 12, 31) - dt.date(1970, 1, 1)).days
_OVERHEAD_BYTES = 100


class Raw(NamedTuple):
    """A record as Kafka gave it."""

    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()

    @property
    def nbytes(self) -> int:
        """About the memory that it takes."""
        return _OVERHEAD_BYTES + len(self.key or b"") + len(self.value or b"") + sum(len(name) + len(value or b"") for name, value in self.headers)

    @property
    def day(self) -> int:
        """Days since 1970 of its time."""
        return min(max(0, self.time_ms // DAY_MS), _DAYS_MAX)


@dataclass(frozen=True, slots=True)
class Name:
    """What a file is called, which says what it holds."""

    place: Place
    day: int
    first: int
    last: int

    @property
    def path(self) -> str:
        """Its path below the archive's folder."""
        date = dt.date(1970, 1, 1) + dt.timedelta(days=self.day)
        return f"{self.place.topic}/day={date.isoformat()}/{self.place.partition:05d}-{self.first:020d}-{self.last:020d}.parquet"


def parse_name(path: str) -> Name | None:
    """The name in a path below the archive's folder; None for any other file."""
    found = _NAME.fullmatch(path)
    if found is None:
        return None
    try:
        day = (dt.date.fromisoformat(found["day"]) - dt.date(1970, 1, 1)).days
    except ValueError:
        return None
    return Name(Place(found["topic"], int(found["partition"])), day, int(found["first"]), int(found["last"]))


@dataclass(eq=False, slots=True)
class File:
    """Records that go into one file."""

    name: Name
    records: list[Raw]
    nbytes: int


@dataclass(slots=True)
class _Open:
    since: float
    day: int
    records: list[Raw] = field(default_factory=list[Raw])
    nbytes: int = 0


class Cutter:
    """The open files of the partitions that a worker owns. What it cuts must be written in the order in which it comes."""

    def __init__(self, *, bytes_max: int, age_s: float) -> None:
        self._bytes_max = bytes_max
        self._age_s = age_s
        self._next: dict[Place, int] = {}
        self._intents: dict[Place, Name] = {}
        self._open: dict[Place, _Open] = {}

    @property
    def nbytes(self) -> int:
        """About the memory of all that is open."""
        return sum(one.nbytes for one in self._open.values())

    def begin(self, place: Place, next_offset: int, intent: Name | None) -> None:
        """A partition has come: records before `next_offset` are archived; if a file was about to be written when its last owner went, the first one is cut like it."""
        self.drop({place})
        self._next[place] = next_offset
        if intent is not None:
            self._intents[place] = intent

    def drop(self, places: Iterable[Place]) -> None:
        """Partitions are gone: their next owner reads again what is not written."""
        for place in places:
            self._next.pop(place, None)
            self._intents.pop(place, None)
            self._open.pop(place, None)

    def take(self, place: Place, record: Raw, now: float) -> list[File]:
        """Takes a record of a partition that has come; files that are complete with it come back."""
        if record.offset < self._next[place]:
            return []
        intent = self._intents.get(place)
        if intent is not None and place not in self._open and record.offset > intent.last:
            del self._intents[place]  # All its records have been compacted away.
        out: list[File] = []
        found = self._open.get(place)
        if found is not None and self._ends_before(place, found, record):
            out.append(self._cut(place))
            found = None
        if found is None:
            found = self._open[place] = _Open(now, record.day)
        found.records.append(record)
        found.nbytes += record.nbytes
        if self._ends_with(place, found, record):
            out.append(self._cut(place))
        return out

    def _ends_before(self, place: Place, found: _Open, record: Raw) -> bool:
        intent = self._intents.get(place)
        # The last record of a file that was begun may have been compacted away since.
        return record.day > found.day if intent is None else record.offset > intent.last

    def _ends_with(self, place: Place, found: _Open, record: Raw) -> bool:
        intent = self._intents.get(place)
        return found.nbytes >= self._bytes_max if intent is None else record.offset >= intent.last

    def due(self, now: float, *, everything: bool = False) -> list[File]:
        """Cuts the files that are old enough. What is to become a file that was begun before waits for all its records."""
        return [self._cut(place) for place, one in list(self._open.items()) if place not in self._intents and (everything or now - one.since >= self._age_s)]

    def _cut(self, place: Place) -> File:
        one = self._open.pop(place)
        intent = self._intents.pop(place, None)
        name = intent or Name(place, one.day, one.records[0].offset, one.records[-1].offset)
        self._next[place] = one.records[-1].offset + 1
        return File(name, one.records, one.nbytes)


def in_order(names: Iterable[Name]) -> dict[Place, list[Name]]:
    """For each partition the files to read one after the other, each from behind the last offset of the one before. Files whose records all stand in others are left out."""
    by_place: dict[Place, list[Name]] = {}
    for name in sorted(names, key=lambda one: (one.place, one.first, -one.last)):
        some = by_place.setdefault(name.place, [])
        if not some or name.last > some[-1].last:
            some.append(name)
    return by_place


def holes(names: Iterable[Name]) -> list[tuple[int, int]]:
    """First and last offsets between files of one partition that no file holds. Kafka's own gaps (compaction, transactions) look the same."""
    found: list[tuple[int, int]] = []
    reached: int | None = None
    for name in sorted(names, key=lambda one: one.first):
        if reached is not None and name.first > reached + 1:
            found.append((reached + 1, name.first - 1))
        reached = name.last if reached is None else max(reached, name.last)
    return found
