"""Kafka to queryable: points a second of one sink worker with frames of 1,000 and of 20 points, broker, engine and worker on the same cores; against `insert_arrow` alone.

Frames are produced beforehand. Time runs from the moment the worker has its partitions until a SELECT counts every point. The bare insert puts the same rows into the
same table over the same client, prepared as Arrow tables beforehand, in chunks as the worker makes them. The two take turns.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Producer

from benchmarks.figures import Bar, Figure
from benchmarks.process_memory import peak_rss_mb
from runstream_local.stack import Stack
from runstream_schemas import topics, wire
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import MetricFrame, MetricGroup
from runstream_schemas.settings import load
from runstream_sinks.clickhouse import Server
from runstream_sinks.points import PointRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_schemas.settings import Settings

_NAMES = tuple(f"train/layer_{number}/grad_norm" for number in range(20))
_WRITERS = 8
_ROUNDS = 3
_START_MS = 1_790_000_000_000
_TOPIC = topics.TOPICS["metric"]
_TABLE = "metric_points"
_LIMIT_S = 120.0
_LOOK_S = 0.05


def make_frames(points: int, rows: int, seed: int, names: Sequence[str] = _NAMES) -> Iterator[MetricFrame]:
    """Frames of 20 names (or others) and so many rows, of eight ranks in turn: readings with noise, as float32 widened to doubles, 100 ms apart."""
    keys = tuple(names)
    random = np.random.default_rng(seed)
    run_id = new_uuid()
    for number in range(points // (rows * len(keys))):
        rank = number % _WRITERS
        seqs = np.arange(rows) + rows * (number // _WRITERS)
        values = random.normal(1.0, 0.1, (rows, len(keys))).astype(np.float32).astype(np.float64)
        times = _START_MS + 100 * seqs + random.integers(0, 5, rows)
        group = MetricGroup("training", "", keys, seqs, seqs, times, values)
        head = (run_id, 1 + rank + 100 * seed, _START_MS, "attempt", rank, "node-0", "benchmarks")
        yield MetricFrame(*head, int(seqs[0]), int(seqs[-1]) + 1, 0, (group,))


def produce(settings: Settings, frames: Sequence[MetricFrame]) -> None:
    """Writes frames to their topic; all are held by the broker when it returns."""
    producer = Producer({"bootstrap.servers": settings.kafka, "acks": "all", "partitioner": "murmur2_random", "linger.ms": 5, "log.connection.close": False})
    topic = _TOPIC.full_name(settings.topic_prefix)
    for frame in frames:
        value, key = wire.encode(frame), topics.writer_key(frame.writer)
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(_LIMIT_S):
        raise TimeoutError("Kafka did not take the frames of the benchmark")


@dataclass
class Bench:
    """A stack, and what was measured on it so far: points a second of each round by what was done."""

    settings: Settings
    environment: dict[str, str]
    server: Server
    folder: Path
    peak_rss_mb: float = 0.0
    rates: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    workers: int = 0

    def rate(self, name: str) -> float:
        """Points a second of the median round."""
        return statistics.median(self.rates[name])

    def ratio(self, name: str, over: str) -> float:
        """The median of the rounds' ratios: what is compared took turns, since a shared machine is faster at one moment than at the next."""
        return statistics.median(one / other for one, other in zip(self.rates[name], self.rates[over], strict=True))

    def note(self, name: str, points: int, seconds: float) -> None:
        """Adds a round."""
        self.rates.setdefault(name, []).append(points / seconds)

    def empty(self) -> None:
        """The next round begins with an empty table and nothing to merge."""
        self.server.command(f"TRUNCATE TABLE {_TABLE}")

    def sink(self, name: str, points: int) -> None:
        """One worker, from having its partitions until all is queryable."""
        self.workers += 1
        ready = self.folder / f"ready-{self.workers}"
        with (self.folder / f"worker-{self.workers}.log").open("wb") as log:
            argv = [sys.executable, "-m", "runstream_sinks", "worker"]
            worker = subprocess.Popen(argv, env=self.environment | {"RUNSTREAM_READY_FILE": str(ready)}, stdout=log, stderr=log)
        try:
            deadline = time.perf_counter() + _LIMIT_S
            while not ready.exists():
                self._look(deadline, worker)
            begun = time.perf_counter()
            while self.server.query(f"SELECT count() FROM {_TABLE}")[0][0] < points:
                self._look(deadline, worker)
                time.sleep(_LOOK_S)
            self.note(name, points, time.perf_counter() - begun)
            self.peak_rss_mb = max(self.peak_rss_mb, peak_rss_mb(worker.pid))
            if (shown := self.server.query("SELECT count() FROM metrics")[0][0]) != points:
                raise AssertionError(f"{points:,} points were sent and {shown:,} can be read")
            worker.terminate()
            worker.wait(timeout=30)
        finally:
            worker.kill()
            worker.wait()

    def _look(self, deadline: float, worker: subprocess.Popen[bytes]) -> None:
        if worker.poll() is not None or time.perf_counter() > deadline:
            said = (self.folder / f"worker-{self.workers}.log").read_text(errors="replace")
            raise TimeoutError(f"the worker did not store everything within {_LIMIT_S:g} s: {said[-2000:]}")
        time.sleep(0.005)

    def bare(self, name: str, frames: Sequence[MetricFrame]) -> None:
        """The same rows, prepared, over one connection."""
        tables: list[object] = []
        rows = PointRows()
        for frame in frames:
            rows.add(frame)
            if rows.rows >= self.settings.sink_rows:
                tables.append(rows.table())
                rows = PointRows()
        if rows.rows:
            tables.append(rows.table())
        begun = time.perf_counter()
        for table in tables:
            self.server.insert(_TABLE, table)
        self.note(name, sum(frame.points for frame in frames), time.perf_counter() - begun)


def run(seconds: float) -> Iterator[Figure]:
    """Rates by size of frame, the first over a bare insert, and the worker's memory."""
    # Enough that starting, and the last chunk's wait for more, are small beside the rest.
    points = int(seconds * 1_000_000) // 160_000 * 160_000 or 160_000
    few = points // 2 // 160_000 * 160_000 or 160_000
    with (
        tempfile.TemporaryDirectory(prefix="runstream-benchmark-", ignore_cleanup_errors=True) as name,
        Stack(data=Path(name) / "stack", parts=("kafka", "clickhouse", "topics", "migrate")) as stack,
    ):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RUNSTREAM_")} | stack.environment
        settings = load(environ=environment)
        bench = Bench(settings, environment, Server(settings.clickhouse_url, settings.clickhouse_database), Path(name))
        for number in range(_ROUNDS):
            frames = list(make_frames(points, 50, seed=2 * number))
            produce(settings, frames)
            bench.empty()
            bench.sink("1000", points)
            bench.empty()
            bench.bare("bare", frames)
            produce(settings, list(make_frames(few, 1, seed=2 * number + 1)))
            bench.empty()
            bench.sink("20", few)
        bench.server.close()
    yield Figure("points_s_1000", bench.rate("1000"), "points/s", _ROUNDS, Bar(">=", 1e6))
    yield Figure("bare_insert_points_s", bench.rate("bare"), "points/s", _ROUNDS)
    yield Figure("of_bare_insert", bench.ratio("1000", "bare"), "ratio", _ROUNDS, Bar(">=", 0.5))
    yield Figure("points_s_20", bench.rate("20"), "points/s", _ROUNDS)
    yield Figure("small_frame_ratio", bench.ratio("20", "1000"), "ratio", _ROUNDS, Bar(">=", 0.25))
    yield Figure("peak_rss_mb", bench.peak_rss_mb, "MiB", bench.workers, Bar("<=", 1000.0))
