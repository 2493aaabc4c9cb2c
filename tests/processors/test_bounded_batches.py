"""Batches that expand past the bound are passed over, whatever codec they came in, and take no memory; their neighbours are read."""

# pyright: reportMissingTypeStubs=false
# (aiokafka is typed in part.)

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from faust import App

from runstream_feed.batches import BatchRefused
from runstream_feed.connection import connection_of
from runstream_processors import bounded_batches
from runstream_processors.compacted import read_whole
from runstream_processors.errors import NotReady
from runstream_processors.faust_transport import Transport
from runstream_processors.follower import Follower
from runstream_schemas.settings import Settings
from runstream_schemas.topics import BATCH_BYTES_MAX
from tests import bombs
from tests.local.kafka_clients import make_topic

if TYPE_CHECKING:
    from runstream_processors.letters import Followed

each_codec = pytest.mark.parametrize("codec", bombs.COMPRESSED)


def followed(kafka: str, topic: str, last: bytes) -> list[Followed]:
    """What a follower of a topic is given up to a value."""
    found: list[Followed] = []

    async def follow() -> None:
        task = asyncio.ensure_future(Follower(connection_of(Settings(kafka=kafka)), {topic: (1, found.append)}).run())
        deadline = asyncio.get_running_loop().time() + 20
        while not (found and found[-1].value == last) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(follow())
    return found


@pytest.mark.stack
@each_codec
def test_neighbours_of_a_bomb_are_read(kafka: str, codec: bombs.Codec, caplog: pytest.LogCaptureFixture) -> None:
    """A follower hands on what stands before a bomb and behind it, and says where it was."""
    topic = make_topic(kafka, partitions=1)
    bombs.send(kafka, topic, bombs.of(codec, [b"before"]))
    assert bombs.send(kafka, topic, bombs.of(codec, [bytes(BATCH_BYTES_MAX), b"with it"])) == 1
    bombs.send(kafka, topic, bombs.of(codec, [b"behind"]))
    bounded_batches._Complaint.at = 0.0  # It speaks now and then only.
    with caplog.at_level(logging.WARNING):
        found = followed(kafka, topic, b"behind")
    assert [(one.offset, one.value) for one in found] == [(0, b"before"), (3, b"behind")]
    said = next(one for one in caplog.records if "passed over" in one.message)
    assert (said.__dict__["first"], said.__dict__["next"], said.__dict__["topic"]) == (1, 3, topic)


@pytest.mark.stack
@each_codec
def test_commands_read_past_a_bomb(kafka: str, codec: bombs.Codec) -> None:
    """Whoever reads a topic whole, as commands do with rules, silences and alerts, is given what stands before a bomb and behind it."""
    topic = make_topic(kafka, partitions=1)
    for key, values in ((b"a", [b"before"]), (b"x", [bytes(4 * BATCH_BYTES_MAX)]), (b"b", [b"behind"])):
        bombs.send(kafka, topic, bombs.of(codec, values, key))
    found = read_whole(connection_of(Settings(kafka=kafka)), topic, 20.0)
    assert {key: (one.offset, one.value) for key, one in found.items()} == {b"a": (0, b"before"), b"b": (2, b"behind")}


@pytest.mark.stack
def test_commands_hold_no_more_than_such_a_topic_may(kafka: str) -> None:
    """A topic of rules or silences that expands to more than it can honestly hold is told of in a sentence."""
    topic = make_topic(kafka, partitions=1)
    for number in range(10):
        bombs.send(kafka, topic, bombs.of("zstd", [bytes(BATCH_BYTES_MAX - 100)], str(number % 2).encode()))
    assert len(read_whole(connection_of(Settings(kafka=kafka)), topic, 20.0)) == 2
    for number in range(9):
        bombs.send(kafka, topic, bombs.of("zstd", [bytes(BATCH_BYTES_MAX - 100)], str(number).encode()))
    with pytest.raises(NotReady, match="holds more than 128 MiB"):
        read_whole(connection_of(Settings(kafka=kafka)), topic, 20.0)


@pytest.mark.stack
def test_a_record_that_no_parser_takes_holds_nobody_up(kafka: str, caplog: pytest.LogCaptureFixture) -> None:
    """What stands before it in its batch is read, the rest of the batch is passed over, and reading goes on behind it."""
    topic = make_topic(kafka, partitions=1)
    bombs.send(kafka, topic, bombs.mistitled("gzip", [b"before"]))
    bombs.send(kafka, topic, bombs.of("none", [b"behind"]))
    bounded_batches._Complaint.at = 0.0
    with caplog.at_level(logging.WARNING):
        found = followed(kafka, topic, b"behind")
    assert [(one.offset, one.value) for one in found] == [(0, b"before"), (2, b"behind")]
    assert "UnicodeDecodeError" in next(one for one in caplog.records if "passed over" in one.message).__dict__["reason"]


@pytest.mark.stack
def test_what_is_left_of_an_answer_is_fetched_again(kafka: str) -> None:
    """Batches that are below the bound are all read, however many of them one answer holds."""
    topic = make_topic(kafka, partitions=1)
    for _ in range(7):
        bombs.send(kafka, topic, bombs.of("zstd", [bytes(BATCH_BYTES_MAX * 3 // 4)]))
    bombs.send(kafka, topic, bombs.of("zstd", [b"last"]))
    assert [one.offset for one in followed(kafka, topic, b"last")] == list(range(8))


def test_many_batches_below_the_bound_come_in_portions() -> None:
    """Of one answer no more is handed out than the bound and a batch; the position stands behind it, so that the rest is fetched again."""
    bounded_batches.install()
    size = BATCH_BYTES_MAX * 3 // 4
    batches = [bombs.of("zstd", [bytes(size)], first=number) for number in range(5)]
    records: Any = MemoryRecords(b"".join(batches))
    answer: Any = fetcher.PartitionRecords(TopicPartition("topic", 0), records, [], 0, None, None, True, 0)
    assert [len(one.value) for one in answer] == [size] * 3
    assert 2 * size < bounded_batches.ANSWER_BYTES_MAX <= 3 * size
    assert answer.next_fetch_offset == 3


def test_faust_reads_within_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making our transport is what bounds Faust's consumer: it is aiokafka's own classes that are changed."""
    monkeypatch.setattr(fetcher, "PartitionRecords", None)
    app = App("bounds", broker="kafka://127.0.0.1:1", store="memory://", autodiscover=False)
    Transport(app.conf.broker_consumer, app)
    assert fetcher.PartitionRecords.__module__ == bounded_batches.__name__
    with pytest.raises(BatchRefused):
        iter(DefaultRecordBatch(bombs.of("gzip", [bytes(BATCH_BYTES_MAX)])))
