"""Chunks of rows for each table, by rows, bytes and age, and the claims that tell which offsets they make safe.

Pure: time is an argument. What rows are is up to the `Rows` a chunk is made with, so that the tests need no Arrow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from runstream_feed.records import Place
from runstream_sinks.ledger import Claim, Ledger, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_schemas.records import Record
    from runstream_sinks.arrow import Table
    from runstream_sinks.tables import Name


class Rows(Protocol):
    """Rows of one chunk of one table."""

    @property
    def rows(self) -> int:
        """Number of rows."""
        ...

    @property
    def nbytes(self) -> int:
        """About the memory they take."""
        ...

    def add(self, record: Record) -> None:
        """Takes a record whole, or nothing of it; raises MalformedRecord."""
        ...

    def table(self) -> Table:
        """The rows as an Arrow table."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """When a chunk is inserted: at so many rows, so many bytes, or when its first record has waited so long."""

    rows: int
    nbytes: int
    age_s: float


@dataclass(eq=False, slots=True)
class Chunk:
    """Rows on their way to one table."""

    name: Name
    rows: Rows
    since: float
    claim: Claim = field(default_factory=Claim)


class Batches:
    """The open chunks of all tables and those in flight. Every chunk taken must come back by `acknowledge`."""

    def __init__(self, limits: Limits, rows_of: Callable[[Name], Rows]) -> None:
        self.ledger = Ledger()
        self._limits = limits
        self._rows_of = rows_of
        self._open: dict[Name, Chunk] = {}
        self._in_flight: set[Chunk] = set()

    def add(self, name: Name, record: Record, position: Position, now: float) -> None:
        """Takes a record for a table; raises MalformedRecord and then has taken nothing, the position neither."""
        chunk = self._chunk(name, now)
        before = chunk.rows.rows
        chunk.rows.add(record)
        if chunk.rows.rows == before:
            self.ledger.read(position)
            return
        self._open[name] = chunk
        self.ledger.read(position, chunk.claim)

    def opened(self, name: Name, now: float) -> Chunk:
        """The open chunk of a table, for who adds rows to it at once and reads their positions into the ledger with its claim. It stays open until `due` is called."""
        chunk = self._open[name] = self._chunk(name, now)
        return chunk

    def _chunk(self, name: Name, now: float) -> Chunk:
        found = self._open.get(name)
        return Chunk(name, self._rows_of(name), now) if found is None else found

    def skip(self, position: Position) -> None:
        """Notes a record that leaves no row."""
        self.ledger.read(position)

    def set_aside(self, position: Position) -> Claim:
        """Notes a record that goes to the dead letters; settle the claim in the ledger once the letter is acknowledged."""
        claim = Claim()
        self.ledger.read(position, claim)
        return claim

    def due(self, now: float, *, everything: bool = False, idle: bool = False) -> Sequence[Chunk]:
        """Takes the chunks that are to be inserted now. A table that has one in flight waits with its next, unless that is full.

        `idle` says that nothing waits to be read: what has a tenth of the rows then goes at half the age, since little more would join it.
        """
        busy = {chunk.name for chunk in self._in_flight}
        taken = [chunk for chunk in self._open.values() if everything or self._full(chunk) or (chunk.name not in busy and self._old(chunk, now, idle=idle))]
        for chunk in taken:
            del self._open[chunk.name]
        self._in_flight.update(taken)
        return taken

    def _old(self, chunk: Chunk, now: float, *, idle: bool) -> bool:
        is_large = 10 * chunk.rows.rows >= self._limits.rows
        return now - chunk.since >= (self._limits.age_s / 2 if idle and is_large else self._limits.age_s)

    def _full(self, chunk: Chunk) -> bool:
        return chunk.rows.rows >= self._limits.rows or chunk.rows.nbytes >= self._limits.nbytes

    def acknowledge(self, chunk: Chunk) -> None:
        """The chunk's rows are held by ClickHouse."""
        self._in_flight.discard(chunk)
        self.ledger.settle(chunk.claim)

    def revoke(self, places: set[Place]) -> None:
        """Partitions are gone: their rows may still be inserted, since repeats collapse, but their offsets are never committed from here."""
        self.ledger.forget(places)

    @property
    def in_flight(self) -> int:
        """Chunks taken and not acknowledged yet."""
        return len(self._in_flight)

    @property
    def rows(self) -> int:
        """Rows of all chunks, open and in flight."""
        return sum(chunk.rows.rows for chunk in self._open.values()) + sum(chunk.rows.rows for chunk in self._in_flight)

    @property
    def nbytes(self) -> int:
        """About the memory of all chunks, open and in flight."""
        return sum(chunk.rows.nbytes for chunk in self._open.values()) + sum(chunk.rows.nbytes for chunk in self._in_flight)
