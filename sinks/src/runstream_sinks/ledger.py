"""Which offsets are safe to commit: everything before the first record whose insert (or dead letter) is not acknowledged yet.

A claim stands for one thing that must be acknowledged: a chunk of a table, or one dead letter. Records are read in order within a partition and each is held by
one claim, or by none where it leaves no row. Claims may be settled in any order. Pure: no Kafka, no clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from runstream_feed.records import Place

NOT_COMMITTED = -1


class Position(NamedTuple):
    """Where a record stands, and the epoch of the leader it was read from (None where unknown)."""

    place: Place
    offset: int
    leader_epoch: int | None = None


class Mark(NamedTuple):
    """An offset to commit: the next one to read."""

    offset: int
    leader_epoch: int | None


class Claim:
    """What one acknowledgement will make safe: for each partition the first record it holds."""

    __slots__ = ("first",)

    def __init__(self) -> None:
        self.first: dict[Place, Mark] = {}


class Ledger:
    """Reads, claims and acknowledgements of the partitions that this worker owns."""

    def __init__(self) -> None:
        self._next: dict[Place, Mark] = {}
        self._committed: dict[Place, int] = {}
        self._open: set[Claim] = set()

    @property
    def open_claims(self) -> int:
        """Claims that hold records of partitions still owned."""
        return len(self._open)

    def read(self, position: Position, claim: Claim | None = None) -> None:
        """Notes a record in its turn; `claim` holds it until it is settled."""
        place, offset, leader_epoch = position
        self._committed.setdefault(place, offset)
        self._next[place] = Mark(offset + 1, leader_epoch)
        if claim is not None:
            claim.first.setdefault(place, Mark(offset, leader_epoch))
            self._open.add(claim)

    def settle(self, claim: Claim) -> None:
        """The claim's rows are held by ClickHouse, or its dead letter by Kafka."""
        self._open.discard(claim)

    def safe(self) -> dict[Place, Mark]:
        """For each partition that moved on since `committed`: the offset to commit."""
        marks = dict(self._next)
        for claim in self._open:
            for place, first in claim.first.items():
                if first.offset < marks[place].offset:
                    marks[place] = first
        return {place: mark for place, mark in marks.items() if mark.offset > self._committed[place]}

    def committed(self, marks: dict[Place, Mark]) -> None:
        """Notes that these were handed to Kafka."""
        for place, mark in marks.items():
            if place in self._committed:
                self._committed[place] = mark.offset

    def not_committed(self, places: set[Place]) -> None:
        """Notes that Kafka did not take the last offsets of these: `safe` gives them again."""
        for place in places & self._committed.keys():
            self._committed[place] = NOT_COMMITTED

    def forget(self, places: set[Place]) -> None:
        """Drops all state of partitions that are no longer owned: their claims, when settled, commit nothing."""
        for place in places:
            self._next.pop(place, None)
            self._committed.pop(place, None)
        for claim in list(self._open):
            for place in places:
                claim.first.pop(place, None)
            if not claim.first:
                self._open.discard(claim)
