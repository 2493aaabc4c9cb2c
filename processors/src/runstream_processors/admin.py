"""What a worker asks of Kafka before it starts: how many partitions its topics have, and that its changelogs are there with as many.

The only module of the worker that touches confluent-kafka. Topics themselves are created elsewhere; only the changelogs are the processors' own.
"""

# confluent-kafka's stubs leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from runstream_processors.errors import NotReady
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_feed.connection import Connection

logger = logging.getLogger(__name__)

_REQUEST_TIMEOUT_S = 5.0
_RETRY_S = 0.5
_SILENT = {"log_level": 0}  # What goes wrong is raised, in our own words.


def partition_counts(connection: Connection, topics: Sequence[str], timeout_s: float) -> dict[str, int]:
    """The number of partitions of each topic. Waits for topics that are not there yet.

    Raises:
        NotReady: after `timeout_s` a topic is still missing, or Kafka does not answer.
    """
    client = AdminClient({**connection.for_librdkafka(), **_SILENT})
    deadline = time.monotonic() + timeout_s
    said = ""
    while True:
        try:
            known = client.list_topics(timeout=min(_REQUEST_TIMEOUT_S, timeout_s)).topics
            counts = {topic: len(known[topic].partitions) for topic in topics if topic in known and known[topic].error is None}
            missing = sorted(set(topics) - {topic for topic, count in counts.items() if count})
            problem = f"topics {', '.join(missing)} are not there: create them, or check RUNSTREAM_TOPIC_PREFIX"
            if not missing:
                return counts
        except KafkaException as error:
            problem = f"Kafka at {','.join(connection.servers)} (RUNSTREAM_KAFKA) does not answer: {error.args[0].str()}"
        if time.monotonic() >= deadline:
            raise NotReady(problem)
        if problem != said:
            said = problem
            logger.warning("waiting", extra={"reason": problem})
        time.sleep(_RETRY_S)


def ensure_changelogs(connection: Connection, changelogs: Mapping[str, int], timeout_s: float) -> None:
    """Creates changelogs that are missing, with the broker's own replication factor, and checks the partitions of those that are there.

    Raises:
        NotReady: a changelog has another number of partitions than its source, or cannot be created.
    """
    client = AdminClient({**connection.for_librdkafka(), **_SILENT})
    config = {
        "cleanup.policy": "compact",
        # A state is written anew every few seconds, and a worker that takes partitions over reads all of their changelog. Kafka compacts closed segments alone: with those of a gigabyte,
        # its default, that is a gigabyte a partition, however small the state (seen on a busy machine: five minutes for a million series).
        "segment.bytes": str(2 * MESSAGE_BYTES_MAX),
        "min.cleanable.dirty.ratio": "0.3",
        "max.message.bytes": str(MESSAGE_BYTES_MAX),
        # Stamped by Kafka, as all topics are: from a clock that is ahead by more than an hour it would take nothing.
        "message.timestamp.type": "LogAppendTime",
    }
    present = client.list_topics(timeout=_REQUEST_TIMEOUT_S).topics
    wanted = [NewTopic(name, num_partitions=count, replication_factor=-1, config=config) for name, count in changelogs.items() if name not in present]
    for name, future in (client.create_topics(wanted, request_timeout=_REQUEST_TIMEOUT_S) if wanted else {}).items():
        try:
            future.result(timeout_s)
        except KafkaException as error:
            if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # Another worker was faster.
                raise NotReady(f"the changelog {name} cannot be created: {error.args[0].str()}") from error
    for name, found in partition_counts(connection, list(changelogs), timeout_s).items():
        if found != changelogs[name]:
            raise NotReady(
                f"{name} has {found} partitions and its source {changelogs[name]}: state is partitioned with its source, so a topic that "
                "grows needs a new RUNSTREAM_TOPIC_PREFIX and a replay"
            )
