# pyright: reportUnknownMemberType=false
# (confluent-kafka's stubs leave the answers of its admin client open.)
"""Creates the topics that `runstream_schemas.topics` describes; `python -m runstream_producers.topics apply` does it for a deployment.

A topic that exists keeps its partitions, since state is partitioned with them: one that has another count is reported, not changed.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from runstream_schemas.settings import Settings, SettingsError, load
from runstream_schemas.topics import SCALED, TOPICS, Topic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SUMMARY = "create the topics on Kafka, or list what they carry"


def partitions_of(topic: Topic, settings: Settings) -> int:
    """How many partitions a topic is created with."""
    return settings.partitions if topic.name in SCALED and settings.partitions is not None else topic.partitions


def wanted(settings: Settings) -> dict[str, tuple[int, Mapping[str, str]]]:
    """Full names of all topics, with partitions and settings."""
    return {topic.full_name(settings.topic_prefix): (partitions_of(topic, settings), topic.config()) for topic in TOPICS.values()}


def ensure_topics(settings: Settings, *, timeout_s: float = 30.0, replication_factor: int = -1) -> list[str]:
    """Creates what is missing and returns the names created; waits until the cluster knows them all.

    Raises:
        SettingsError: Kafka cannot be reached within the time, or librdkafka does not take the options.
        KafkaException: it refuses to create a topic.
    """
    try:
        admin = AdminClient({"bootstrap.servers": settings.kafka, "log.connection.close": False, **settings.kafka_options})
    except KafkaException as error:
        raise SettingsError(f"RUNSTREAM_KAFKA_OPTIONS must be options that librdkafka takes: {error.args[0].str()}") from error
    deadline = time.monotonic() + timeout_s
    existing = _existing(admin, settings, deadline)
    missing = {name: spec for name, spec in wanted(settings).items() if name not in existing}
    new = [NewTopic(name, num_partitions=count, replication_factor=replication_factor, config=dict(config)) for name, (count, config) in missing.items()]
    answers = cast("dict[str, Future[None]]", admin.create_topics(new, request_timeout=timeout_s)) if new else {}
    for answer in answers.values():
        try:
            answer.result(timeout=timeout_s)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    while missing and not set(missing) <= set(_existing(admin, settings, deadline)):
        time.sleep(0.05)  # Brokers learn of new topics one after the other; there is nothing to wait on.
    return sorted(missing)


def _existing(admin: AdminClient, settings: Settings, deadline: float) -> dict[str, int]:
    try:
        found = admin.list_topics(timeout=max(0.1, deadline - time.monotonic())).topics
    except KafkaException as error:
        raise SettingsError(f"RUNSTREAM_KAFKA must be the address of a Kafka broker that answers, got {settings.kafka!r}: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in found.items()}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("action", choices=("apply", "ls"), help="apply creates what is missing; ls prints the description of each topic")
    parser.add_argument("--replication-factor", type=int, default=-1, help="copies of each partition; the broker's default unless given")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds to wait for Kafka")


def run(args: argparse.Namespace) -> int:
    """Runs the command."""
    settings = load()
    if args.action == "ls":
        for topic in TOPICS.values():
            sys.stdout.write(f"{topic.full_name(settings.topic_prefix):28} {partitions_of(topic, settings):4} partitions  {topic.about}\n")
        return 0
    created = ensure_topics(settings, timeout_s=args.timeout, replication_factor=args.replication_factor)
    sys.stdout.write(f"topics created: {', '.join(created) or 'none, all were there'}\n")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m runstream_producers.topics`."""
    parser = argparse.ArgumentParser(prog="python -m runstream_producers.topics", description=SUMMARY)
    configure(parser)
    try:
        return run(parser.parse_args(argv))
    except (SettingsError, KafkaException) as error:
        sys.stderr.write(f"{error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
