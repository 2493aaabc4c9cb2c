"""Takes a consumer past a batch of records that it will not decompress.

librdkafka stops at such a batch for good: it tells the same error again and again, and nothing behind it comes. Here its end is looked for by a consumer of its own, in a number of fetches
that grows with the logarithm of its records, and the partition goes on from there. What becomes of the records in it is the caller's.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runstream_sinks.kafka_config import reader_config
from runstream_sinks.ledger import Place
from runstream_sinks.log import log, logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Message

    from runstream_schemas.settings import Settings

# A search takes some 40 fetches at most, with so long between two that fail, or that bring more than is looked at.
FETCH_BACKOFF_MS = 20
SEARCH_S_MAX = 15.0


class Passed(NamedTuple):
    """A batch that was passed: its first offset, the one behind it, and why."""

    place: Place
    first: int
    end: int
    reason: str


class Passing:
    """For one consumer. All calls come from its thread, and may wait up to `SEARCH_S_MAX`."""

    def __init__(self, settings: Settings) -> None:
        self._config = {
            **reader_config(settings),
            "group.id": f"{settings.topic_prefix}-passes",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "fetch.error.backoff.ms": FETCH_BACKOFF_MS,
            "fetch.queue.backoff.ms": FETCH_BACKOFF_MS,
        }
        # Errors that were told before the consumer went on come late.
        self._ends: dict[Place, int] = {}

    def look(self, raw: Message) -> Passed | None:
        """What to pass, where a consumer's error is about a batch that cannot be decompressed; None for other errors, and where the end was not found: the error comes again."""
        error = raw.error()
        if error is None or error.code() != KafkaError._BAD_COMPRESSION:
            return None
        topic, partition, first = raw.topic(), raw.partition(), raw.offset()
        assert topic is not None
        assert partition is not None
        assert first is not None
        place = Place(topic, partition)
        if first < self._ends.get(place, 0):
            return None
        consumer = Consumer(self._config, logger=logger)
        try:
            _, behind = consumer.get_watermark_offsets(TopicPartition(*place), timeout=SEARCH_S_MAX, cached=False)
            deadline = time.monotonic() + SEARCH_S_MAX
            end = end_of(first, behind, lambda offset: _is_within(consumer, place, first, offset, deadline))
        except (TimeoutError, KafkaException) as trouble:
            log.warning(
                "the end of a batch that cannot be decompressed was not found, trying again", topic=topic, partition=partition, first=first, error=str(trouble)
            )
            return None
        finally:
            consumer.close()
        log.warning("a batch of records was passed over", topic=topic, partition=partition, first=first, next=end, error=error.str())
        return Passed(place, first, end, f"a batch of records, offsets {first} to {end - 1}, was not read: it is broken, or expands past the bound")

    def go_on(self, consumer: Consumer, passed: Passed) -> bool:
        """Has a consumer go on behind a batch; False where the partition is not its own any more."""
        try:
            consumer.seek(TopicPartition(*passed.place, passed.end))
        except KafkaException:
            return False
        self._ends[passed.place] = passed.end
        return True


def end_of(first: int, behind: int, is_within: Callable[[int], bool]) -> int:
    """The offset behind a batch that begins at `first`, in a partition whose newest record stands before `behind`. Pure, but for what is asked."""
    inside, step = first, 1
    while inside + step < behind and is_within(inside + step):
        inside, step = inside + step, 2 * step
    outside = min(inside + step, behind)
    while outside - inside > 1:
        middle = (inside + outside) // 2
        inside, outside = (middle, outside) if is_within(middle) else (inside, middle)
    return outside


def _is_within(consumer: Consumer, place: Place, first: int, offset: int, deadline: float) -> bool:
    """Whether reading from an offset meets the same batch: the error names its first offset. Raises TimeoutError."""
    consumer.assign([TopicPartition(*place, offset)])
    while (left_s := deadline - time.monotonic()) > 0:
        raw = consumer.poll(left_s)
        if raw is None:
            continue
        error = raw.error()
        if error is None or error.code() == KafkaError._PARTITION_EOF:
            return False
        if error.code() == KafkaError._BAD_COMPRESSION:
            return raw.offset() == first
    raise TimeoutError(f"Kafka gave nothing at offset {offset} in {SEARCH_S_MAX:g} s")
