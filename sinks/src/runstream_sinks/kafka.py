"""The clients of a sink worker: the group's consumer, the producer of dead letters, and a reader of the schema topic; and what a record and an error of Kafka come to, for every reader."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from runstream_schemas import catalogue as cat
from runstream_schemas import wire
from runstream_schemas.records import DeadLetter, Schema
from runstream_schemas.settings import SettingsError
from runstream_schemas.topics import TOPICS
from runstream_sinks.errors import KafkaRefused
from runstream_sinks.kafka_config import consumer_config, producer_config, reader_config
from runstream_sinks.kafka_passing import Passed, Passing
from runstream_sinks.ledger import Mark, Place, Position
from runstream_sinks.log import log, logger
from runstream_sinks.pipeline import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message as RawMessage

    from runstream_schemas.settings import Settings

METADATA_TIMEOUT_S = 3.0
# Letters that Kafka has not acknowledged; past it nothing is fetched, so that an outage of Kafka fills no memory.
LETTERS_WAITING_MAX = 1000
SCHEMA_END_TIMEOUT_S = 0.5
COMPLAIN_INTERVAL_S = 5.0

# Errors that say only that the broker is away; librdkafka goes on by itself.
_AWAY = {KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT, KafkaError._RESOLVE, KafkaError._TIMED_OUT}
# Errors that no retry mends, and what to do about them.
_FOR_GOOD = {
    KafkaError._FATAL: "",
    KafkaError.FENCED_INSTANCE_ID: "",
    KafkaError.UNRELEASED_INSTANCE_ID: "",
    KafkaError.GROUP_AUTHORIZATION_FAILED: ": let this user read with the group, or give another in kafka_options",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: ": let this user read the topics, or give another in kafka_options",
}


def _does_not_fit(error: KafkaException) -> SettingsError:
    said = str(error.args[0].str())
    # It repeats a value that it does not take, which may be a secret one.
    reason = "librdkafka does not take the value of " + said.rpartition("property ")[2] if "value" in said else said
    return SettingsError(f"setting 'kafka_options' (RUNSTREAM_KAFKA_OPTIONS) does not fit the group protocol or librdkafka: {reason}")


class _Errors:
    """Says what Kafka's client complains of, each kind now and then."""

    def __init__(self) -> None:
        self._complain_at: dict[int, float] = {}

    def __call__(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now >= self._complain_at.get(error.code(), 0.0):
            self._complain_at[error.code()] = now + COMPLAIN_INTERVAL_S
            log.warning("kafka is away, going on when it is back" if error.code() in _AWAY else "kafka error", code=error.name(), error=error.str())


def refusal(error: KafkaError) -> KafkaRefused | None:
    """What to raise for an error of a consumer that no retry mends, with what to do about it; None for one that passes."""
    if error.fatal() or error.code() in _FOR_GOOD:
        return KafkaRefused(f"{error.name()}: {error.str()}{_FOR_GOOD.get(error.code(), '')}")
    return None


def place_of(raw: RawMessage) -> tuple[Place, int]:
    """The partition and offset of what a consumer gave, a record or a partition's end."""
    topic, partition, offset = raw.topic(), raw.partition(), raw.offset()
    assert topic is not None
    assert partition is not None
    assert offset is not None
    return Place(topic, partition), offset


def time_ms_of(raw: RawMessage) -> int:
    """The record's time in Kafka; 0 where it has none."""
    return max(0, raw.timestamp()[1])


def message_of(raw: RawMessage) -> Message:
    """The record as the pipeline takes it."""
    place, offset = place_of(raw)
    return Message(Position(place, offset, raw.leader_epoch()), time_ms_of(raw), raw.key(), raw.value())


def message_for(passed: Passed) -> Message:
    """What stands in the pipeline for a batch that was passed."""
    return Message(Position(passed.place, passed.end - 1), 0, None, None, passed.reason)


def _partitions(places: Iterable[Place]) -> list[TopicPartition]:
    return [TopicPartition(place.topic, place.partition) for place in places]


def _places(partitions: Iterable[TopicPartition]) -> set[Place]:
    return {Place(one.topic, one.partition) for one in partitions}


def _offset(place: Place, mark: Mark) -> TopicPartition:
    if mark.leader_epoch is None:
        return TopicPartition(place.topic, place.partition, mark.offset)
    # With the epoch, whoever goes on from here notices when the log was cut behind this offset.
    return TopicPartition(place.topic, place.partition, mark.offset, leader_epoch=mark.leader_epoch)


class Source:
    """The group's consumer. All calls come from one thread; the callbacks run inside `poll` and `close`."""

    def __init__(self, settings: Settings, on_not_committed: Callable[[set[Place]], None]) -> None:
        """`on_not_committed` gets the partitions whose offsets the broker refused, inside `poll` and `commit`.

        Raises:
            SettingsError: librdkafka does not take the options.
        """
        self._on_error = _Errors()
        self._on_not_committed = on_not_committed
        self._commit_complain_at = 0.0
        try:
            self._consumer = Consumer({**consumer_config(settings), "error_cb": self._on_error, "on_commit": self._on_commit}, logger=logger)
        except KafkaException as error:
            raise _does_not_fit(error) from None
        self._passing = Passing(settings)
        self._paused: set[Place] = set()
        self._assigned: set[Place] = set()

    def missing(self, topics: Iterable[str]) -> set[str] | None:
        """Which of the topics do not exist yet; None while the brokers cannot be reached."""
        try:
            return set(topics) - set(self._consumer.list_topics(timeout=METADATA_TIMEOUT_S).topics)
        except KafkaException:
            return None

    def subscribe(self, topics: Iterable[str], *, on_assign: Callable[[set[Place]], None], on_revoke: Callable[[set[Place], bool], None]) -> None:
        """Joins the group. `on_revoke` gets whether the partitions are lost already, so that nothing may be committed."""

        def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
            self._assigned |= _places(partitions)
            on_assign(_places(partitions))

        def gone(partitions: list[TopicPartition], *, lost: bool) -> None:
            places = _places(partitions)
            on_revoke(places, lost)
            self._assigned -= places
            self._paused -= places

        self._consumer.subscribe(
            list(topics),
            on_assign=assigned,
            on_revoke=lambda _, partitions: gone(partitions, lost=False),
            on_lost=lambda _, partitions: gone(partitions, lost=True),
        )

    def poll(self, *, records_max: int, timeout_s: float) -> list[Message]:
        """The next records; waits up to `timeout_s` for them."""
        out: list[Message] = []
        for raw in self._consumer.consume(records_max, timeout_s):
            error = raw.error()
            if error is None:
                out.append(message_of(raw))
            elif (refused := refusal(error)) is not None:
                raise refused
            elif (passed := self._passing.look(raw)) is not None:
                if self._passing.go_on(self._consumer, passed):
                    out.append(message_for(passed))
            else:
                self._on_error(error)
        return out

    def only(self, wanted: Callable[[Place], bool]) -> None:
        """Fetches from the assigned partitions that are wanted, and from no other."""
        pause = {place for place in self._assigned if not wanted(place)}
        if pause - self._paused:
            self._consumer.pause(_partitions(pause - self._paused))
        if self._paused - pause:
            self._consumer.resume(_partitions(self._paused - pause))
        self._paused = pause

    def commit(self, marks: dict[Place, Mark], *, wait: bool = False) -> None:
        """Commits offsets; with `wait` the broker has them when this returns, else a refusal is told when it comes. A refusal costs only reading again."""
        offsets = [_offset(place, mark) for place, mark in marks.items()]
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._not_committed(set(marks), error.args[0])

    def close(self) -> None:
        """Leaves the group; partitions are revoked first."""
        self._consumer.close()

    def _on_commit(self, error: KafkaError | None, partitions: list[TopicPartition]) -> None:
        for reason in [error] if error is not None else [one.error for one in partitions if one.error is not None][:1]:
            self._not_committed({Place(one.topic, one.partition) for one in partitions if error is not None or one.error is not None}, reason)

    def _not_committed(self, places: set[Place], error: KafkaError) -> None:
        self._on_not_committed(places)
        if time.monotonic() >= self._commit_complain_at:
            self._commit_complain_at = time.monotonic() + COMPLAIN_INTERVAL_S
            log.warning("offsets were not committed, trying again while the partitions are ours", partitions=len(places), code=error.name(), error=error.str())


class Letters:
    """Produces dead letters."""

    def __init__(self, settings: Settings, alive: Callable[[], None]) -> None:
        """`alive` is called while a call waits."""
        self._alive = alive
        self._waiting = 0
        self._topic = TOPICS["dead-letter"].full_name(settings.topic_prefix)
        self._producer = Producer({**producer_config(settings), "error_cb": _Errors()}, logger=logger)
        self._refused: KafkaError | None = None

    @property
    def full(self) -> bool:
        """Whether so many letters wait for Kafka that no more should be made."""
        return self._waiting >= LETTERS_WAITING_MAX

    def send(self, letter: DeadLetter, on_delivered: Callable[[], None]) -> None:
        """Sends a letter; `on_delivered` runs inside `poll` or `flush` once all replicas have it. Waits while the producer's queue is full."""

        def delivered(error: KafkaError | None, _: RawMessage) -> None:
            self._waiting -= 1
            if error is None:
                on_delivered()
            else:
                self._refused = error

        key = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
        value = wire.encode(letter)
        while True:
            try:
                self._producer.produce(self._topic, value, key, on_delivery=delivered)
            except BufferError:
                self._alive()
                self._producer.poll(0.1)
            else:
                self._waiting += 1
                return

    def poll(self) -> None:
        """Runs the callbacks of letters delivered; raises KafkaRefused when Kafka refused one for good."""
        self._producer.poll(0)
        if self._refused is not None:
            raise KafkaRefused(f"a dead letter was not taken: {self._refused.name()}: {self._refused.str()}")

    def flush(self, timeout_s: float) -> None:
        """Waits for the letters under way."""
        self._producer.flush(timeout_s)


class SchemaReader:
    """Reads the schema topic into a catalogue, apart from the group: every worker reads all of it."""

    def __init__(self, settings: Settings, catalogue: cat.Catalogue) -> None:
        self._catalogue = catalogue
        self._topic = TOPICS["schema"].full_name(settings.topic_prefix)
        self._config = {**reader_config(settings), "group.id": f"{settings.topic_prefix}-sinks-schemas", "enable.partition.eof": True, "error_cb": _Errors()}
        self._passing = Passing(settings)
        self._consumer: Consumer | None = None
        self._next = 0

    def refresh(self, timeout_s: float = 0.2) -> bool:
        """Adds what has come since the last call; whether that was everything that was there when the call began.

        A schema that does not fit the catalogue is logged and left out. Waits no longer than asked, and a moment for the topic's end.
        """
        partition = TopicPartition(self._topic, 0, 0)
        if self._consumer is None:
            self._consumer = Consumer(self._config, logger=logger)
            self._consumer.assign([partition])
        try:
            _, end = self._consumer.get_watermark_offsets(partition, timeout=SCHEMA_END_TIMEOUT_S, cached=False)
        except KafkaException:
            return False
        deadline = time.monotonic() + timeout_s
        while self._next < end and (left := deadline - time.monotonic()) > 0:
            for raw in self._consumer.consume(100, min(left, 0.02)):
                error = raw.error()
                if error is None:
                    self._next = (raw.offset() or 0) + 1
                    self._learn(raw.value())
                elif error.code() == KafkaError._PARTITION_EOF:
                    self._next = raw.offset() or 0
                elif (passed := self._passing.look(raw)) is not None and self._passing.go_on(self._consumer, passed):
                    self._next = passed.end
        return self._next >= end

    def _learn(self, value: bytes | None) -> None:
        if value is None:
            return
        try:
            record = wire.decode(value)
            if isinstance(record, Schema):
                self._catalogue.add(cat.entry(record.name, record.version, record.schema))
        except Exception as error:  # noqa: BLE001 - anybody may write to the topic, and a schema that no parser takes must not stop the sinks
            log.warning("a schema on the schema topic was left out", error=f"{type(error).__name__}: {error}")

    def close(self) -> None:
        """Lets the connection go."""
        if self._consumer is not None:
            self._consumer.close()
