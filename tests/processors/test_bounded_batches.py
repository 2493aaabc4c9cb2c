"""Batches that expand past the bound are passed over, whatever codec they came in, and take no memory; their neighbours are read."""

# pyright: reportMissingTypeStubs=false
# (aiokafka is typed in part.)

from __future__ import annotations

import asyncio
import contextlib
import logging
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.memory_records import MemoryRecords
from faust import App

from runstream_processors import bounded_batches
from runstream_processors.bounded_batches import BatchRefused, gzip_decode, lz4_decode, snappy_decode, zstd_decode
from runstream_processors.connection import connection_of
from runstream_processors.faust_transport import Transport
from runstream_processors.follower import Follower
from runstream_schemas.settings import Settings
from runstream_schemas.topics import BATCH_BYTES_MAX, DEAD_LETTER_BYTES_MAX
from tests import bombs
from tests.local.kafka_clients import make_topic

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_processors.letters import Followed

DECODE: dict[bombs.Codec, Callable[[bytes, int], bytes]] = {"gzip": gzip_decode, "snappy": snappy_decode, "lz4": lz4_decode, "zstd": zstd_decode}
each_codec = pytest.mark.parametrize("codec", bombs.COMPRESSED)


def framed(block: bytes) -> bytes:
    """Snappy as Java frames it, in one block."""
    return b"\x82SNAPPY\x00" + (1).to_bytes(4) * 2 + len(block).to_bytes(4) + block


@each_codec
def test_what_fits_the_bound_is_undone_and_what_does_not_is_refused(codec: bombs.Codec) -> None:
    """The bound itself is allowed, a byte more is not, and neither is what is broken or cut off."""
    plain = bytes(range(256)) * 16
    data = bombs.compressed(codec, plain)
    decode = DECODE[codec]
    assert decode(data, len(plain)) == plain
    with pytest.raises(BatchRefused, match="expands to more than 4095 bytes"):
        decode(data, len(plain) - 1)
    for broken in (data[:-20], data[:9] + b"\xff" * 40, b"\xff" * 40):
        with pytest.raises(BatchRefused):
            decode(broken, len(plain))
    if codec == "snappy":
        assert decode(framed(data), len(plain)) == plain
        with pytest.raises(BatchRefused, match="ends early"):
            decode(framed(data)[:-3], len(plain))


@each_codec
def test_a_bomb_takes_no_more_than_the_bound(codec: bombs.Codec) -> None:
    """What is refused never came to be: the peak is the bound and what was sent, not what it would have become."""
    data = bombs.compressed(codec, bytes(4 * BATCH_BYTES_MAX))
    tracemalloc.start()
    try:
        with pytest.raises(BatchRefused):
            DECODE[codec](data, BATCH_BYTES_MAX)
        # The buffer, and what was sent once or twice.
        assert tracemalloc.get_traced_memory()[1] < 2.1 * BATCH_BYTES_MAX + 2 * len(data)
    finally:
        tracemalloc.stop()


def test_producers_of_ours_stay_well_below_the_bound() -> None:
    """The greatest message that any topic takes, uncompressed, with a whole batch before it."""
    assert DEAD_LETTER_BYTES_MAX + (1 << 20) < BATCH_BYTES_MAX


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
