"""The notifier process: reads the alert topic in a consumer group and commits what was delivered.

The only module of the notifier that touches confluent-kafka. It commits after delivery, so a crash sends an alert again rather than never.
"""

# confluent-kafka's stubs leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runstream_processors.admin import partition_counts
from runstream_processors.connection import connection_of
from runstream_processors.notify import delivery
from runstream_processors.notify.notifier import Notifier
from runstream_schemas import wire
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import Alert
from runstream_schemas.settings import SettingsError
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from pathlib import Path

    from confluent_kafka import Message

    from runstream_processors.notify.delivery import Channel
    from runstream_schemas.settings import Settings

logger = logging.getLogger(__name__)

TOPICS_WAIT_S = 60.0
_POLL_S = 0.2
_SESSION_TIMEOUT_MS = 10_000


def run(settings: Settings) -> int:
    """Notifies until SIGTERM or SIGINT. Raises SettingsError for a notification URL that Apprise does not know, NotReady when the topic does not come."""
    channels = channels_of(settings)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, functools.partial(_on_signal, asked))
    connection = connection_of(settings)
    topic = TOPICS["alert"].full_name(settings.topic_prefix)
    partition_counts(connection, [topic], TOPICS_WAIT_S)
    consumer = Consumer(
        {
            **connection.for_librdkafka(),
            "group.id": f"{settings.topic_prefix}.notifier",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "session.timeout.ms": _SESSION_TIMEOUT_MS,
        }
    )
    notifier = Notifier(channels, delivery.say, functools.partial(_pause, asked, settings.ready_file), int(settings.alert_late_s * 1000))
    consumer.subscribe([topic])
    if settings.ready_file is not None:
        settings.ready_file.write_text("ready\n", encoding="utf-8")
    try:
        while not asked.is_set():
            message = consumer.poll(_POLL_S)
            _renew(settings.ready_file)
            if message is not None:
                _take(consumer, notifier, message, asked)
    finally:
        consumer.close()
    return 0


def _pause(asked: threading.Event, ready_file: Path | None, pause_s: float) -> bool:
    """Pauses between tries, and says whether the process was asked to stop, which ends the pause; what was not delivered then is not committed.

    All tries of one alert may take half a minute while its channels do not answer, which is no reason to be taken for one that hangs.
    """
    _renew(ready_file)
    return asked.wait(pause_s)


def _renew(ready_file: Path | None) -> None:
    """Gives the ready file the time of now: one that grows old tells the supervisor that this process hangs."""
    if ready_file is not None:
        with contextlib.suppress(FileNotFoundError):
            os.utime(ready_file)


def channels_of(settings: Settings) -> list[Channel]:
    """The channels that the settings name; raises SettingsError."""
    channels: list[Channel] = []
    if settings.webhook:
        channels.append(delivery.Webhook(settings.webhook))
    if settings.notify:
        services = delivery.Services(settings.notify.split())
        if services.refused:
            raise SettingsError(f"RUNSTREAM_NOTIFY has a URL of a kind that Apprise does not know: {', '.join(services.refused)}")
        channels.append(services)
    return channels


def _on_signal(asked: threading.Event, _number: int, _frame: object) -> None:
    asked.set()


def _take(consumer: Consumer, notifier: Notifier, message: Message, asked: threading.Event) -> None:
    error = message.error()
    if error is not None:
        if error.fatal() or error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
            raise KafkaException(error)
        logger.warning("alerts could not be read", extra={"reason": error.str()})
        return
    topic, partition, offset = message.topic(), message.partition(), message.offset()
    assert topic is not None, "a message without an error has a place"
    assert partition is not None
    assert offset is not None
    try:
        alert = wire.decode(message.value() or b"")
    except SchemasError as reason:
        logger.warning("record skipped", extra={"topic": topic, "partition": partition, "offset": offset, "reason": str(reason)})
    else:
        if isinstance(alert, Alert) and notifier.take(alert, time.time_ns() // 1_000_000) and asked.is_set():
            return
    try:
        consumer.commit(offsets=[TopicPartition(topic, partition, offset + 1)], asynchronous=False)
    except KafkaException as reason:
        # The group moved on; whoever owns the partition sends this alert again.
        logger.warning("not committed", extra={"partition": partition, "offset": offset, "reason": str(reason)})
