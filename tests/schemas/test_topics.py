"""The description of each topic, and the page made from it."""

from __future__ import annotations

import re

import pytest

from runstream_schemas.catalogue import bundled
from runstream_schemas.topics import DEAD_LETTER_BYTES_MAX, FOREVER_MS, MESSAGE_BYTES_MAX, TOPICS, Topic, writer_key
from tests.schemas.records import KINDS
from tools.write_topics_page import PAGE, page

PARTS = {"shipper", "command", "processors", "sinks", "notifier"}
each_topic = pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)


@each_topic
def test_every_topic_is_described(topic: Topic) -> None:
    """Each topic says in full what it is, who writes and reads it, and carries a record type that there is."""
    assert TOPICS[topic.name] is topic
    assert topic.record in KINDS
    assert bundled().newest(topic.record)
    assert len(topic.about) > 10
    assert topic.key
    assert topic.writers
    assert topic.readers
    assert set(topic.writers) | set(topic.readers) <= PARTS
    assert topic.partitions >= 1


@each_topic
def test_kafka_is_told_what_the_description_says(topic: Topic) -> None:
    """The topic's settings in Kafka's words say what is kept, and let the greatest record through."""
    config = topic.config()
    assert config["cleanup.policy"] == ("compact" if topic.compacted else "delete")
    assert config["message.timestamp.type"] == "LogAppendTime"
    assert config.get("retention.ms") == (None if topic.compacted else str(topic.retention_ms))
    assert int(config["max.message.bytes"]) >= MESSAGE_BYTES_MAX
    assert topic.retention_ms == FOREVER_MS or topic.retention_ms > 0
    assert not (topic.compacted and topic.retention_ms != FOREVER_MS)


def test_the_greatest_record_fits_into_a_dead_letter() -> None:
    """A malformed record of the greatest size can be set aside whole."""
    assert int(TOPICS["dead-letter"].config()["max.message.bytes"]) == DEAD_LETTER_BYTES_MAX > MESSAGE_BYTES_MAX


@each_topic
def test_names_are_kafka_names(topic: Topic) -> None:
    """A topic's full name has the prefix and only what Kafka takes."""
    assert re.fullmatch(r"team\.[a-z-]+", topic.full_name("team"))


def test_writer_keys_sort_and_part_writers() -> None:
    """The key of a writer is its 8 bytes, big-endian."""
    assert writer_key(1) == b"\0\0\0\0\0\0\0\1"
    assert writer_key((1 << 63) - 1) == b"\x7f" + b"\xff" * 7


def test_the_page_is_up_to_date() -> None:
    """docs/topics.md is what the script makes of the descriptions: python tools/write_topics_page.py."""
    assert PAGE.read_text(encoding="utf-8") == page()


@each_topic
def test_the_page_has_every_topic_and_field(topic: Topic) -> None:
    """Each topic has its heading on the page."""
    assert f"\n## {topic.full_name('runstream')}\n" in page()
