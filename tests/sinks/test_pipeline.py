"""What becomes of messages: rows, letters, or waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runstream_feed.records import Place
from runstream_schemas import catalogue as cat
from runstream_schemas import wire
from runstream_schemas.records import Event
from runstream_sinks.batching import Batches, Limits
from runstream_sinks.errors import TooManyMalformed
from runstream_sinks.ledger import Mark, Position
from runstream_sinks.malformed import AT_ONCE, PER_S, Policy
from runstream_sinks.pipeline import SCHEMA_DUE_S, SCHEMA_READ_S_MAX, SCHEMA_WAIT_PERIOD_S, SCHEMA_WAIT_S, Message, Pipeline, SetAside, rows_of
from tests.sinks import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_schemas.records import Record

EVENTS = Place("t.event", 0)
WRITERS = Place("t.writer", 0)
POISON = b"poison"
USUAL = Policy(ratio_max=0.5, run_max=0)
# An event of a schema version that is not bundled: a field more than the newest.
NEXT_TEXT = cat.bundled().newest("Event").text.replace('"fields": [', '"fields": [{"name": "extra", "type": "int", "default": 0},')
NEXT = cat.entry("Event", 99, NEXT_TEXT)


def next_event(event: Event) -> bytes:
    """The event as a writer of the next version sends it."""
    body = wire.encode(event)[wire.PREFIX_BYTES :]
    return b"\x00" + NEXT.schema_id.to_bytes(4, "big") + b"\x00" + body


def made(policy: Policy = USUAL, wanted: Callable[[Record], bool] | None = None) -> tuple[Pipeline, cat.Catalogue]:
    """A pipeline, and the catalogue that it looks into."""
    catalogue = cat.Catalogue(cat.bundled().entries())
    batches = Batches(Limits(rows=10_000, nbytes=1 << 20, age_s=1.0), rows_of)
    return Pipeline(batches, prefix="t", catalogue=catalogue, policy=policy, worker="w", wanted=wanted), catalogue


def take(pipeline: Pipeline, offset: int, value: bytes | None, *, place: Place = EVENTS, now: float = 0.0, time_ms: int = 1) -> SetAside | None:
    """Gives it one message."""
    return pipeline.take(Message(Position(place, offset), time_ms, b"key", value), now, 1000)


def unknown(number: int) -> bytes:
    """A record of a schema that nobody knows, one of many."""
    return b"\x00" + (0x7F00_0000 + number).to_bytes(4, "big") + b"junk"


def offsets(asides: Sequence[SetAside]) -> list[int]:
    """The offsets of letters."""
    return [one.letter.offset for one in asides]


def drained(pipeline: Pipeline) -> list[tuple[str, int]]:
    """Table and rows of every chunk, acknowledged."""
    chunks = pipeline.batches.due(0.0, everything=True)
    for chunk in chunks:
        pipeline.batches.acknowledge(chunk)
    return [(chunk.name, chunk.rows.rows) for chunk in chunks]


def test_a_good_record_becomes_a_row() -> None:
    """It is safe once its chunk is acknowledged."""
    pipeline, _ = made()
    assert take(pipeline, 0, wire.encode(examples.event(""))) is None
    assert pipeline.batches.ledger.safe() == {}
    assert drained(pipeline) == [("events_log", 1)]
    assert pipeline.batches.ledger.safe() == {EVENTS: Mark(1, None)}


@pytest.mark.parametrize(
    "value",
    [POISON, b"", None, wire.encode(examples.event(""))[:-3], wire.encode(examples.rule("r"))],
    ids=["poison", "empty", "no value", "cut short", "of another topic"],
)
def test_a_malformed_record_becomes_a_letter_and_the_next_goes_on(value: bytes | None) -> None:
    """The letter has the place and the raw bytes; its neighbours are stored."""
    pipeline, _ = made()
    aside = take(pipeline, 0, value)
    assert aside is not None
    assert (aside.letter.topic, aside.letter.offset, aside.letter.value) == ("t.event", 0, value or b"")
    assert take(pipeline, 1, wire.encode(examples.event(""))) is None
    assert drained(pipeline) == [("events_log", 1)]
    assert pipeline.batches.ledger.safe() == {}
    pipeline.batches.ledger.settle(aside.claim)
    assert pipeline.batches.ledger.safe() == {EVENTS: Mark(2, None)}


def test_a_tombstone_of_a_compacted_topic_is_passed_over() -> None:
    """Retired keys leave tombstones, which are no records."""
    pipeline, _ = made()
    assert take(pipeline, 0, None, place=WRITERS) is None
    assert pipeline.batches.ledger.safe() == {WRITERS: Mark(1, None)}


def test_an_unknown_schema_holds_its_partition_until_it_is_known() -> None:
    """Messages wait in order, others go on, and nothing is safe meanwhile; then all are stored."""
    pipeline, catalogue = made()
    take(pipeline, 0, next_event(examples.event("")))
    take(pipeline, 1, wire.encode(examples.event("")))
    take(pipeline, 0, wire.encode(examples.writer("")), place=WRITERS)
    assert pipeline.held == {EVENTS}
    assert pipeline.wants_schemas
    assert drained(pipeline) == [("writer_states", 1)]
    assert pipeline.retry(1.0, 1000) == []
    assert EVENTS not in pipeline.batches.ledger.safe()
    catalogue.add(NEXT)
    assert pipeline.retry(2.0, 1000) == []
    assert pipeline.held == set()
    assert drained(pipeline) == [("events_log", 2)]
    assert pipeline.batches.ledger.safe()[EVENTS] == Mark(2, None)


def test_a_partition_waits_once_for_any_number_of_unknown_schemas() -> None:
    """All that came during the wait is set aside at its end, in order, and later ones after one more reading of the schema topic; a learned schema is stored at once."""
    pipeline, catalogue = made()
    for offset in range(30):
        take(pipeline, offset, unknown(offset))
    take(pipeline, 30, wire.encode(examples.event("")))
    pipeline.schemas_read(SCHEMA_WAIT_S - 1, 0)
    assert pipeline.retry(SCHEMA_WAIT_S - 0.5, 1000) == []
    asides = pipeline.retry(SCHEMA_WAIT_S, 1000)
    assert offsets(asides) == list(range(30))
    assert asides[0].letter.schema_id == 0x7F00_0000
    assert "is not in the catalogue" in asides[0].letter.reason
    assert drained(pipeline) == [("events_log", 1)]
    later = SCHEMA_WAIT_S + 10
    assert take(pipeline, 31, unknown(31), now=later) is None
    assert pipeline.retry(later + 0.1, 1000) == []
    pipeline.schemas_read(later + 0.2, 0)
    assert offsets(pipeline.retry(later + 0.3, 1000)) == [31]
    catalogue.add(NEXT)
    assert take(pipeline, 32, next_event(examples.event("")), now=later + 1) is None
    assert pipeline.held == set()
    # After the period a race of moments is given its time again.
    again = SCHEMA_WAIT_S + SCHEMA_WAIT_PERIOD_S
    assert take(pipeline, 33, unknown(33), now=again) is None
    pipeline.schemas_read(again + 1, 0)
    assert pipeline.retry(again + 1.1, 1000) == []
    assert offsets(pipeline.retry(again + SCHEMA_WAIT_S, 1000)) == [33]


def test_an_old_record_of_an_unknown_schema_does_not_wait() -> None:
    """Its schema was due long before the end that the schema topic was read to."""
    pipeline, _ = made()
    pipeline.schemas_read(0.0, 1_000_000)
    assert take(pipeline, 0, unknown(0), time_ms=1_000_000 - int(1000 * SCHEMA_DUE_S), now=1.0) is not None
    assert take(pipeline, 1, unknown(1), time_ms=1_000_000, now=1.0) is None
    assert pipeline.held == {EVENTS}


def test_a_schema_topic_that_cannot_be_read_holds_nothing_for_long() -> None:
    """The waits end all the same."""
    pipeline, _ = made()
    take(pipeline, 0, unknown(0))
    assert offsets(pipeline.retry(SCHEMA_WAIT_S, 1000)) == [0]
    assert take(pipeline, 1, unknown(1), now=20.0) is None
    assert pipeline.retry(20.1, 1000) == []
    assert offsets(pipeline.retry(20.0 + SCHEMA_READ_S_MAX, 1000)) == [1]


def test_a_revoked_partition_forgets_what_it_held() -> None:
    """Its next owner reads the messages again."""
    pipeline, _ = made()
    take(pipeline, 0, next_event(examples.event("")))
    pipeline.revoke({EVENTS})
    assert pipeline.held == set()
    assert pipeline.batches.ledger.safe() == {}


def test_a_flood_is_set_aside_slowly_past_the_allowance() -> None:
    """Only partitions of that topic whose next record is malformed wait, in order; what is set aside is safe to commit, and nothing comes twice."""
    pipeline, _ = made()
    other = Place("t.event", 1)
    asides = [take(pipeline, offset, POISON) for offset in range(AT_ONCE + 100)]
    assert [one is None for one in asides].index(True) == AT_ONCE
    assert take(pipeline, AT_ONCE + 100, wire.encode(examples.event(""))) is None
    assert pipeline.slowed == {"t.event": 1}
    assert not pipeline.wants_schemas
    assert take(pipeline, 0, wire.encode(examples.writer("")), place=WRITERS) is None
    assert take(pipeline, 1, POISON, place=WRITERS) is not None
    assert pipeline.held == {EVENTS}
    for one in asides:
        if one is not None:
            pipeline.batches.ledger.settle(one.claim)
    assert pipeline.batches.ledger.safe()[EVENTS] == Mark(AT_ONCE, None)
    assert offsets(pipeline.retry(1.0, 1000)) == list(range(AT_ONCE, AT_ONCE + int(PER_S)))
    assert take(pipeline, 0, wire.encode(examples.event("")), place=other, now=1.0) is None  # It brings one more.
    assert offsets(pipeline.retry(1.0, 1000)) == [AT_ONCE + int(PER_S)]
    assert offsets(pipeline.retry(1000.0, 1000)) == list(range(AT_ONCE + int(PER_S) + 1, AT_ONCE + 100))
    assert pipeline.held == set()
    assert pipeline.slowed == {}
    assert pipeline.malformed["t.event"] == AT_ONCE + 100
    assert dict(drained(pipeline)) == {"events_log": 2, "writer_states": 1}


def test_a_run_of_malformed_records_in_one_partition_is_slowed_however_good_the_others_are() -> None:
    """A good record ends the run."""
    pipeline, _ = made(Policy(ratio_max=1.0, run_max=3))
    other = Place("t.event", 1)
    for offset in range(10):
        assert take(pipeline, offset, wire.encode(examples.event("")), place=other) is None
    assert [take(pipeline, offset, POISON) is None for offset in range(4)] == [False, False, False, True]
    assert pipeline.slowed == {"t.event": 1}
    assert offsets(pipeline.retry(0.1, 1000)) == [3]
    assert take(pipeline, 4, wire.encode(examples.event("")), now=0.1) is None
    assert [take(pipeline, offset, POISON, now=0.1) is None for offset in range(5, 9)] == [False, False, False, True]


@pytest.mark.parametrize("policy", [Policy(ratio_max=1.0, run_max=3, stops=True), Policy(ratio_max=0.5, run_max=0, stops=True)])
def test_where_the_policy_says_so_a_bound_stops_the_worker(policy: Policy) -> None:
    """The record at which it stops was not set aside, so it is the first that comes again."""
    pipeline, _ = made(policy)
    bound = policy.run_max or AT_ONCE
    for offset in range(bound):
        assert take(pipeline, offset, POISON) is not None
    with pytest.raises(TooManyMalformed, match=r"t\.event: .*runstream dlq ls") as caught:
        take(pipeline, bound, POISON)
    assert (caught.value.topic, caught.value.partition) == ("t.event", 0)
    assert pipeline.malformed["t.event"] == bound


def test_records_that_are_not_wanted_are_passed_over() -> None:
    """They leave no row, and their offsets are safe."""
    pipeline, _ = made(wanted=lambda record: isinstance(record, Event) and record.seq == 3)
    take(pipeline, 0, wire.encode(examples.event("", seq=9)))
    take(pipeline, 1, wire.encode(examples.event("", seq=3)))
    take(pipeline, 2, wire.encode(examples.event("", seq=9)))
    assert drained(pipeline) == [("events_log", 1)]
    assert pipeline.batches.ledger.safe() == {EVENTS: Mark(3, None)}
