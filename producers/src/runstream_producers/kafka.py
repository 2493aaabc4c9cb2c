"""The one module that touches confluent-kafka's producer: options in, typed answers out."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, KafkaException, Producer

from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_schemas.settings import Settings

_log = logging.getLogger(__name__)


def producer_options(settings: Settings, client_id: str) -> dict[str, Any]:
    """librdkafka's options for a producer that loses nothing; the user's `kafka_options` come last and win."""
    return {
        "bootstrap.servers": settings.kafka,
        "client.id": client_id,
        "enable.idempotence": True,
        "acks": "all",
        # Never give up on a record by itself: an outage may last longer than any time-out, and the journal holds the rows meanwhile.
        "message.timeout.ms": 0,
        # How long a topic that Kafka does not know is waited for, before its records are answered with an error.
        "topic.metadata.propagation.max.ms": 10_000,
        "linger.ms": settings.linger_ms,
        "compression.type": "lz4",
        # Faust's partitioner, so that records of one key meet its tables' partitions.
        "partitioner": "murmur2_random",
        "message.max.bytes": MESSAGE_BYTES_MAX,
        "queue.buffering.max.kbytes": 65_536,
        "reconnect.backoff.max.ms": 1_000,
        "socket.keepalive.enable": True,
        "log.connection.close": False,
        **settings.kafka_options,
    }


class Failure:
    """Why a record was not delivered: the name of librdkafka's error, and whether the record itself is to blame."""

    __slots__ = ("name", "record_is_bad", "text")

    def __init__(self, error: KafkaError) -> None:
        self.name = str(error.name())
        self.text = str(error.str())
        self.record_is_bad = error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG, KafkaError.INVALID_RECORD, KafkaError._BAD_MSG)


class Sender:
    """Sends records; each answer comes to its own callback inside `poll`, in the calling thread. Once `broken` it sends nothing any more: another has to take over."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.last_error = ""
        self.broken = False
        self._producer = Producer(options | {"error_cb": self._on_error}, logger=_log)

    def send(self, topic: str, key: bytes, value: bytes, on_answer: Callable[[Failure | None], None]) -> bool:
        """Hands a record over; False where the queue is full, so that the caller waits. The answer is None for success."""

        def answered(error: KafkaError | None, _message: object) -> None:
            on_answer(None if error is None else Failure(error))

        try:
            self._producer.produce(topic, value, key, on_delivery=answered)
        except BufferError:
            return False
        except KafkaException as problem:
            self.broken = self.broken or bool(problem.args[0].fatal())
            on_answer(Failure(problem.args[0]))
        return True

    def poll(self, timeout_s: float) -> int:
        """Serves answers for at most `timeout_s`; returns how many came."""
        return int(self._producer.poll(timeout_s))

    def waiting(self) -> int:
        """Records without an answer yet."""
        return len(self._producer)

    def flush(self, timeout_s: float) -> int:
        """Waits for answers; returns how many are still missing."""
        return int(self._producer.flush(timeout_s))

    def _on_error(self, error: KafkaError) -> None:
        self.last_error = str(error.str())
        self.broken = self.broken or bool(error.fatal())
        _log.warning("kafka trouble error=%s text=%s", error.name(), error.str())
