"""When chunks are taken, and that no record is lost or made safe too early on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_feed.records import Place
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import Event
from runstream_sinks.batching import Batches, Chunk, Limits
from runstream_sinks.ledger import Mark, Position
from tests.sinks import examples

if TYPE_CHECKING:
    from runstream_schemas.records import Record
    from runstream_sinks.arrow import Table
    from runstream_sinks.tables import Name

PLACE = Place("t.event", 0)
OTHER = Place("t.param", 2)
LIMITS = Limits(rows=10, nbytes=1000, age_s=1.0)


class ListRows:
    """Rows as a list: an event leaves as many rows as its seq says, and a negative one is malformed."""

    def __init__(self, _: Name) -> None:
        self.events: list[int] = []
        self.rows = 0

    @property
    def nbytes(self) -> int:
        return 30 * self.rows

    def add(self, record: Record) -> None:
        assert isinstance(record, Event)
        number = record.seq
        if number < 0:
            raise MalformedRecord("negative")
        self.events.append(number)
        self.rows += number

    def table(self) -> Table:
        raise NotImplementedError


def add(batches: Batches, offset: int, *, rows: int = 1, place: Place = PLACE, name: Name = "events_log", now: float = 0.0) -> None:
    """Adds a record that leaves so many rows."""
    batches.add(name, examples.event("", seq=rows), Position(place, offset), now)


def test_a_chunk_waits_for_its_age() -> None:
    """Few rows wait for more, but not longer than the age, counted from the first."""
    batches = Batches(LIMITS, ListRows)
    add(batches, 0, now=100.0)
    add(batches, 1, now=100.9)
    assert batches.due(100.99) == []
    assert [chunk.rows.rows for chunk in batches.due(101.0)] == [2]
    assert batches.due(200.0) == []


def test_a_full_chunk_does_not_wait() -> None:
    """Rows reach the bound: the chunk is due at once."""
    batches = Batches(LIMITS, ListRows)
    add(batches, 0, rows=10, now=5.0)
    assert len(batches.due(5.0)) == 1


def test_bytes_bound_a_chunk_too() -> None:
    """Few rows of great size are inserted as early as many small ones."""
    batches = Batches(Limits(rows=1000, nbytes=100, age_s=1.0), ListRows)
    add(batches, 0, rows=4)
    assert len(batches.due(0.0)) == 1


def test_a_large_chunk_goes_earlier_while_nothing_waits_to_be_read() -> None:
    """A tenth of the rows at half the age; fewer rows wait for the whole of it, and so do all while there is more to read or one is in flight."""
    batches = Batches(Limits(rows=100, nbytes=1 << 20, age_s=1.0), ListRows)
    add(batches, 0, rows=10)
    add(batches, 0, rows=9, place=OTHER, name="params_log")
    assert batches.due(0.6) == []
    assert batches.due(0.4, idle=True) == []
    [first] = batches.due(0.5, idle=True)
    assert first.name == "events_log"
    add(batches, 1, rows=50, now=0.5)
    assert [chunk.name for chunk in batches.due(1.2, idle=True)] == ["params_log"]
    batches.acknowledge(first)
    assert [chunk.name for chunk in batches.due(1.2, idle=True)] == ["events_log"]


def test_a_table_has_one_aged_chunk_in_flight() -> None:
    """While an insert is slow the next chunk grows instead of many small ones queueing up; a full one goes all the same."""
    batches = Batches(LIMITS, ListRows)
    add(batches, 0, now=0.0)
    [first] = batches.due(1.0)
    add(batches, 1, now=1.0)
    assert batches.due(10.0) == []
    add(batches, 2, rows=9, now=10.0)
    assert len(batches.due(10.0)) == 1
    batches.acknowledge(first)
    assert batches.in_flight == 1


def test_everything_is_taken_at_the_end() -> None:
    """A drain takes young chunks too."""
    batches = Batches(LIMITS, ListRows)
    add(batches, 0)
    add(batches, 0, place=OTHER, name="params_log")
    assert len(batches.due(0.0, everything=True)) == 2


def test_a_record_without_rows_is_safe_by_itself() -> None:
    """A frame that only accounts for others does not wait for an insert."""
    batches = Batches(LIMITS, ListRows)
    add(batches, 4, rows=0)
    assert batches.ledger.safe() == {PLACE: Mark(5, None)}
    assert batches.due(100.0) == []


def test_a_malformed_record_is_not_taken() -> None:
    """The chunk and the offsets are as if it had not come; setting it aside holds the offset until the letter is acknowledged."""
    batches = Batches(LIMITS, ListRows)
    with pytest.raises(MalformedRecord):
        add(batches, 7, rows=-1)
    assert batches.ledger.safe() == {}
    claim = batches.set_aside(Position(PLACE, 7))
    assert batches.ledger.safe() == {}
    batches.ledger.settle(claim)
    assert batches.ledger.safe() == {PLACE: Mark(8, None)}


def test_a_revoked_partition_commits_nothing_but_the_others_do() -> None:
    """A chunk that comes back after its partition went away makes only the offsets of the others safe."""
    batches = Batches(LIMITS, ListRows)
    add(batches, 3)
    add(batches, 9, place=OTHER)
    [chunk] = batches.due(5.0)
    batches.revoke({PLACE})
    batches.acknowledge(chunk)
    assert batches.ledger.safe() == {OTHER: Mark(10, None)}


Step = tuple[str, int, int]
steps = st.lists(st.tuples(st.sampled_from(["add", "add", "add", "due", "ack", "revoke"]), st.integers(0, 1), st.integers(0, 12)), max_size=60)


@given(steps)
def test_no_record_is_lost_or_doubled_or_safe_too_early(history: list[Step]) -> None:
    """Whatever happens in whatever order: a record is safe only when its chunk was acknowledged, and each is in exactly one chunk."""
    batches = Batches(LIMITS, ListRows)
    places, tables = [PLACE, OTHER], ["events_log", "params_log"]
    offsets = [0, 0]
    in_flight: list[Chunk] = []
    stored: list[int] = []
    added = 0
    pending: list[dict[int, int]] = [{}, {}]  # offset to rows, of those not acknowledged
    now = 0.0

    def acknowledge(chunk: Chunk) -> None:
        batches.acknowledge(chunk)
        assert isinstance(chunk.rows, ListRows)
        stored.extend(chunk.rows.events)
        which = tables.index(chunk.name)
        for offset in list(pending[which])[: len(chunk.rows.events)]:
            if pending[which][offset] >= 0:
                del pending[which][offset]

    for what, which, number in history:
        now += 0.3
        if what == "add":
            add(batches, offsets[which], rows=number + 1, place=places[which], name=tables[which], now=now)  # pyright: ignore[reportArgumentType]  # a table
            pending[which][offsets[which]] = number
            offsets[which] += 1
            added += 1
        elif what == "due":
            in_flight += batches.due(now)
        elif what == "ack" and in_flight:
            # Oldest first for the same table, so that the model above stays simple; other orders are the ledger's tests.
            acknowledge(in_flight.pop(0))
        elif what == "revoke":
            in_flight += batches.due(now, everything=True)
            while in_flight:
                acknowledge(in_flight.pop(0))
            batches.revoke({places[which]})
        for place, mark in batches.ledger.safe().items():
            side = places.index(place)
            assert mark.offset <= min(pending[side], default=offsets[side])
    in_flight += batches.due(now, everything=True)
    while in_flight:
        acknowledge(in_flight.pop(0))
    assert len(stored) == added
    assert batches.in_flight == 0
    assert batches.nbytes == 0
