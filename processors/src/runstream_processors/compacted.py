"""Small topics for commands and the notifier: read whole or from near their ends, without a group and within a bound, followed from there on, and written with acknowledgement.

The workers have a follower of their own (`follower`), on their event loop. What records mean is the caller's.
"""

# confluent-kafka's stubs leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition

from runstream_processors.admin import partition_counts
from runstream_processors.errors import NotReady
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from runstream_processors.connection import Connection

_TAKE_MAX = 1000
_TAKE_S = 0.1
_TAIL_BASE = -2000  # librdkafka's way of counting offsets from the end.


class Found(NamedTuple):
    """A record and where it stands; without a value it takes its key off the topic."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None


class Reader:
    """A topic from its beginning, or from the last `tail` records of each partition."""

    def __init__(self, connection: Connection, topic: str, timeout_s: float, *, tail: int | None = None) -> None:
        """Begins to read.

        Raises:
            NotReady: the topic is not there, or Kafka does not answer within `timeout_s`.
        """
        self._topic = topic
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        partitions = partition_counts(connection, [topic], timeout_s)[topic]
        options = {
            "group.id": "runstream-reads-without-a-group",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # A tail that is longer than the partition begins before it.
            "enable.partition.eof": True,
            "log_level": 0,
        }
        self._consumer = Consumer({**connection.for_librdkafka(), **options})
        first = OFFSET_BEGINNING if tail is None else _TAIL_BASE - tail
        self._behind = set(range(partitions))
        self._consumer.assign([TopicPartition(topic, number, first) for number in self._behind])

    def rest(self) -> list[Found]:
        """All records up to where the topic ends. Of compacted records the newest of a key comes last.

        Raises:
            NotReady: that took longer than the reader's time-out.
        """
        out: list[Found] = []
        while self._behind:
            out += self._taken(_TAKE_S)
            if self._behind and time.monotonic() > self._deadline:
                raise NotReady(f"{self._topic} could not be read to its end within {self._timeout_s:g} s")
        return out

    def new(self) -> list[Found]:
        """What has come since; returns at once."""
        return self._taken(0.0)

    def close(self) -> None:
        """Lets go of Kafka."""
        self._consumer.close()

    def _taken(self, wait_s: float) -> list[Found]:
        out: list[Found] = []
        for message in self._consumer.consume(_TAKE_MAX, wait_s):
            error = message.error()
            if error is None:
                out.append(self._found(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                self._behind.discard(message.partition())
        return out

    def _found(self, message: Message) -> Found:
        partition, offset = message.partition(), message.offset()
        assert partition is not None, "a message without an error has a place"
        assert offset is not None
        return Found(self._topic, partition, offset, message.key() or b"", message.value())


def read_whole(connection: Connection, topic: str, timeout_s: float) -> dict[bytes, Found]:
    """The newest record of each key of a compacted topic, as of now; keys that were taken off are left out. Raises NotReady as `Reader` does."""
    with contextlib.closing(Reader(connection, topic, timeout_s)) as reader:
        newest = {one.key: one for one in reader.rest()}
    return {key: one for key, one in newest.items() if one.value is not None}


def write(connection: Connection, topic: str, records: Iterable[tuple[bytes, bytes | None]], timeout_s: float) -> None:
    """Sends records in their order and returns when all replicas have them.

    Raises:
        NotReady: one of them was refused, or was not acknowledged within `timeout_s`; those before it may have been taken.
    """
    failures: list[str] = []

    def answered(error: object, _message: Message) -> None:
        if error is not None:
            failures.append(str(error))

    options = {"acks": "all", "enable.idempotence": True, "message.max.bytes": MESSAGE_BYTES_MAX, "message.timeout.ms": int(timeout_s * 1000), "log_level": 0}
    producer = Producer({**connection.for_librdkafka(), "partitioner": "murmur2_random", **options})
    for key, value in records:
        producer.produce(topic, key=key, value=value, on_delivery=answered)
    left = producer.flush(timeout_s + 1.0)
    if failures or left:
        raise NotReady(f"{topic} did not take the records: {failures[0] if failures else f'no answer within {timeout_s:g} s'}")
