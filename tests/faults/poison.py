"""Records that no reader can take, put into the topics that sinks read, and where they came to lie."""

# confluent_kafka's stubs leave its answers open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import random
import struct
from functools import partial

import numpy as np
from confluent_kafka import KafkaError, Message, Producer

from runstream_schemas import wire
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import MetricFrame, MetricGroup
from runstream_schemas.topics import TOPICS

# Records that were put into topics: where each lies (topic, partition, offset), its key and value.
Letters = dict[tuple[str, int, int], tuple[bytes, bytes]]
_TOPICS = ("metric", "event", "param", "run", "alert")
_FLUSH_S = 60.0
# Readers wait some seconds for a schema that they do not know, since it may be under way.
_UNKNOWN_MAX = 2
_PREFIX = struct.Struct(">bi")


def poison(draw: random.Random, number: int) -> tuple[str, bytes, bytes]:
    """Topic, key and value of one of them."""
    topic = TOPICS[draw.choice(_TOPICS)].full_name("runstream")
    key = draw.randbytes(8)
    if number < _UNKNOWN_MAX:
        return topic, key, b"\x00" + struct.pack(">i", draw.randrange(1, 1 << 31)) + draw.randbytes(40)
    match draw.choice(("garbage", "truncated frame", "empty", "prefix alone")):
        case "garbage":
            # Its first byte is none that a prefix begins with.
            return topic, key, b"\xff" + draw.randbytes(draw.randint(1, 3000))
        case "truncated frame":
            whole = wire.encode(_frame(draw))
            return TOPICS["metric"].full_name("runstream"), key, whole[: draw.randint(5, len(whole) - 1)]
        case "prefix alone":
            return topic, key, wire.encode(_frame(draw))[:3]
        case _:
            return topic, key, b""


def inject(kafka: str, records: list[tuple[str, bytes, bytes]]) -> Letters:
    """Writes records, and returns once Kafka holds them: topic, partition and offset of each, with its key and value.

    Raises:
        TimeoutError: Kafka did not take all of them.
    """
    held: Letters = {}
    refused: list[str] = []

    def note(error: KafkaError | None, message: Message, key: bytes, value: bytes) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        if error is not None or topic is None or partition is None or offset is None:
            refused.append(str(error))
        else:
            held[topic, partition, offset] = key, value

    producer = Producer({"bootstrap.servers": kafka, "acks": "all", "enable.idempotence": True, "message.timeout.ms": int(_FLUSH_S * 1000), "log_level": 0})
    for topic, key, value in records:
        producer.produce(topic, value, key, on_delivery=partial(note, key=key, value=value))
    producer.flush(_FLUSH_S)
    if len(held) != len(records):
        raise TimeoutError(f"Kafka holds {len(held)} of {len(records)} records of poison: {refused[:3]}")
    return held


def fits(value: bytes, reason: str) -> bool:
    """Whether a reason speaks of such a value: of one without a whole prefix, of one of a schema that nobody knows, or of a frame that breaks off."""
    if len(value) < _PREFIX.size or value[0]:
        return reason == f"expected a record that begins with 00 and a 4-byte schema id, got {len(value)} bytes that do not"
    if value[: _PREFIX.size] == wire.encode(_frame(random.Random(0)))[: _PREFIX.size]:
        return bool(reason) and "is not in the catalogue" not in reason
    return reason.startswith(f"schema id {_PREFIX.unpack_from(value)[1]} is not in the catalogue")


def _frame(draw: random.Random) -> MetricFrame:
    seqs = np.arange(3)
    group = MetricGroup("", "", ("a", "b"), seqs, seqs, seqs + 1_790_000_000_000, np.array([[draw.random(), draw.random()] for _ in range(3)]))
    return MetricFrame(new_uuid(), draw.randrange(1, 1 << 62), 1_790_000_000_000, "poison", 0, "node", "poison", 0, 3, 0, (group,))
