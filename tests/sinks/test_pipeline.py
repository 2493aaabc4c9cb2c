"""What becomes of messages: rows, letters, or waiting."""

from __future__ import annotations

import pytest

from runstream_schemas import catalogue as cat
from runstream_schemas import wire
from runstream_schemas.records import Event
from runstream_sinks.batching import Batches, Limits
from runstream_sinks.errors import TooManyMalformed
from runstream_sinks.ledger import Mark, Place, Position
from runstream_sinks.malformed import WINDOW_RECORDS_MIN
from runstream_sinks.pipeline import SCHEMA_WAIT_S, Message, Pipeline, SetAside, rows_of
from tests.sinks import examples

EVENTS = Place("t.event", 0)
WRITERS = Place("t.writer", 0)
POISON = b"poison"
# An event of a schema version that is not bundled: a field more than the newest.
NEXT_TEXT = cat.bundled().newest("Event").text.replace('"fields": [', '"fields": [{"name": "extra", "type": "int", "default": 0},')
NEXT = cat.entry("Event", 99, NEXT_TEXT)


def next_event(event: Event) -> bytes:
    """The event as a writer of the next version sends it."""
    body = wire.encode(event)[wire.PREFIX_BYTES :]
    return b"\x00" + NEXT.schema_id.to_bytes(4, "big") + b"\x00" + body


def made() -> tuple[Pipeline, cat.Catalogue]:
    """A pipeline, and the catalogue that it looks into."""
    catalogue = cat.Catalogue(cat.bundled().entries())
    batches = Batches(Limits(rows=10_000, nbytes=1 << 20, age_s=1.0), rows_of)
    return Pipeline(batches, prefix="t", catalogue=catalogue, ratio_max=0.5, worker="w"), catalogue


def take(pipeline: Pipeline, offset: int, value: bytes | None, *, place: Place = EVENTS, now: float = 0.0) -> SetAside | None:
    """Gives it one message."""
    return pipeline.take(Message(Position(place, offset), 1, b"key", value), now, 1000)


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


@pytest.mark.parametrize("value", [POISON, b"", None, wire.encode(examples.event(""))[:-3], wire.encode(examples.rule("r"))])
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
    assert pipeline.unknown == {NEXT.schema_id}
    assert drained(pipeline) == [("writer_states", 1)]
    assert pipeline.retry(1.0, 1000) == []
    assert EVENTS not in pipeline.batches.ledger.safe()
    catalogue.add(NEXT)
    assert pipeline.retry(2.0, 1000) == []
    assert pipeline.held == set()
    assert drained(pipeline) == [("events_log", 2)]
    assert pipeline.batches.ledger.safe()[EVENTS] == Mark(2, None)


def test_the_wait_for_a_schema_has_an_end() -> None:
    """Past the bound the record is set aside, and later ones of the same id do not wait again until it is learned."""
    pipeline, catalogue = made()
    take(pipeline, 0, next_event(examples.event("")))
    take(pipeline, 1, wire.encode(examples.event("")))
    [aside] = pipeline.retry(SCHEMA_WAIT_S, 1000)
    assert aside.letter.schema_id == NEXT.schema_id
    assert str(NEXT.schema_id) in aside.letter.reason
    assert drained(pipeline) == [("events_log", 1)]
    assert take(pipeline, 2, next_event(examples.event(""))) is not None
    catalogue.add(NEXT)
    pipeline.retry(20.0, 1000)
    assert take(pipeline, 3, next_event(examples.event(""))) is None
    assert pipeline.unknown == set()


def test_a_revoked_partition_forgets_what_it_held() -> None:
    """Its next owner reads the messages again."""
    pipeline, _ = made()
    take(pipeline, 0, next_event(examples.event("")))
    pipeline.revoke({EVENTS})
    assert pipeline.held == set()
    assert pipeline.batches.ledger.safe() == {}


def test_a_flood_of_malformed_records_stops_the_worker() -> None:
    """Setting aside a whole outage would hide it; our own letters coming back do not dilute the share."""
    pipeline, _ = made()
    letters = Place("t.dead-letter", 0)
    for offset in range(WINDOW_RECORDS_MIN - 1):
        take(pipeline, offset, POISON)
        take(pipeline, offset, wire.encode(examples.dead_letter()), place=letters)
    with pytest.raises(TooManyMalformed):
        take(pipeline, WINDOW_RECORDS_MIN, POISON)
