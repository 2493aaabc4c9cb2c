"""What the stack tests share: topics under a random prefix, records in, records out, and workers as the processes that they are in production."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, Producer, TopicPartition

from runstream_producers.topics import ensure_topics
from runstream_schemas import wire
from runstream_schemas.settings import Settings, environment_of
from runstream_schemas.topics import MESSAGE_BYTES_MAX, TOPICS, writer_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from runstream_schemas.records import MetricFrame, Record
    from runstream_schemas.topics import Name

PARTITIONS = 4


def settings_of(kafka: str, **fields: object) -> Settings:
    """Settings of a deployment of its own, with its topics created."""
    given: dict[str, object] = {"kafka": kafka, "topic_prefix": f"test-{uuid.uuid4().hex[:10]}", "partitions": PARTITIONS}
    settings = Settings.model_validate(given | fields)
    ensure_topics(settings)
    return settings


class Feed:
    """Produces records the way the shipper does: the writer's key, Kafka's own partitioner."""

    def __init__(self, settings: Settings) -> None:
        self._prefix = settings.topic_prefix
        self._producer = Producer({"bootstrap.servers": settings.kafka, "partitioner": "murmur2_random", "acks": "all", "message.max.bytes": MESSAGE_BYTES_MAX})

    def frames(self, frames: Sequence[MetricFrame], name: Name = "metric") -> None:
        """Sends frames; returns when they are acknowledged."""
        self.raw(name, [(writer_key(frame.writer), wire.encode(frame)) for frame in frames])

    def raw(self, name: Name, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Sends keys and values; returns when they are acknowledged."""
        for key, value in records:
            self._producer.produce(TOPICS[name].full_name(self._prefix), key=key, value=value)
        assert self._producer.flush(30) == 0


class Tail:
    """Everything on a topic from its beginning, read again and again without a group."""

    def __init__(self, settings: Settings, name: Name, partitions: int = PARTITIONS) -> None:
        self._consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": f"tail-{uuid.uuid4().hex}", "enable.auto.commit": False})
        topic = TOPICS[name].full_name(settings.topic_prefix)
        self._consumer.assign([TopicPartition(topic, number, 0) for number in range(TOPICS[name].partitions if partitions == 0 else partitions)])
        self.records: list[Record] = []

    def until(self, enough: Callable[[list[Record]], bool], timeout_s: float = 40.0) -> list[Record]:
        """Reads until `enough` is content with what came; fails the test when that takes too long."""
        deadline = time.monotonic() + timeout_s
        while not enough(self.records):
            assert time.monotonic() < deadline, f"not enough after {timeout_s} s: {len(self.records)} records, the last {self.records[-1:]}"
            self.poll(0.1)
        return self.records

    def poll(self, timeout_s: float) -> list[Record]:
        """Reads for at most that long; trouble with the broker is librdkafka's to wait out."""
        for message in self._consumer.consume(500, timeout_s):
            if message.error() is None:
                self.records.append(wire.decode(message.value() or b""))
        return self.records

    def close(self) -> None:
        """Lets go of the broker."""
        self._consumer.close()


class Part:
    """One `python -m runstream_processors` process, or one of another module that is started like it."""

    def __init__(self, part: str, settings: Settings, folder: Path, *, module: str = "runstream_processors", environ: Mapping[str, str] | None = None) -> None:
        self.log = folder / f"{part}-{uuid.uuid4().hex[:6]}.log"
        self.ready_file = self.log.with_suffix(".ready")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
        environment |= environment_of(settings) | {"RUNSTREAM_READY_FILE": str(self.ready_file), "RUNSTREAM_HOME": str(folder)} | dict(environ or {})
        with self.log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, "-m", module, part], env=environment, stdout=log, stderr=log)

    def wait_ready(self, timeout_s: float = 40.0) -> None:
        """Waits for the ready file; fails the test with the process's own words."""
        deadline = time.monotonic() + timeout_s
        while not self.ready_file.exists():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)
        assert self.ready_file.read_text() == "ready\n"

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait(10)

    def stop(self, timeout_s: float = 10.0) -> int:
        """SIGTERM; the exit code, within the time that a part has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-4000:]
