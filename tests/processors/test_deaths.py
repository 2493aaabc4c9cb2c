"""Deaths and rebalances between any two steps: alerts, summaries and state are those of a run without faults.

Without a broker every step is tried, one after the other; with a broker and real processes those that have a name.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from runstream_processors.engine import Received
from runstream_processors.knowledge import Knowledge
from runstream_processors.pipeline import Stage
from runstream_processors.series_engine import Batch, SeriesEngine
from runstream_rules import Policy
from runstream_schemas import wire
from runstream_schemas.records import Alert, MetricFrame, MetricGroup, SummaryFrame
from runstream_schemas.topics import writer_key
from tests.processors import test_worker as worker
from tests.processors.dies_at import POINT, POINTS
from tests.processors.stack import Feed, Part, Tail, settings_of
from tests.processors.test_pipeline import learn

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runstream_processors.engine import Entry, Output

Fault = Literal["death", "rebalance"]
TAKE = 4
NOW_MS = 1_000_000


class Killed(Exception):
    """The process is gone: nothing after the step happens."""


@dataclass
class Kafka:
    """What outlives a worker: the table's changelog, what was sent, and the offset that was acknowledged; and the fault that comes at one of the steps."""

    fault: Fault = "death"
    at: int = -1
    step: int = 0
    gone: bool = False
    table: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    alerts: set[tuple[str, int]] = field(default_factory=set[tuple[str, int]])
    summaries: dict[bytes, SummaryFrame] = field(default_factory=dict[bytes, SummaryFrame])
    acknowledged: int = 0
    workers: int = 0

    def next_step(self) -> None:
        """One step further, or into the fault."""
        if self.step == self.at:
            if self.fault == "death":
                self.at = -1
                raise Killed
            self.gone = True
        self.step += 1

    def read(self, key: bytes) -> bytes | None:
        """From the table."""
        return self.table.get(key)

    async def send(self, outputs: Sequence[Output]) -> None:
        """Each output is a step."""
        for one in outputs:
            self.next_step()
            record = wire.decode(one.value or b"")
            if isinstance(record, Alert):
                self.alerts.add((record.alert_id, record.version))
            elif isinstance(record, SummaryFrame):
                self.summaries[one.key] = record

    async def store(self, entries: Sequence[Entry]) -> None:
        """Each entry is a step."""
        for one in entries:
            self.next_step()
            assert one.value is not None
            self.table[one.key] = one.value

    def owned(self) -> bool:
        """Until partitions were taken away; being asked is a step, too."""
        self.next_step()
        return not self.gone


def records_of(rows: int) -> list[Received]:
    """Frames of three writers in turns, three rows each, some of them repeated: values that fire and resolve now and then."""
    generator = np.random.default_rng(7)
    out: list[Received] = []
    for first in range(0, rows, 3):
        for number in range(3):
            seqs = np.arange(first, first + 3, dtype=np.int64)
            group = MetricGroup("training", "", ("loss",), seqs, seqs, NOW_MS + seqs, generator.normal(1.0, 0.6, (3, 1)))
            frame = MetricFrame("run", number + 1, 0, "a", number, "n", "", first, first + 3, 0, (group,))
            out += [Received("t.metric", 0, 0, writer_key(frame.writer), wire.encode(frame))] * (1 + (first % 2))
    return out


RECORDS = records_of(18)


def worked(kafka: Kafka) -> Kafka:
    """All records are worked on by worker after worker, each with nothing but what Kafka holds; one store for two takes, so that a fault has something to undo."""
    while kafka.acknowledged < len(RECORDS):
        known = Knowledge()
        for rule in worker.RULES:
            learn(known, "rule", rule.rule_id.encode(), wire.encode(rule))
        stage = Stage(SeriesEngine(known, Policy(), "t", 0), known, lambda: NOW_MS, 0.0)
        kafka.gone, kafka.workers = False, kafka.workers + 1
        try:
            asyncio.run(asyncio.wait_for(_life(kafka, stage), 20))
        except Killed:
            continue
    return kafka


async def _life(kafka: Kafka, stage: Stage[Batch]) -> None:
    """One worker, until all is acknowledged or its partitions are taken away."""
    taken = kafka.acknowledged
    while taken < len(RECORDS):
        for _ in range(2):
            if not await stage.take(RECORDS[taken : taken + TAKE], kafka):
                return _revoked(kafka)
            taken += TAKE
        if not await stage.store(kafka):
            return _revoked(kafka)
        kafka.next_step()
        if kafka.gone:
            return _revoked(kafka)
        kafka.acknowledged = taken
    return None


def _revoked(kafka: Kafka) -> None:
    kafka.at = -1


UNDISTURBED = worked(Kafka())


@pytest.mark.parametrize("fault", ["death", "rebalance"])
def test_a_fault_at_any_step_changes_nothing(fault: Fault) -> None:
    """Between any two of decide, each output acknowledged, each entry of the state written, and the record acknowledged; in the middle of windows and episodes."""
    assert len(UNDISTURBED.alerts) > 5
    assert UNDISTURBED.step > 50
    for at in range(UNDISTURBED.step):
        found = worked(Kafka(fault, at))
        assert found.workers == 2, "without a fault nothing is proved"
        assert found.alerts == UNDISTURBED.alerts, at
        assert found.table == UNDISTURBED.table, at
        assert found.summaries == UNDISTURBED.summaries, at


@pytest.mark.stack
@pytest.mark.timeout(240)
def test_workers_killed_at_each_point_lose_and_double_nothing(kafka: str, tmp_path: Path) -> None:
    """SIGKILL after deciding, sending, half of a store, all of it, and acknowledging, one worker after the other, each on a machine that knows nothing of the last one; whoever comes
    last finishes, and all is as in a run without faults."""
    settings = settings_of(kafka)
    feed, summaries, alerts = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    feed.raw("rule", [(rule.rule_id.encode(), wire.encode(rule)) for rule in worker.RULES])
    frames = worker.mixed([worker.history(writer) for writer in worker.WRITERS])
    share = len(frames) // (len(POINTS) + 1)
    part: Part | None = None
    try:
        for number, point in enumerate(POINTS):
            feed.frames(frames[number * share : (number + 1) * share])
            folder = tmp_path / point
            folder.mkdir()
            part = Part("worker", settings, folder, module="tests.processors.dies_at", environ={POINT: point})
            assert part.process.wait(60) == -signal.SIGKILL, part.said()
        part = Part("worker", settings, tmp_path)
        feed.frames(frames[len(POINTS) * share :])
        wanted = worker.undisturbed(frames)
        summaries.until(lambda records: worker.all_in(records, worker.WRITERS), timeout_s=60)
        alerts.until(lambda records: worker.ids(records) >= wanted)
        worker.assert_exact(frames, summaries.records, alerts.records)
        assert part.stop() == 0, part.said()
    finally:
        if part is not None:
            part.kill()
        summaries.close()
        alerts.close()
