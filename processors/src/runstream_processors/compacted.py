"""Small topics for commands and the notifier: read whole or from near their ends, without a group and within a bound, followed from there on, and written with acknowledgement.

The workers have a follower of their own (`follower`), on their event loop. What records mean is the caller's.
"""

# confluent-kafka's stubs leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from runstream_processors.admin import partition_counts
from runstream_processors.errors import NotReady
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from confluent_kafka import Message

    from runstream_processors.connection import Connection

_TAKE_MAX = 1000
_TAKE_S = 0.1
_PAUSE_S = 0.2


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
        """Asks where the topic ends now.

        Raises:
            NotReady: the topic is not there, or Kafka does not answer within `timeout_s`.
        """
        self._topic = topic
        self._timeout_s = timeout_s
        partitions = partition_counts(connection, [topic], timeout_s)[topic]
        options = {"group.id": "runstream-reads-without-a-group", "enable.auto.commit": False, "log_level": 0, "enable.partition.eof": False}
        self._consumer = Consumer({**connection.for_librdkafka(), **options})
        self._behind: dict[int, int] = {}
        places: list[TopicPartition] = []
        deadline = time.monotonic() + timeout_s
        for number in range(partitions):
            low, high = self._ends(TopicPartition(topic, number), deadline)
            first = low if tail is None else max(low, high - tail)
            places.append(TopicPartition(topic, number, first))
            if first < high:
                self._behind[number] = high
        self._consumer.assign(places)

    def _ends(self, place: TopicPartition, deadline: float) -> tuple[int, int]:
        """First offset and end of a partition; waits for one that has no leader yet, or another one now."""
        while True:
            try:
                return self._consumer.get_watermark_offsets(place, timeout=max(deadline - time.monotonic(), _PAUSE_S))
            except KafkaException as error:
                if time.monotonic() >= deadline:
                    self._consumer.close()
                    raise NotReady(f"{self._topic} cannot be read: {error.args[0].str()}") from error
                time.sleep(_PAUSE_S)  # There is nothing to wait on: brokers learn of leaders one after the other.

    def rest(self) -> list[Found]:
        """All records up to where the topic ended when this reader was made. Of compacted records the newest of a key comes last.

        Raises:
            NotReady: that took longer than `timeout_s`.
        """
        deadline = time.monotonic() + self._timeout_s
        out: list[Found] = []
        while self._behind:
            out += self._taken(_TAKE_S)
            if self._behind and time.monotonic() > deadline:
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
            if message.error() is None:
                out.append(self._found(message))
        # The end may be a record that compaction took away: where the consumer stands says more than what came.
        if self._behind:
            for place in self._consumer.position([TopicPartition(self._topic, number) for number in self._behind]):
                if place.offset >= self._behind[place.partition]:
                    del self._behind[place.partition]
        return out

    def _found(self, message: Message) -> Found:
        partition, offset = message.partition(), message.offset()
        assert partition is not None, "a message without an error has a place"
        assert offset is not None
        return Found(self._topic, partition, offset, message.key() or b"", message.value())


def read_whole(connection: Connection, topic: str, timeout_s: float) -> dict[bytes, Found]:
    """The newest record of each key of a compacted topic, as of now; keys that were taken off are left out. Raises NotReady as `Reader` does."""
    reader = Reader(connection, topic, timeout_s)
    try:
        newest = {one.key: one for one in reader.rest()}
    finally:
        reader.close()
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
