"""The notifier process: reads the alert topic in a consumer group, has the channels told, and commits what has an outcome that the delivery topic holds.

Touches confluent-kafka. The loop never waits for a channel: those have threads of their own. A notifier that is killed tells again what it told and could not record.
"""

# confluent-kafka's stubs leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import queue
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from runstream_feed.connection import connection_of
from runstream_feed.member import Member
from runstream_feed.options import EARLIEST, options_of
from runstream_processors.admin import partition_counts
from runstream_processors.notify.delivery_log import DeliveryLog, recorded
from runstream_processors.notify.figures import KIND, Figures
from runstream_processors.notify.ledger import Ledger
from runstream_processors.notify.message import line
from runstream_processors.notify.notifier import Notifier, keep_ms_of
from runstream_processors.notify.runner import Finished, Runner
from runstream_processors.notify.ways import ways_of
from runstream_processors.silence_topic import SilenceWatch
from runstream_schemas import wire
from runstream_schemas.endpoint import Endpoint
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import Alert
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_feed.connection import Connection
    from runstream_feed.options import Trouble
    from runstream_feed.records import Place, Record
    from runstream_schemas.settings import Settings

logger = logging.getLogger(__name__)

TOPICS_WAIT_S = 60.0
STOP_TIMEOUT_S = 4.0  # For tries on their way; with the rest it stays within the ten seconds that a part has.
_FLUSH_S = 2.0
_POLL_S = 0.1
_TAKE_MAX = 500
_COMMIT_S = 0.5
_SESSION_TIMEOUT_MS = 10_000
_TURN_S_MAX = 60.0  # Reading the delivery log at an assignment takes up to half of it.


def run(settings: Settings, figures: Figures | None = None) -> int:
    """Notifies until SIGTERM or SIGINT; figures may stand on a registry of the caller's.

    Raises:
        SettingsError: a channel is not what it should be, or the port for figures cannot be had.
        NotReady: the topics do not come.
    """
    ways = ways_of(settings)
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, functools.partial(_on_signal, asked))
    figures = figures or Figures()
    finished: queue.SimpleQueue[Finished] = queue.SimpleQueue()
    runners = {channel.name: Runner(channel, way, figures, finished.put) for channel, way in ways}
    turned = _Turned()
    endpoint = None
    if settings.metrics_port is not None:
        endpoint = Endpoint(settings.metrics_host, settings.metrics_port, page=figures.page, kind=KIND, trouble=turned.trouble)
    work = _Work(settings, connection_of(settings), runners, finished, figures)
    logger.info("channels", extra={"names": ",".join(runners) or "none"})
    try:
        work.start()
        while not asked.is_set():
            work.step()
            turned.at_s = time.monotonic()
            _renew(settings.ready_file)
    finally:
        work.stop()
        if endpoint is not None:
            endpoint.close()
    return 0


class _Turned:
    """When the loop turned last, which is its health: what channels do is told by figures and the delivery log."""

    def __init__(self) -> None:
        self.at_s = time.monotonic()

    def trouble(self) -> str:
        since_s = time.monotonic() - self.at_s
        return f"the loop of the notifier has not turned for {since_s:.0f} s: it hangs, or waits for Kafka" if since_s > _TURN_S_MAX else ""


class _Work:
    """The loop's parts; all of it is used by the loop's thread alone."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        runners: dict[str, Runner],
        finished: queue.SimpleQueue[Finished],
        figures: Figures,
    ) -> None:
        prefix = settings.topic_prefix
        self._alerts, self._deliveries = TOPICS["alert"].full_name(prefix), TOPICS["delivery"].full_name(prefix)
        self._connection = connection
        self._partitions = partition_counts(connection, [self._alerts, self._deliveries], TOPICS_WAIT_S)
        self._late_ms = int(settings.alert_late_s * 1000)
        self._runners = runners
        self._finished = finished
        self._ledger = Ledger()
        self._log = DeliveryLog(connection, self._deliveries, self._ledger.done, figures)
        self._silences = SilenceWatch(connection, prefix, TOPICS_WAIT_S)
        self._notifier = Notifier(runners, say=_say, record=self._log.write, silenced=self._silences, figures=figures, late_ms=self._late_ms)
        self._committed_at = 0.0
        self._ready_file = settings.ready_file
        config = {
            **connection.for_librdkafka(),
            "group.id": f"{prefix}.notifier",
            "enable.auto.commit": False,
            "session.timeout.ms": _SESSION_TIMEOUT_MS,
        }
        options = dataclasses.replace(options_of(connection.options, "runstream-notifier"), reset=EARLIEST)
        self._member = Member(config, connection, options, on_error=_meets, on_trouble=_says)

    def start(self) -> None:
        """Joins the group; channels begin to send."""
        for runner in self._runners.values():
            runner.start()
        self._member.subscribe([self._alerts], on_assign=self._on_assign, on_revoke=self._on_gone)
        if self._ready_file is not None:
            self._ready_file.write_text("ready\n", encoding="utf-8")

    def step(self) -> None:
        """Reads what has come, within a tenth of a second, and records what has an outcome."""
        for record in self._member.poll(records_max=_TAKE_MAX, timeout_s=_POLL_S):
            self._take(record)
        self._record()
        if time.monotonic() - self._committed_at >= _COMMIT_S:
            self._committed_at = time.monotonic()
            self._commit(asynchronous=True)

    def stop(self) -> None:
        """Lets tries on their way end, within a bound, records and commits their outcomes, and leaves the group."""
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for runner in self._runners.values():
            runner.stop()
        for runner in self._runners.values():
            runner.join(deadline - time.monotonic())
        self._record()
        self._log.flush(_FLUSH_S)
        self._commit(asynchronous=False)
        self._member.close()
        self._silences.close()

    def _record(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._notifier.finish(self._finished.get_nowait())
        self._log.poll()

    def _commit(self, *, asynchronous: bool) -> None:
        offsets = [TopicPartition(self._alerts, partition, offset) for partition, offset in self._ledger.safe().items()]
        if not offsets:
            return
        try:
            # Without waiting, since a broker that is away must not hold up what has been read already.
            self._member.consumer.commit(offsets=offsets, asynchronous=asynchronous)
        except KafkaException as error:
            # The group moved on; whoever owns the partitions knows from the delivery topic what was told.
            logger.warning("not committed", extra={"reason": str(error)})

    def _on_assign(self, places: set[Place]) -> None:
        """Learns what was told before, by this notifier or another, and only then reads alerts."""
        if not places:
            return
        since_ms = max(0, _now_ms() - keep_ms_of(self._late_ms))
        for delivery in recorded(self._connection, self._deliveries, self._partitions[self._deliveries], since_ms):
            self._notifier.learn(delivery)

    def _on_gone(self, places: set[Place], lost: bool) -> None:
        self._record()
        if not lost:
            self._commit(asynchronous=False)
        numbers = {place.partition for place in places}
        self._notifier.give_up(numbers)
        self._ledger.forget(numbers)

    def _take(self, record: Record) -> None:
        place, offset = record.place, record.offset
        outcomes = 0
        self._ledger.begin(place.partition, offset)
        try:
            if record.refused is not None:
                raise SchemasError(record.refused)
            alert = wire.decode(record.value or b"")
        except SchemasError as reason:
            # The sinks set it aside.
            logger.warning("record skipped", extra={"topic": place.topic, "partition": place.partition, "offset": offset, "reason": str(reason)})
        else:
            if isinstance(alert, Alert):
                outcomes = self._notifier.take(alert, place.partition, offset, _now_ms())
        self._ledger.expect(place.partition, offset, outcomes)


def _meets(error: KafkaError) -> None:
    """What the group's client says; raises what no retry mends."""
    if error.fatal() or error.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED):
        raise KafkaException(error)
    logger.warning("alerts could not be read", extra={"reason": error.str()})


def _says(trouble: Trouble) -> None:
    logger.warning("alerts could not be read", extra={"reason": f"{trouble.name}: {trouble.text}"})


def _say(alert: Alert) -> None:
    sys.stdout.write(line(alert) + "\n")
    sys.stdout.flush()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _renew(ready_file: Path | None) -> None:
    """Gives the ready file the time of now: one that grows old tells the supervisor that this process hangs."""
    if ready_file is not None:
        with contextlib.suppress(FileNotFoundError):
            os.utime(ready_file)


def _on_signal(asked: threading.Event, _number: int, _frame: object) -> None:
    asked.set()
