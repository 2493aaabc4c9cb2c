"""Processor workers for benchmarks: started as in production, and watched from outside by the offsets that they have acknowledged."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from runstream_processors.worker import group_of
from runstream_schemas.settings import environment_of
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from runstream_schemas.settings import Settings
    from runstream_schemas.topics import Name

_LIMIT_S = 120.0
_REQUEST_S = 10.0
WORKER = ("-m", "runstream_processors", "worker")


class Worker:
    """One process in its own session; it is ended with the block."""

    def __init__(self, settings: Settings, folder: Path, argv: Sequence[str] = WORKER) -> None:
        self._ready = folder / f"{settings.topic_prefix}-{time.monotonic_ns()}.ready"
        self._log = self._ready.with_suffix(".log")
        others = {key: value for key, value in os.environ.items() if not key.startswith("RUNSTREAM_")}
        environment = others | environment_of(settings) | {"RUNSTREAM_READY_FILE": str(self._ready), "RUNSTREAM_HOME": str(folder)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen([sys.executable, *argv], env=environment, stdout=log, stderr=log, start_new_session=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.kill()

    def wait_ready(self) -> None:
        """Waits until it takes records."""
        self.wait(self._ready.exists)

    def wait(self, until: Callable[[], bool], look_s: float = 0.01) -> None:
        """Waits for something that this worker brings about; raises TimeoutError with its last words where that does not come, or it ended."""
        deadline = time.perf_counter() + _LIMIT_S
        while not until():
            if self.process.poll() is not None or time.perf_counter() > deadline:
                raise TimeoutError(f"the worker (ended: {self.process.poll()}) is not where it should be after {_LIMIT_S:g} s: {self.said()}")
            time.sleep(look_s)

    def said(self) -> str:
        """The end of its log."""
        return self._log.read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        """SIGTERM; returns when it has ended."""
        self.process.terminate()
        self.process.wait(_LIMIT_S)

    def kill(self) -> None:
        """SIGKILL, where it still runs."""
        self.process.kill()
        self.process.wait()


class Acknowledged:
    """The offsets of a source topic that the workers of a deployment have acknowledged."""

    def __init__(self, settings: Settings, name: Name) -> None:
        self._topic = TOPICS[name].full_name(settings.topic_prefix)
        self._group = group_of(settings.topic_prefix)
        self._consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": self._group, "enable.auto.commit": False})
        self._admin = AdminClient({"bootstrap.servers": settings.kafka})
        self._known = 0
        found = self._consumer.list_topics(self._topic, timeout=_REQUEST_S).topics[self._topic].partitions
        self._places = [TopicPartition(self._topic, number) for number in found]

    def records(self) -> int:
        """How many records are acknowledged, as far as the broker last said."""
        with contextlib.suppress(KafkaException):  # Its coordinator is being found, as after a start.
            self._known = sum(max(place.offset, 0) for place in self._consumer.committed(self._places, timeout=_REQUEST_S))
        return self._known

    def members(self) -> int:
        """How many workers share the partitions."""
        asked = cast("dict[str, Future[Any]]", self._admin.describe_consumer_groups([self._group], request_timeout=_REQUEST_S))  # pyright: ignore[reportUnknownMemberType]  # its stubs say dict
        try:
            group = asked[self._group].result(_REQUEST_S)
        except KafkaException:
            return 0
        return len(group.members) if group.state.name == "STABLE" else 0

    def rate(self, worker: Worker, records: int, look_s: float = 0.05) -> float:
        """Records a second: waits until all of them are acknowledged. Acknowledgements come in steps of a second or so; the rate is that from the first of them to the last but one,
        since the last may have waited for its second with nothing left to do."""
        steps: list[tuple[float, int]] = []
        begun = time.perf_counter()

        def done() -> bool:
            acknowledged = self.records()
            if acknowledged and (not steps or acknowledged > steps[-1][1]):
                steps.append((time.perf_counter(), acknowledged))
            return acknowledged >= records

        worker.wait(done, look_s)
        if len(steps) < 4:
            return records / (steps[-1][0] - begun)
        first, last = steps[0], steps[-2]
        return (last[1] - first[1]) / (last[0] - first[0])

    def close(self) -> None:
        """Lets go of the broker."""
        self._consumer.close()
