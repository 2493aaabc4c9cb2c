"""Batches that librdkafka will not decompress: they are passed whole, wherever records are read, and nothing else is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from runstream_producers.topics import ensure_topics
from runstream_schemas import wire
from runstream_schemas.catalogue import Catalogue, bundled
from runstream_schemas.records import Schema
from runstream_schemas.topics import DEAD_LETTER_BYTES_MAX, TOPICS
from runstream_sinks.archive_kafka import Stream
from runstream_sinks.kafka import SchemaReader
from runstream_sinks.kafka_config import ANSWER_BYTES_MAX
from runstream_sinks.kafka_passing import end_of
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.ledger import Place
from runstream_sinks.spans import Span
from tests import bombs
from tests.sinks import examples
from tests.sinks.test_pipeline import NEXT, NEXT_TEXT
from tests.sinks.test_tables import new_run
from tests.sinks.workers import Pipe, settings_of, wait_for

if TYPE_CHECKING:
    from runstream_sinks.archive_files import Raw

RECORDS = 700


@pytest.mark.parametrize("first", [0, 5, 1 << 40])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9, 1000, 1_000_000])
@pytest.mark.parametrize("more", [0, 1, 1000])
def test_the_end_of_a_batch_is_found_to_the_record(first: int, count: int, more: int) -> None:
    """In a number of looks that grows with the logarithm of its records, none of them behind the end of the partition."""
    looks: list[int] = []

    def is_within(offset: int) -> bool:
        looks.append(offset)
        assert offset < first + count + more
        return offset < first + count

    assert end_of(first, first + count + more, is_within) == first + count
    assert len(looks) <= 2 * count.bit_length() + 1


def test_no_honest_batch_is_refused() -> None:
    """librdkafka triples the room for a batch that does not say what it becomes, and refuses it once that is past the bound; honest ones are a message and a mebibyte at most."""
    assert 3 * (DEAD_LETTER_BYTES_MAX + (1 << 20)) < ANSWER_BYTES_MAX


@pytest.mark.stack
def test_a_batch_that_expands_past_the_bound_is_set_aside_whole(pipe: Pipe) -> None:
    """Two of them, one behind the other, between good records: the sinks set each aside by one letter, commit past it and store its neighbours.

    Replays and the archive pass them, too.
    """
    run_id, kafka, prefix = new_run(), pipe.settings.kafka, pipe.settings.topic_prefix
    events = TOPICS["event"].full_name(prefix)
    bomb = [bytes(2 * ANSWER_BYTES_MAX // RECORDS)] * RECORDS
    bombs.send(kafka, events, bombs.of("zstd", [wire.encode(examples.event(run_id))]))
    assert bombs.send(kafka, events, bombs.of("zstd", bomb)) == 1
    bombs.send(kafka, events, bombs.of("zstd", bomb))
    last = bombs.send(kafka, events, bombs.of("zstd", [wire.encode(examples.event(run_id, seq=9))]))
    assert last == 2 * RECORDS + 1
    worker = pipe.start()
    pipe.wait_for_rows("events", 2)
    pipe.wait_for_rows("dead_letters", 2)
    said = f"a batch of records, offsets 1 to {RECORDS}, was not read: it is broken, or expands past the bound"
    assert pipe.query("SELECT topic, partition, offset, reason FROM dead_letters ORDER BY offset LIMIT 1") == [(events, 0, RECORDS, said)]
    wait_for(lambda: pipe.committed("event", 1) == last + 1, "the offset behind the last record")
    assert pipe.end(worker)[0] == 0

    reader = Reader(pipe.settings, f"{prefix}-looks")
    try:
        read = [(one.position.offset, one.refused is None) for one in reader.read({Place(events, 0): Span(0, last + 1)})]
    finally:
        reader.close()
    assert read == [(0, True), (RECORDS, False), (2 * RECORDS, False), (last, True)]
    assert archived(pipe, events) == [0, last]


@pytest.mark.stack
def test_one_on_the_schema_topic_hides_no_schema_behind_it(kafka: str) -> None:
    """Whoever reads the topic to its end has passed it."""
    settings = settings_of(kafka, "http://127.0.0.1:1", "none")
    ensure_topics(settings)
    topic = TOPICS["schema"].full_name(settings.topic_prefix)
    bombs.send(kafka, topic, bombs.of("zstd", [bytes(2 * ANSWER_BYTES_MAX)], b"key"))
    bombs.send(kafka, topic, bombs.of("none", [wire.encode(Schema(NEXT.schema_id, "Event", 99, NEXT_TEXT))], b"other key"))
    catalogue = Catalogue(bundled().entries())
    reader = SchemaReader(settings, catalogue)
    try:
        wait_for(reader.refresh, "the end of the topic")
    finally:
        reader.close()
    assert catalogue.by_id(NEXT.schema_id) == NEXT


def _gone(places: set[Place], lost: bool) -> None:
    """Partitions that are gone leave nothing behind here."""
    del places, lost


def archived(pipe: Pipe, topic: str) -> list[int]:
    """The offsets of a topic's first partition that the archive's worker would write."""
    stream = Stream(pipe.settings)
    found: list[tuple[Place, Raw]] = []
    try:
        stream.subscribe([topic], on_assign=lambda _: None, on_gone=_gone)
        deadline = time.monotonic() + 20
        while len(found) < 2 and time.monotonic() < deadline:
            found += stream.poll(records_max=500, timeout_s=0.05)
    finally:
        stream.close()
    return [raw.offset for place, raw in found if place.partition == 0]
