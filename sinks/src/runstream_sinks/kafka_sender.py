"""Produces raw records onto topics, each to the partition that it is meant for, and tells where it came to lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Producer

from runstream_feed.records import Place
from runstream_sinks.errors import KafkaRefused
from runstream_sinks.kafka_config import producer_config
from runstream_sinks.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Message as RawMessage

    from runstream_schemas.settings import Settings


class Sender:
    """A producer whose records are acknowledged by all replicas. All calls come from one thread."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = settings.kafka
        self._producer = Producer(producer_config(settings), logger=logger)

    def send(self, place: Place, key: bytes | None, value: bytes, headers: Mapping[str, bytes], on_sent: Callable[[int | None, str], None]) -> None:
        """Sends a record; `on_sent` gets its offset once it is held, or None and the reason. It runs in this call or a later one; waits while the queue is full."""

        def delivered(error: KafkaError | None, raw: RawMessage) -> None:
            if error is None:
                on_sent(raw.offset(), "")
            else:
                on_sent(None, error.str())

        while True:
            try:
                self._producer.produce(place.topic, value, key, partition=place.partition, headers=list(headers.items()), on_delivery=delivered)
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:
                on_sent(None, error.args[0].str())
                return
            else:
                self._producer.poll(0)
                return

    def flush(self, timeout_s: float) -> None:
        """Waits until all is held. Raises KafkaRefused where something is not by then; whether it will be, nobody knows."""
        left = self._producer.flush(timeout_s)
        if left:
            raise KafkaRefused(f"{left} records were not acknowledged by Kafka at {self._kafka} within {timeout_s:g} s; they may come yet")
