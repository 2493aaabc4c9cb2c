"""Real worker processes on real topics, for tests: start, feed, wait, end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition

from runstream_schemas import topics, wire
from runstream_schemas.records import MetricFrame, Record, Writer
from runstream_schemas.settings import Settings, environment_of
from runstream_sinks.clickhouse import Server
from runstream_sinks.errors import ServerBusy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


WAIT_S = 40.0
PARTITIONS = 2
# For workers that will die without a word: their partitions move on soon.
SHORT_SESSION = {"RUNSTREAM_KAFKA_OPTIONS": "session.timeout.ms=1500;heartbeat.interval.ms=400"}
Sent = tuple[topics.Name, bytes, Record | bytes]  # topic, key, value


def wait_for(probe: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Waits until the probe is true; fails with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not probe():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:.0f} s in vain for {what}")
        time.sleep(0.05)


@dataclass
class Pipe:
    """A prefix with its topics, a database, and the workers started for them."""

    settings: Settings
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    def start(self, *, ready: bool = True, module: str = "runstream_sinks", environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts a worker and, unless told otherwise, waits until it has its partitions."""
        ready_file = self.folder / f"ready-{len(self.workers)}"
        environment = {**os.environ, **environment_of(self.settings), "RUNSTREAM_READY_FILE": str(ready_file), **(environ or {})}
        with (self.folder / "worker.log").open("ab") as log:
            child = subprocess.Popen([sys.executable, "-m", module, "worker"], env=environment, stdout=log, stderr=log)
        self.workers.append(child)
        if ready:
            wait_for(lambda: ready_file.exists() or child.poll() is not None, "the worker's partitions")
            assert child.poll() is None, self.log()
            assert ready_file.read_text() == "ready\n"
        return child

    def log(self) -> str:
        """What all workers have said so far."""
        return (self.folder / "worker.log").read_text()

    def end(self, child: subprocess.Popen[bytes], timeout_s: float = 12.0) -> tuple[int, float]:
        """Asks a worker to end; its exit code and how long it took."""
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        code = child.wait(timeout=timeout_s)
        return code, time.monotonic() - began

    def send(self, *values: Sent) -> None:
        """Writes records (or raw bytes) under keys to topics, and returns once all are acknowledged."""
        producer = Producer(
            {"bootstrap.servers": self.settings.kafka, "acks": "all", "enable.idempotence": True, "message.max.bytes": topics.MESSAGE_BYTES_MAX}
        )
        for name, key, value in values:
            raw = value if isinstance(value, bytes) else wire.encode(value)
            producer.produce(topics.TOPICS[name].full_name(self.settings.topic_prefix), raw, key)
        assert producer.flush(WAIT_S) == 0

    def send_frames(self, *frames: MetricFrame, name: topics.Name = "metric") -> None:
        """Writes frames under their writers' keys."""
        sent: list[Sent] = [(name, topics.writer_key(frame.writer), frame) for frame in frames]
        self.send(*sent)

    def send_writers(self, *writers: Writer) -> None:
        """Writes states of writers."""
        sent: list[Sent] = [("writer", topics.writer_key(one.writer), one) for one in writers]
        self.send(*sent)

    def query(self, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
        """Rows from the database."""
        server = Server(self.settings.clickhouse_url, self.settings.clickhouse_database)
        try:
            return list(server.query(sql, parameters))
        finally:
            server.close()

    def count(self, view: str) -> int:
        """Rows of a view; -1 while ClickHouse is away."""
        try:
            return self.query("SELECT count() FROM {view:Identifier}", view=view)[0][0]
        except ServerBusy:
            return -1

    def wait_for_rows(self, view: str, rows: int) -> None:
        """Waits until a view has so many rows, and fails where it has more."""
        try:
            wait_for(lambda: self.count(view) >= rows or all(child.poll() is not None for child in self.workers), f"{rows} rows in {view}")
        except AssertionError as error:
            raise AssertionError(f"{error}, which has {self.count(view)}:\n{self.log()}") from None
        assert self.count(view) == rows, self.log()

    def committed(self, name: topics.Name, partitions: int) -> int:
        """How many records of a topic lie before the group's committed offsets."""
        consumer = Consumer({"bootstrap.servers": self.settings.kafka, "group.id": f"{self.settings.topic_prefix}-sinks"})
        full_name = topics.TOPICS[name].full_name(self.settings.topic_prefix)
        try:
            found = consumer.committed([TopicPartition(full_name, number) for number in range(partitions)], timeout=20)
            return sum(max(0, one.offset) for one in found)  # Below 0 stands for none.
        finally:
            consumer.close()

    def close(self) -> None:
        """Kills what is still running."""
        for child in self.workers:
            if child.poll() is None:
                child.kill()
            child.wait()


def settings_of(kafka: str, clickhouse_url: str, database: str, **more: object) -> Settings:
    """Settings with a prefix of their own."""
    fields: dict[str, object] = {
        "kafka": kafka,
        "topic_prefix": f"t-{uuid.uuid4().hex[:8]}",
        "partitions": PARTITIONS,
        "clickhouse_url": clickhouse_url,
        "clickhouse_database": database,
        "sink_interval": 0.2,
    }
    return Settings.model_validate(fields | more)


def closing(pipe: Pipe) -> Iterator[Pipe]:
    """The pipe for a fixture: its workers never outlive the test."""
    try:
        yield pipe
    finally:
        pipe.close()
