"""A place on the real broker for one test: topics of a random prefix, a journal folder, settings in the environment, and no agent left behind."""

# confluent_kafka's stubs leave its answers open.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from runstream_producers.agent import LOCK_NAME
from runstream_producers.claims import holder
from runstream_producers.paths import agent_folder
from runstream_producers.topics import ensure_topics
from runstream_schemas import records as rec
from runstream_schemas import wire
from runstream_schemas.settings import Settings, load
from tests.waiting import wait_for

R = TypeVar("R", bound=rec.Record)


@dataclass
class Place:
    """Topics and journals of one test."""

    kafka: str
    prefix: str
    journals: Path
    environ: dict[str, str]
    # Descriptors of processes by their ids: an id alone may be another process's by the time that it is to be ended.
    agents: dict[int, int] = field(default_factory=dict[int, int])

    @property
    def settings(self) -> Settings:
        """The settings as a rank reads them."""
        return load(environ=self.environ)

    @property
    def folder(self) -> Path:
        """The agent's folder."""
        return agent_folder(self.settings)

    def agent(self) -> int:
        """The process id of the agent that holds the folder; 0 for none."""
        pid = holder(self.folder / LOCK_NAME)
        if pid > 0:
            self.note(pid)
        return pid

    def note(self, pid: int) -> None:
        """Notes an agent, which is ended with the others at the latest."""
        with contextlib.suppress(ProcessLookupError):
            if pid not in self.agents:
                self.agents[pid] = os.pidfd_open(pid)

    def wait_for_agent(self, *, other_than: int = 0) -> int:
        """The process id of an agent, waited for; never 0, which would mean everybody to whom a signal is sent."""
        seen = [0]
        wait_for(lambda: seen.append(self.agent()) or seen[-1] not in (0, other_than), 20, lambda: f"an agent on {self.folder}: {self.log()}")
        return seen[-1]

    def log(self, chars: int = 4000) -> str:
        """The end of the agents' log."""
        path = self.folder / "agent.log"
        return path.read_text(errors="replace")[-chars:] if path.exists() else "no log"

    def read(self, topic: str, kind: type[R], timeout_s: float = 20.0) -> list[R]:
        """All records of a topic as of now, in the order of each partition."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": uuid.uuid4().hex, "auto.offset.reset": "earliest", "enable.auto.commit": False})
        found: list[R] = []
        try:
            name = f"{self.prefix}.{topic}"
            partitions = list(consumer.list_topics(name, timeout=timeout_s).topics[name].partitions)
            ends = {one: _end(consumer, TopicPartition(name, one), timeout_s) for one in partitions}
            consumer.assign([TopicPartition(name, one, 0) for one in partitions])
            deadline = time.monotonic() + timeout_s
            # Compaction and markers leave holes, so the place is asked for and not the count.
            while any(consumer.position([TopicPartition(name, one)])[0].offset < end for one, end in ends.items() if end > 0):
                assert time.monotonic() < deadline, f"{name} was not read within {timeout_s} s"
                for message in consumer.consume(500, 0.1):
                    value = message.value()
                    assert message.error() is None
                    assert isinstance(value, bytes)
                    record = wire.decode(value)
                    assert isinstance(record, kind)
                    found.append(record)
        finally:
            consumer.close()
        return found

    def last_states(self) -> dict[int, rec.Writer]:
        """The record of each writer that holds."""
        states: dict[int, rec.Writer] = {}
        for one in self.read("writer", rec.Writer):
            if one.writer not in states or one.version >= states[one.writer].version:
                states[one.writer] = one
        return states

    def end(self) -> None:
        """Waits for the agents to end by themselves, as they must once nothing is left to do."""
        deadline = time.monotonic() + 15
        while self.agent() and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.agent()
        log = self.log()
        self._kill()
        assert left == 0, f"an agent was left: {log}"

    def kill_agents(self) -> None:
        """Ends the agents for good, where what is left of their work is no matter."""
        self.agent()
        self._kill()
        wait_for(lambda: self.agent() == 0, 5, "the agents to be gone")

    def _kill(self) -> None:
        while self.agents:
            _, descriptor = self.agents.popitem()
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            os.close(descriptor)


def _end(consumer: Consumer, partition: TopicPartition, timeout_s: float) -> int:
    """The end of a partition, asked again while its topic is so new that its leader does not know it yet."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return consumer.get_watermark_offsets(partition, timeout=timeout_s)[1]
        except KafkaException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def place_of(kafka: str, folder: Path, **settings: str) -> Place:
    """A place whose settings stand in its own `environ` alone, for processes that are started with it; makes no topics."""
    chosen = {
        "home": str(folder / "home"),
        "journal_dir": str(folder / "journals"),
        "topic_prefix": f"t-{uuid.uuid4().hex[:8]}",
        "kafka": kafka,
        "partitions": "2",
        "agent_idle_timeout": "0.5",
        "hardware_interval": "0",
        "segment_bytes": "65536",
        "batch_size": "16384",
        "capture": "all,-packages",  # Which are params, and hundreds of texts in each of them.
        **settings,
    }
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
    environ |= {f"RUNSTREAM_{name.upper()}": value for name, value in chosen.items()}
    return Place(kafka, chosen["topic_prefix"], Path(chosen["journal_dir"]), environ)


def settle(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **settings: str) -> Place:
    """A place whose settings stand in this process's environment; makes no topics."""
    place = place_of(kafka, tmp_path, **settings)
    for name in [name for name in os.environ if name.startswith("RUNSTREAM_")]:
        monkeypatch.delenv(name)
    for name, value in place.environ.items():
        if name.startswith("RUNSTREAM_"):
            monkeypatch.setenv(name, value)
    return place


def settled(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place with its topics, and no agent left at its end."""
    place = settle(kafka, tmp_path, monkeypatch)
    ensure_topics(place.settings)
    try:
        yield place
    finally:
        place.end()
