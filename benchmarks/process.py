"""One processor worker on a full topic: points a second with a hundred rules and without any, and small frames over an agent that only decodes.

Records are produced beforehand; time runs over the offsets that the worker acknowledges, so over everything that it does: fetching, decoding, deciding, sending summaries, storing
state. Broker and worker share the machine's cores. What is compared takes turns.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from benchmarks.broker import bare_broker
from benchmarks.data.rule_mix import WATCHED, rules
from benchmarks.figures import Bar, Figure
from benchmarks.sink import make_frames, produce
from benchmarks.workers import WORKER, Acknowledged, Worker
from runstream_feed.connection import connection_of
from runstream_processors.admin import ensure_changelogs, partition_counts
from runstream_processors.engine import Received
from runstream_processors.faust_options import Timing
from runstream_processors.faust_runner import FaustRunner, Source, changelog_of
from runstream_processors.knowledge import Knowledge
from runstream_processors.series_engine import SeriesEngine
from runstream_processors.worker import group_of
from runstream_producers.topics import ensure_topics
from runstream_rules import Policy
from runstream_schemas import wire
from runstream_schemas.settings import Settings, load
from runstream_schemas.topics import TOPICS, writer_key

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_processors.engine import Entry
    from runstream_processors.pipeline import Ports
    from runstream_schemas.records import MetricFrame

_PARTITIONS = 4
_WIDE = (*(f"train/layer_{number}/grad_norm" for number in range(999)), WATCHED)
_NARROW = (*_WIDE[:19], WATCHED)
_SHAPES = {"20x50": (_NARROW, 50), "1000x1": (_WIDE, 1)}
_SMALL = (_NARROW, 1)
_RATE = 1.5e6  # Points a second that are provided for.
_SMALL_RATE = 8000.0
_TAKE = 500
_NOW_MS = 1_790_000_000_000
_LIMIT_S = 60.0


class _Decoder:
    """A stage that decodes and does nothing else."""

    due = True

    async def take(self, records: Sequence[Received], ports: Ports) -> bool:
        for record in records:
            wire.decode(record.value or b"")
        return ports.owned()

    async def tick(self, ports: Ports, *, hears: bool) -> None:
        pass

    async def store(self, ports: Ports) -> bool:
        return ports.owned()

    def forget(self) -> None:
        pass

    def recovered(self, entries: Sequence[Entry]) -> None:
        pass


async def _decode_only(settings: Settings) -> None:
    """Runs the decoder under Faust until it is ended."""
    connection, group, topic = connection_of(settings), group_of(settings.topic_prefix), TOPICS["metric"].full_name(settings.topic_prefix)
    counts = partition_counts(connection, [topic], _LIMIT_S)
    ensure_changelogs(connection, {changelog_of(group, "metric"): counts[topic]}, _LIMIT_S)
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    with tempfile.TemporaryDirectory(dir=settings.home) as scratch:
        runner = FaustRunner(connection, group, [Source("metric", topic, counts[topic], _Decoder())], Timing(), Path(scratch))
        await runner.start()
        while not (runner.failed.is_set() or asked.is_set()):
            if runner.ready and settings.ready_file is not None:
                settings.ready_file.write_text("ready\n", encoding="utf-8")
            runner.pulse()
            await asyncio.sleep(0.1)
        await runner.stop(5.0)


class _Bench:
    """A broker, and deployments on it that each have a topic of their own."""

    def __init__(self, environment: dict[str, str], folder: Path) -> None:
        self._environment = environment
        self._folder = folder
        self._deployments = 0

    def records_s(self, frames: Sequence[MetricFrame], *, watched: bool, argv: Sequence[str] = WORKER) -> float:
        """Records a second of one worker on these frames."""
        self._deployments += 1
        settings = load({"topic_prefix": f"{self._environment['RUNSTREAM_TOPIC_PREFIX']}-{self._deployments}", "partitions": _PARTITIONS}, self._environment)
        ensure_topics(settings)
        if watched:
            producer = Producer({"bootstrap.servers": settings.kafka, "acks": "all", "partitioner": "murmur2_random"})
            for rule in rules():
                producer.produce(TOPICS["rule"].full_name(settings.topic_prefix), wire.encode(rule), rule.rule_id.encode())
            producer.flush(_LIMIT_S)
        produce(settings, frames)
        acknowledged = Acknowledged(settings, "metric")
        try:
            with Worker(settings, self._folder, argv) as worker:
                worker.wait_ready()
                return acknowledged.rate(worker, len(frames))
        finally:
            acknowledged.close()


def _core_ns(frames: Sequence[MetricFrame]) -> float:
    """Nanoseconds a point of the core alone: the engine on records as a take hands them over, decoding and states included, without Kafka and Faust."""
    records = [Received("metric", frame.writer % _PARTITIONS, at, writer_key(frame.writer), wire.encode(frame)) for at, frame in enumerate(frames)]
    knowledge = Knowledge()
    for rule in rules():
        refused = knowledge.book.learn(rule)
        assert refused is None, refused
    engine = SeriesEngine(knowledge, Policy(), "benchmark", 0)
    table: dict[bytes, bytes | None] = {}
    begun = time.perf_counter()
    for start in range(0, len(records), _TAKE):
        for batch in engine.sort(records[start : start + _TAKE]):
            engine.decide(batch, table.get, _NOW_MS)
        engine.concluded()
    for part in engine.checkpoints(_NOW_MS):
        engine.settled(part)
    return (time.perf_counter() - begun) / sum(frame.points for frame in frames) * 1e9


def run(seconds: float) -> Iterator[Figure]:
    """The worse of the two shapes of frames, with rules and over no rules; small frames; the core alone."""
    rounds = max(1, round(seconds / 6))
    each_s = seconds / rounds
    points_s: dict[str, list[float]] = {shape: [] for shape in _SHAPES}
    of_none: dict[str, list[float]] = {shape: [] for shape in _SHAPES}
    small: list[float] = []
    decoding: list[float] = []
    decoder = ("-m", "benchmarks.process")
    with bare_broker() as (environment, folder):
        bench = _Bench(environment, folder)
        for number in range(rounds):
            for shape, (names, rows) in _SHAPES.items():
                made = functools.partial(make_frames, int(_RATE * each_s), rows, names=names)
                frames = list(made(seed=10 * number))
                without = bench.records_s(frames, watched=False)
                watched = bench.records_s(frames, watched=True)
                points_s[shape].append(watched * len(names) * rows)
                of_none[shape].append(watched / without)
            frames = list(make_frames(int(_SMALL_RATE * each_s) * len(_NARROW), 1, seed=10 * number + 1, names=_NARROW))
            decoding.append(bench.records_s(frames, watched=False, argv=decoder))
            small.append(bench.records_s(frames, watched=True))
    for shape in _SHAPES:
        yield Figure(f"points_s_{shape}", statistics.median(points_s[shape]), "points/s", rounds)
    yield Figure("points_s", min(statistics.median(one) for one in points_s.values()), "points/s", rounds, Bar(">=", 1e6))
    yield Figure("of_no_rules", min(statistics.median(one) for one in of_none.values()), "ratio", rounds, Bar(">=", 0.7))
    yield Figure("records_s_20", statistics.median(small), "records/s", rounds)
    yield Figure("small_frame_ratio", statistics.median(one / other for one, other in zip(small, decoding, strict=True)), "ratio", rounds, Bar(">=", 0.5))
    for shape, (names, rows) in _SHAPES.items():
        yield Figure(f"core_ns_point_{shape}", _core_ns(list(make_frames(1_000_000, rows, seed=5, names=names))), "ns", 1)


if __name__ == "__main__":
    argparse.ArgumentParser(description="The agent that only decodes; settings come from the environment.").parse_args()
    asyncio.run(_decode_only(load()))
    sys.exit(0)
