"""What a lost worker costs: how long its partitions stand still, how long it takes to read its state back, and how much memory a series takes.

Takeover: one of two workers is killed hard while records flow; time runs until records of every partition that were written after the kill are acknowledged. Restore: a worker starts
with nothing but the changelogs, as on another machine; time runs from the start of the process until it has decided and acknowledged a record that waited for it. Memory is what that
worker takes beyond one that has no state, a few seconds after its last record, when it keeps what it needs.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks.broker import bare_broker
from benchmarks.figures import Bar, Figure
from benchmarks.sink import produce
from benchmarks.workers import Acknowledged, Worker
from runstream_producers.topics import ensure_topics
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import MetricFrame, MetricGroup
from runstream_schemas.settings import Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_PARTITIONS = 4
_NAMES = 1000
_START_MS = 1_790_000_000_000
_FLEET = 64
_FEED_S = 0.1
_SIZES = {"100k": (100_000, 10.0), "1m": (1_000_000, 60.0)}
_LIMIT_S = 120.0
_SETTLED_S = 12.0  # A worker gives memory that holds nothing back to the system every few seconds.


class _Fleet:
    """Ranks of one run that all log the same names, a row at a time."""

    def __init__(self, settings: Settings, writers: int, names: int) -> None:
        self._settings = settings
        self._run_id = new_uuid()
        self._writers = writers
        self._names = tuple(f"train/layer_{number}/grad_norm" for number in range(names))
        self._values = np.random.default_rng(0).normal(1.0, 0.1, (1, names))
        self._seq = 0
        self.sent = 0

    def log(self, writers: int | None = None) -> None:
        """One row of each writer, or of the first few."""
        count = writers or self._writers
        seqs = np.array([self._seq])
        group = MetricGroup("training", "", self._names, seqs, seqs, _START_MS + seqs, self._values)
        head = (_START_MS, "attempt")
        produce(
            self._settings,
            [MetricFrame(self._run_id, 1 + rank, *head, rank, "node-0", "benchmarks", self._seq, self._seq + 1, 0, (group,)) for rank in range(count)],
        )
        self._seq += 1
        self.sent += count


def _takeover_s(settings: Settings, folder: Path) -> float:
    """Seconds from the kill of one of two workers until everything that was sent by then, and a row of each writer after it, is acknowledged."""
    fleet = _Fleet(settings, _FLEET, 20)
    acknowledged = Acknowledged(settings, "metric")
    try:
        with Worker(settings, folder) as first, Worker(settings, folder) as second:
            for one in (first, second):
                one.wait_ready()
            shared = time.perf_counter() + _LIMIT_S
            while acknowledged.members() < 2 or acknowledged.records() < _FLEET:
                if time.perf_counter() > shared:
                    raise TimeoutError(f"two workers do not share the partitions: {first.said()}")
                fleet.log()
                time.sleep(_FEED_S)
            killed = time.perf_counter()
            first.kill()
            fleet.log()
            second.wait(lambda: acknowledged.records() >= fleet.sent, 0.05)
            return time.perf_counter() - killed
    finally:
        acknowledged.close()


def _rss(worker: Worker) -> int:
    rss: int = psutil.Process(worker.process.pid).memory_info().rss
    return rss


def _restore(settings: Settings, folder: Path, series: int) -> tuple[float, float]:
    """Seconds until a worker on a machine of its own has its state and goes on, and the bytes of memory that a series takes there."""
    fleet = _Fleet(settings, series // _NAMES, _NAMES)
    acknowledged = Acknowledged(settings, "metric")
    try:
        with Worker(settings, folder) as worker:
            worker.wait_ready()
            empty = _rss(worker)
            fleet.log()
            worker.wait(lambda: acknowledged.records() >= fleet.sent, 0.05)
            worker.stop()
        fleet.log(1)
        begun = time.perf_counter()
        with Worker(settings, folder) as worker:
            worker.wait(lambda: acknowledged.records() >= fleet.sent, 0.05)
            took_s = time.perf_counter() - begun
            fleet.log()  # All states are unpacked, as in a worker that has worked for a while.
            worker.wait(lambda: acknowledged.records() >= fleet.sent, 0.05)
            time.sleep(_SETTLED_S)
            return took_s, (_rss(worker) - empty) / series
    finally:
        acknowledged.close()


def run(seconds: float) -> Iterator[Figure]:
    """Each once, whatever the seconds: they are long enough."""
    sizes = _SIZES if seconds >= 1.0 else {"100k": (_NAMES, 10.0)}
    with bare_broker() as (environment, folder):

        def deployment(prefix: str) -> Settings:
            settings = load({"topic_prefix": f"{environment['RUNSTREAM_TOPIC_PREFIX']}-{prefix}", "partitions": _PARTITIONS}, environment)
            ensure_topics(settings)
            return settings

        yield Figure("takeover_s", _takeover_s(deployment("takeover"), folder), "s", 1, Bar("<=", 15.0))
        bytes_series = 0.0
        for size, (series, bar_s) in sizes.items():
            restore_s, bytes_series = _restore(deployment(size), folder, series)
            yield Figure(f"restore_{size}_series_s", restore_s, "s", 1, Bar("<=", bar_s))
        yield Figure("bytes_series", bytes_series, "bytes", 1, Bar("<=", 400.0))
