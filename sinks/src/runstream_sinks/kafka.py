"""The clients of a sink worker: the group's consumer, the producer of dead letters, and a reader of the schema topic; and what a record and an error of Kafka come to, for every reader."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from runstream_feed.connection import connection_of
from runstream_feed.feed import Feed
from runstream_feed.member import Member
from runstream_feed.options import FeedRefused
from runstream_feed.records import Place, Start
from runstream_schemas import catalogue as cat
from runstream_schemas import wire
from runstream_schemas.records import DeadLetter, Schema
from runstream_schemas.settings import SettingsError
from runstream_schemas.topics import TOPICS
from runstream_sinks.errors import KafkaRefused
from runstream_sinks.kafka_config import asker_config, consumer_config, feed_options, producer_config
from runstream_sinks.ledger import Mark, Position
from runstream_sinks.log import log, logger
from runstream_sinks.pipeline import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import Message as RawMessage

    from runstream_feed.options import Trouble
    from runstream_feed.records import Record
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


class Complaints:
    """Says what Kafka's clients complain of, each kind now and then; that nobody answers is one kind, whoever notices."""

    def __init__(self) -> None:
        self._complain_at: dict[str, float] = {}

    def error(self, error: KafkaError) -> None:
        """What librdkafka meets."""
        self._say(error.name(), error.str(), is_away=error.code() in _AWAY)

    def trouble(self, trouble: Trouble) -> None:
        """What reading meets."""
        self._say(trouble.name, trouble.text, is_away=trouble.is_away)

    def _say(self, name: str, text: str, *, is_away: bool) -> None:
        now, kind = time.monotonic(), "" if is_away else name
        if now >= self._complain_at.get(kind, 0.0):
            self._complain_at[kind] = now + COMPLAIN_INTERVAL_S
            log.warning("kafka is away, going on when it is back" if is_away else "kafka error", code=name, error=text)


def refusal(error: KafkaError) -> KafkaRefused | None:
    """What to raise for an error of a consumer that no retry mends, with what to do about it; None for one that passes."""
    if error.fatal() or error.code() in _FOR_GOOD:
        return KafkaRefused(f"{error.name()}: {error.str()}{_FOR_GOOD.get(error.code(), '')}")
    return None


def refused(error: FeedRefused) -> KafkaRefused:
    """What to raise where reading is not allowed."""
    return KafkaRefused(f"{error}{_FOR_GOOD[KafkaError.TOPIC_AUTHORIZATION_FAILED]}")


def message_of(record: Record) -> Message:
    """The record as the pipeline takes it."""
    place, offset, epoch, time_ms, key, value, _, reason = record
    return Message(Position(place, offset, epoch), max(0, time_ms), key, value, reason)


def _offset(place: Place, mark: Mark) -> TopicPartition:
    if mark.leader_epoch is None:
        return TopicPartition(place.topic, place.partition, mark.offset)
    # With the epoch, whoever goes on from here notices when the log was cut behind this offset.
    return TopicPartition(place.topic, place.partition, mark.offset, leader_epoch=mark.leader_epoch)


def missing_of(member: Member, topics: Iterable[str]) -> set[str] | None:
    """Which of the topics do not exist yet; None while the brokers cannot be reached."""
    try:
        return set(topics) - set(member.consumer.list_topics(timeout=METADATA_TIMEOUT_S).topics)
    except KafkaException:
        return None


class Source:
    """The group's consumer. All calls come from one thread; the callbacks run inside `poll` and `close`."""

    def __init__(self, settings: Settings, on_not_committed: Callable[[set[Place]], None]) -> None:
        """`on_not_committed` gets the partitions whose offsets the broker refused, inside `poll` and `commit`.

        Raises:
            SettingsError: librdkafka does not take the options.
        """
        self._complaints = Complaints()
        self._on_not_committed = on_not_committed
        self._commit_complain_at = 0.0
        config = {**consumer_config(settings), "error_cb": self._complaints.error, "on_commit": self._on_commit}
        try:
            self._member = Member(
                config, connection_of(settings), feed_options(settings), on_error=self._meets, on_trouble=self._complaints.trouble, logger=logger
            )
        except KafkaException as error:
            raise _does_not_fit(error) from None

    def missing(self, topics: Iterable[str]) -> set[str] | None:
        """Which of the topics do not exist yet; None while the brokers cannot be reached."""
        return missing_of(self._member, topics)

    def subscribe(self, topics: Iterable[str], *, on_assign: Callable[[set[Place]], None], on_revoke: Callable[[set[Place], bool], None]) -> None:
        """Joins the group. `on_revoke` gets whether the partitions are lost already, so that nothing may be committed."""
        self._member.subscribe(list(topics), on_assign=on_assign, on_revoke=on_revoke)

    def poll(self, *, records_max: int, timeout_s: float) -> list[Message]:
        """The next records; waits up to `timeout_s` for them. Raises KafkaRefused where no retry helps."""
        try:
            return [message_of(record) for record in self._member.poll(records_max=records_max, timeout_s=timeout_s)]
        except FeedRefused as error:
            raise refused(error) from error

    def only(self, wanted: Callable[[Place], bool]) -> None:
        """Reads the assigned partitions that are wanted, and no other."""
        self._member.only(wanted)

    def commit(self, marks: dict[Place, Mark], *, wait: bool = False) -> None:
        """Commits offsets; with `wait` the broker has them when this returns, else a refusal is told when it comes. A refusal costs only reading again."""
        offsets = [_offset(place, mark) for place, mark in marks.items()]
        try:
            if wait:
                self._member.consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._member.consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._not_committed(set(marks), error.args[0])

    def close(self) -> None:
        """Leaves the group; partitions are revoked first."""
        self._member.close()

    def _meets(self, error: KafkaError) -> None:
        if (refused := refusal(error)) is not None:
            raise refused
        self._complaints.error(error)

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
        self._producer = Producer({**producer_config(settings), "error_cb": Complaints().error}, logger=logger)
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
        complaints = Complaints()
        self._place = Place(TOPICS["schema"].full_name(settings.topic_prefix), 0)
        self._config = {**asker_config(settings), "group.id": f"{settings.topic_prefix}-sinks-schemas", "error_cb": complaints.error}
        self._asker: Consumer | None = None
        self._feed = Feed(connection_of(settings), feed_options(settings), complaints.trouble)

    def refresh(self, timeout_s: float = 0.2) -> bool:
        """Adds what has come since the last call; whether that was everything that was there when the call began.

        A schema that does not fit the catalogue is logged and left out. Waits no longer than asked, and a moment for the topic's end. Raises KafkaRefused where no retry helps.
        """
        if self._asker is None:
            self._asker = Consumer(self._config, logger=logger)
            self._feed.add({self._place: Start(0)})
        try:
            _, end = self._asker.get_watermark_offsets(TopicPartition(*self._place), timeout=SCHEMA_END_TIMEOUT_S, cached=False)
        except KafkaException:
            return False
        deadline = time.monotonic() + timeout_s
        try:
            while not (is_read := self._is_at(end)) and (left_s := deadline - time.monotonic()) > 0:
                for record in self._feed.poll(records_max=100, timeout_s=min(left_s, 0.02)):
                    self._learn(record.value)
        except FeedRefused as error:
            raise refused(error) from error
        return is_read

    def _is_at(self, end: int) -> bool:
        position = self._feed.position(self._place)
        return position is not None and position >= end

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
        self._feed.close()
        if self._asker is not None:
            self._asker.close()
