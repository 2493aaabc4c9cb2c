"""One description a topic: what it carries, who writes and reads it, how it is keyed, kept and split.

The names begin with a prefix that a deployment may choose (`runstream` unless set). Partition counts are fixed when a topic is created, since state is
partitioned with it. Creating topics is `runstream_producers.topics`' work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Name = Literal[
    "run",
    "writer",
    "metric",
    "hardware",
    "event",
    "param",
    "value",
    "media",
    "artifact",
    "rule",
    "silence",
    "schema",
    "digest",
    "summary",
    "alert",
    "delivery",
    "dead-letter",
]
DAY_MS = 86_400_000
FOREVER_MS = -1


@dataclass(frozen=True, slots=True)
class Topic:
    """What everybody may rely on about a topic. `retention_ms` is -1 where records stay; a compacted topic keeps the newest record of each key."""

    name: Name
    record: str
    key: str
    partitions: int
    retention_ms: int
    compacted: bool
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    about: str

    def full_name(self, prefix: str) -> str:
        """The topic's name under a deployment's prefix."""
        return f"{prefix}.{self.name}"

    def config(self) -> dict[str, str]:
        """The topic's settings in Kafka's words."""
        bytes_max = DEAD_LETTER_BYTES_MAX if self.name == "dead-letter" else MESSAGE_BYTES_MAX
        settings = {
            "cleanup.policy": "compact" if self.compacted else "delete",
            "max.message.bytes": str(bytes_max),
            # The broker's clock and not the node's: Kafka refuses records from more than an hour ahead, and would soon remove those of a node whose clock is behind.
            "message.timestamp.type": "LogAppendTime",
        }
        if not self.compacted:
            settings["retention.ms"] = str(self.retention_ms)
        return settings


# Topics whose partitions grow with the points. The first three are keyed by writer and have as many partitions as each other, so that one worker has all that is
# said of a writer.
SCALED: frozenset[Name] = frozenset({"metric", "hardware", "writer", "summary", "digest"})

# Frames are cut well below this; it leaves room for one row of 100,000 names, which cannot be cut.
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
# A dead letter carries a whole record and says where it was: the greatest record must fit, or a bad one of that size would stop its reader.
DEAD_LETTER_BYTES_MAX = MESSAGE_BYTES_MAX + 64 * 1024
# Kafka bounds what is compressed; this is what a batch of records may be once it is not any more. No producer of ours makes one of half that, whose batches are bounded as they are before.
BATCH_BYTES_MAX = 2 * MESSAGE_BYTES_MAX

_SHIPPER = ("shipper",)
TOPICS: dict[Name, Topic] = {
    one.name: one
    for one in (
        Topic("run", "Run", "run_id", 4, FOREVER_MS, False, _SHIPPER, ("sinks",), "what users say of a run, one record a change"),
        Topic(
            "writer",
            "Writer",
            "writer",
            8,
            FOREVER_MS,
            True,
            (*_SHIPPER, "processors"),
            ("processors", "sinks"),
            "state, heartbeat and account of each process that logs",
        ),
        Topic("metric", "MetricFrame", "writer", 8, 7 * DAY_MS, False, _SHIPPER, ("processors", "sinks"), "metric rows in frames"),
        Topic(
            "hardware",
            "MetricFrame",
            "writer",
            8,
            7 * DAY_MS,
            False,
            _SHIPPER,
            ("processors", "sinks"),
            "hardware readings in frames, the device in the name's labels",
        ),
        Topic("event", "Event", "subject or run_id", 4, FOREVER_MS, False, _SHIPPER, ("sinks",), "things that happened"),
        Topic("param", "Param", "run_id", 4, FOREVER_MS, False, _SHIPPER, ("sinks",), "parameters with their history"),
        Topic(
            "value",
            "Value",
            "run_id",
            4,
            FOREVER_MS,
            False,
            _SHIPPER,
            ("sinks",),
            "texts, bytes and tensors of metrics, summary values that users set, and what they say of metrics",
        ),
        Topic("media", "Media", "run_id", 4, 7 * DAY_MS, False, _SHIPPER, ("sinks",), "rich values: lines, tables, images and others, large ones by reference"),
        Topic("artifact", "Artifact", "run_id", 4, FOREVER_MS, False, _SHIPPER, ("sinks",), "files, folders, models and data sets that runs made or used"),
        Topic(
            "rule",
            "Rule",
            "rule_id",
            1,
            FOREVER_MS,
            True,
            (*_SHIPPER, "command", "processors"),
            ("processors", "sinks"),
            "alert rules; every worker reads the whole topic",
        ),
        Topic(
            "silence",
            "Silence",
            "silence_id",
            1,
            FOREVER_MS,
            True,
            ("command",),
            ("processors", "notifier", "sinks"),
            "silences and acknowledgements of alerts; every worker reads the whole topic",
        ),
        Topic(
            "schema",
            "Schema",
            "schema_id",
            1,
            FOREVER_MS,
            True,
            _SHIPPER,
            ("sinks", "processors"),
            "schemas by id, written before first use",
        ),
        Topic(
            "digest",
            "Digest",
            "run_id",
            8,
            DAY_MS,
            False,
            ("processors",),
            ("processors",),
            "first-stage results of some writers of a run, for rules across ranks and rules on its state",
        ),
        Topic(
            "summary",
            "SummaryFrame",
            "writer and block",
            8,
            FOREVER_MS,
            True,
            ("processors",),
            ("sinks",),
            "summaries of each writer's series",
        ),
        Topic("alert", "Alert", "alert_id", 4, FOREVER_MS, False, ("processors", *_SHIPPER), ("sinks", "notifier"), "alerts firing and resolved"),
        Topic(
            "delivery",
            "Delivery",
            "alert_id",
            4,
            FOREVER_MS,
            False,
            ("notifier",),
            ("notifier", "sinks"),
            "what became of each alert on each channel of the notifier",
        ),
        Topic(
            "dead-letter",
            "DeadLetter",
            "topic, partition and offset",
            1,
            FOREVER_MS,
            False,
            ("sinks", "processors"),
            ("sinks",),
            "records that could not be stored, and rules that cannot be applied",
        ),
    )
}


def writer_key(writer: int) -> bytes:
    """The record key of a writer's records: its 63 bits, big-endian."""
    return writer.to_bytes(8, "big")
