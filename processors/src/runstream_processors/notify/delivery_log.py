"""The delivery topic: outcomes are written to it, and read back by a notifier that starts, so that it knows what was told before. Touches confluent-kafka."""

# confluent-kafka's stubs leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from runstream_feed.feed import Feed
from runstream_feed.options import FeedRefused, options_of
from runstream_feed.records import Place, Start
from runstream_schemas import wire
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from confluent_kafka import KafkaError, Message

    from runstream_feed.connection import Connection
    from runstream_feed.options import Trouble
    from runstream_feed.records import Record
    from runstream_processors.notify.figures import Figures

logger = logging.getLogger(__name__)

LOAD_TIMEOUT_S = 30.0
_REQUEST_TIMEOUT_S = 10.0
_POLL_S = 0.1


class DeliveryLog:
    """Writes outcomes; used by one thread."""

    def __init__(self, connection: Connection, topic: str, held: Callable[[int, int], None], figures: Figures) -> None:
        """`held` is called from `poll` with an alert's partition and offset once Kafka holds an outcome of it."""
        self._topic = topic
        self._held = held
        self._figures = figures
        self._producer = Producer(
            {
                **connection.for_librdkafka(),
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "message.timeout.ms": 0,
                "linger.ms": 5,
            }
        )

    def write(self, delivery: Delivery, partition: int, offset: int) -> None:
        """Queues an outcome; waits only while the queue is full."""

        def done(error: KafkaError | None, _: Message) -> None:
            if error is not None:
                # People were told all the same. What was told may be told again after a restart.
                self._figures.unlogged.inc()
                logger.warning("delivery not recorded", extra={"alert_id": delivery.alert_id, "channel": delivery.channel, "reason": error.str()})
            self._held(partition, offset)

        while True:
            try:
                self._producer.produce(self._topic, key=delivery.alert_id.encode(), value=wire.encode(delivery), on_delivery=done)
            except BufferError:
                self._producer.poll(_POLL_S)
            else:
                return

    def poll(self) -> None:
        """Hears what Kafka holds."""
        self._producer.poll(0)

    def flush(self, timeout_s: float) -> None:
        """Waits until Kafka holds everything, within a bound."""
        self._producer.flush(max(0.0, timeout_s))


def recorded(connection: Connection, topic: str, partitions: int, since_ms: int) -> Iterator[Delivery]:
    """The outcomes that were recorded from a time on, to where the topic ends now.

    Raises:
        KafkaException: the topic cannot be read, or not within `LOAD_TIMEOUT_S`.
    """
    asker = Consumer({**connection.for_librdkafka(), "group.id": f"{topic}-load"})  # librdkafka wants one; nothing is committed.
    feed = Feed(connection, options_of(connection.options, "runstream-notifier"), _says)
    deadline = time.monotonic() + LOAD_TIMEOUT_S
    try:
        wanted = asker.offsets_for_times([TopicPartition(topic, number, since_ms) for number in range(partitions)], timeout=_REQUEST_TIMEOUT_S)
        # Where nothing is as new as that, the offset is the end (-1).
        starts = {Place(topic, one.partition): Start(one.offset) for one in wanted if one.offset >= 0}
        ends = {place: asker.get_watermark_offsets(TopicPartition(*place), timeout=_REQUEST_TIMEOUT_S)[1] for place in starts}
        feed.add(starts)
        # Positions move past records that no reader sees, such as marks of transactions.
        while any((feed.position(place) or 0) < end for place, end in ends.items()):
            if time.monotonic() > deadline:
                raise KafkaException(f"the delivery log could not be read in {LOAD_TIMEOUT_S:g} s")
            for record in feed.poll(records_max=1000, timeout_s=_POLL_S):
                if record.offset < ends[record.place] and (delivery := _read(record)) is not None:
                    yield delivery
    except FeedRefused as error:
        raise KafkaException(str(error)) from error
    finally:
        feed.close()
        asker.close()


def _says(trouble: Trouble) -> None:
    logger.warning("the delivery log could not be read", extra={"reason": f"{trouble.name}: {trouble.text}"})


def _read(record: Record) -> Delivery | None:
    try:
        if record.refused is not None:
            raise SchemasError(record.refused)
        delivery = wire.decode(record.value or b"")
    except SchemasError as error:
        logger.warning("record skipped", extra={"topic": record.place.topic, "offset": record.offset, "reason": str(error)})
        return None
    return delivery if isinstance(delivery, Delivery) else None
