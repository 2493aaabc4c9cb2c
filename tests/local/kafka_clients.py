"""The Kafka client calls that the tests of this folder share; confluent_kafka is touched here."""

# confluent_kafka annotates its futures without their type.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import time
import uuid

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

__all__ = ["cluster_id", "make_topic", "produce", "produce_failures", "read_all"]


def cluster_id(bootstrap: str) -> str:
    """Returns the id of the cluster that answers."""
    return str(AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=20).cluster_id)


def make_topic(bootstrap: str, *, partitions: int) -> str:
    """Creates a topic of a random name and returns the name."""
    topic = f"t-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, partitions, 1)])[topic].result(timeout=20)
    return topic


def produce(bootstrap: str, topic: str, values: list[bytes]) -> None:
    """Writes `values` and returns once all are acknowledged."""
    assert produce_failures(bootstrap, topic, values) == []


def produce_failures(bootstrap: str, topic: str, values: list[bytes], *, timeout_s: float = 20) -> list[str]:
    """Writes `values` and returns the names of the errors of those that were not acknowledged within `timeout_s`."""
    failures: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": "all",
            "enable.idempotence": True,
            "message.timeout.ms": int(timeout_s * 1000),
            # A new topic may not be known at once; a missing one should not be waited for long.
            "topic.metadata.propagation.max.ms": 1000,
        }
    )
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _message: failures.append(error.name()) if error is not None else None)
    assert producer.flush(timeout_s + 5) == 0
    return failures


def read_all(bootstrap: str, topic: str, *, count: int, timeout_s: float = 20) -> list[bytes]:
    """Returns the first `count` values of the topic, sorted, as a new consumer group reads them; fewer when the time is up."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest"})
    values: list[bytes] = []
    deadline = time.monotonic() + timeout_s
    try:
        consumer.subscribe([topic])
        while len(values) < count and time.monotonic() < deadline:
            for message in consumer.consume(100, 0.2):
                value = message.value()
                if message.error() is None and isinstance(value, bytes):
                    values.append(value)
    finally:
        consumer.close()
    return sorted(values)
