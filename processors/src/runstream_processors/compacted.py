"""Small topics for commands and the notifier: read whole or from near their ends, without a group and within a bound, followed from there on, and written with acknowledgement.

The workers have a follower of their own (`follower`), on their event loop. What records mean is the caller's.
"""

# confluent-kafka's stubs leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from runstream_feed.feed import Feed
from runstream_feed.options import FeedRefused, options_of
from runstream_feed.records import Place, Start
from runstream_processors.admin import partition_counts
from runstream_processors.errors import NotReady
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from confluent_kafka import Message

    from runstream_feed.connection import Connection
    from runstream_feed.options import Trouble

# Of the records of a whole topic. Thousands of rules and silences are a few mebibytes.
BYTES_MAX = 128 << 20
_TAKE_MAX = 1000
_TAKE_S = 0.1


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
        self._asker = Consumer({**connection.for_librdkafka(), "group.id": "runstream-reads-without-a-group", "log_level": 0})
        self._feed = Feed(connection, options_of(connection.options, "runstream-commands"), _pass_by)
        places = [Place(topic, number) for number in range(partitions)]
        self._ends: dict[Place, int] = {}
        self._nbytes = 0
        starts: dict[Place, Start] = {}
        for place in places:
            first, self._ends[place] = self._limits(place)
            starts[place] = Start(first if tail is None else max(first, self._ends[place] - tail))
        self._feed.add(starts)

    def _limits(self, place: Place) -> tuple[int, int]:
        """A partition's oldest offset, and the one behind its newest."""
        while (left_s := self._deadline - time.monotonic()) > 0:
            with contextlib.suppress(KafkaException):
                return self._asker.get_watermark_offsets(TopicPartition(*place), timeout=left_s, cached=False)
            time.sleep(_TAKE_S)  # The broker refused at once, as one does that has just come up.
        raise NotReady(f"{self._topic} could not be looked at within {self._timeout_s:g} s")

    def rest(self) -> list[Found]:
        """All records up to where the topic ends. Of compacted records the newest of a key comes last.

        Raises:
            NotReady: that took longer than the reader's time-out, or is more than `BYTES_MAX`.
        """
        return [one for taken in self.portions() for one in self._bounded(taken)]

    def portions(self) -> Iterator[list[Found]]:
        """The same in portions as they come."""
        while not all(self._is_read(place) for place in self._ends):
            if time.monotonic() > self._deadline:
                raise NotReady(f"{self._topic} could not be read to its end within {self._timeout_s:g} s")
            yield self._taken(_TAKE_S)

    def _bounded(self, taken: list[Found]) -> list[Found]:
        self._nbytes += sum(len(one.key) + len(one.value or b"") for one in taken)
        if self._nbytes > BYTES_MAX:
            raise too_large(self._topic)
        return taken

    def new(self) -> list[Found]:
        """What has come since; returns at once."""
        return self._taken(0.0)

    def close(self) -> None:
        """Lets go of Kafka."""
        self._feed.close()
        self._asker.close()

    def _is_read(self, place: Place) -> bool:
        position = self._feed.position(place)
        return position is not None and position >= self._ends[place]

    def _taken(self, wait_s: float) -> list[Found]:
        try:
            records = self._feed.poll(records_max=_TAKE_MAX, timeout_s=wait_s)
        except FeedRefused as error:
            raise NotReady(f"{self._topic} may not be read: {error}") from error
        # Of a batch that was not read nothing is known, and what it may have held is not there.
        return [Found(one.place.topic, one.place.partition, one.offset, one.key or b"", one.value) for one in records if one.refused is None]


def too_large(topic: str) -> NotReady:
    """A topic of some thousand small records holds what is none of them."""
    return NotReady(f"{topic} holds more than {BYTES_MAX >> 20} MiB, which is not what it is for: look at who writes to it")


def _pass_by(trouble: Trouble) -> None:
    """What passes by itself; whoever reads says when it took too long."""
    del trouble


def read_whole(connection: Connection, topic: str, timeout_s: float) -> dict[bytes, Found]:
    """The newest record of each key of a compacted topic, as of now; keys that were taken off are left out. Raises NotReady as `Reader` does."""
    newest: dict[bytes, Found] = {}
    nbytes = 0
    with contextlib.closing(Reader(connection, topic, timeout_s)) as reader:
        for one in itertools.chain.from_iterable(reader.portions()):
            before = newest.get(one.key)
            newest[one.key] = one
            nbytes += len(one.key) + len(one.value or b"") - (0 if before is None else len(one.key) + len(before.value or b""))
            if nbytes > BYTES_MAX:
                raise too_large(topic)
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
