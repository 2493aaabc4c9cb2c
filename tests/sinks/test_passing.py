"""Batches that expand past the bound, or break off: they are set aside whole, wherever records are read, and nothing else is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from runstream_feed.records import Place
from runstream_producers.topics import ensure_topics
from runstream_schemas import wire
from runstream_schemas.catalogue import Catalogue, bundled
from runstream_schemas.records import Schema
from runstream_schemas.topics import BATCH_BYTES_MAX, TOPICS
from runstream_sinks.archive_kafka import Stream
from runstream_sinks.kafka import SchemaReader
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.spans import Span
from tests import bombs
from tests.sinks import examples
from tests.sinks.test_pipeline import NEXT, NEXT_TEXT
from tests.sinks.test_tables import new_run
from tests.sinks.workers import Pipe, settings_of, wait_for

if TYPE_CHECKING:
    from runstream_sinks.archive_files import Raw

RECORDS = 700


@pytest.mark.stack
def test_batches_that_expand_past_the_bound_are_set_aside_whole(pipe: Pipe) -> None:
    """One of each codec, and one that breaks off, between good records: the sinks set each aside by one letter, commit past it and store its neighbours.

    Replays and the archive pass them, too.
    """
    run_id, kafka, prefix = new_run(), pipe.settings.kafka, pipe.settings.topic_prefix
    events = TOPICS["event"].full_name(prefix)
    bomb = [bytes(2 * BATCH_BYTES_MAX // RECORDS)] * RECORDS
    bombs.send(kafka, events, bombs.of("zstd", [wire.encode(examples.event(run_id))]))
    for number, codec in enumerate(bombs.COMPRESSED):
        assert bombs.send(kafka, events, bombs.of(codec, bomb)) == 1 + number * RECORDS
    broken = bombs.send(kafka, events, bombs.mistitled("lz4", [wire.encode(examples.event(run_id, seq=8))]))
    last = bombs.send(kafka, events, bombs.of("zstd", [wire.encode(examples.event(run_id, seq=9))]))
    worker = pipe.start()
    pipe.wait_for_rows("events", 3)
    pipe.wait_for_rows("dead_letters", 5)
    said = f"a batch of records, offsets 1 to {RECORDS}, was not read: it expands to more than {BATCH_BYTES_MAX} bytes"
    letters = pipe.query("SELECT topic, partition, offset, reason FROM dead_letters ORDER BY offset")
    ends = [(number + 1) * RECORDS for number in range(4)]
    assert letters[0] == (events, 0, RECORDS, said)
    assert [offset for _, _, offset, _ in letters] == [*ends, broken + 1]
    wait_for(lambda: pipe.committed("event", 1) == last + 1, "the offset behind the last record")
    assert pipe.end(worker)[0] == 0

    reader = Reader(pipe.settings, f"{prefix}-looks")
    try:
        read = [(one.position.offset, one.refused is None) for one in reader.read({Place(events, 0): Span(0, last + 1)})]
    finally:
        reader.close()
    assert read == [(0, True), *((end, False) for end in ends), (broken, True), (broken + 1, False), (last, True)]
    assert archived(pipe, events) == [0, broken, last]


@pytest.mark.stack
def test_one_on_the_schema_topic_hides_no_schema_behind_it(kafka: str) -> None:
    """Whoever reads the topic to its end has passed it."""
    settings = settings_of(kafka, "http://127.0.0.1:1", "none")
    ensure_topics(settings)
    topic = TOPICS["schema"].full_name(settings.topic_prefix)
    bombs.send(kafka, topic, bombs.of("zstd", [bytes(2 * BATCH_BYTES_MAX)], b"key"))
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
        while len(found) < 3 and time.monotonic() < deadline:
            found += stream.poll(records_max=500, timeout_s=0.05)
    finally:
        stream.close()
    return [raw.offset for place, raw in found if place.partition == 0]
