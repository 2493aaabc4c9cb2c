"""Rules across ranks through the engines, and through workers on a real broker."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest

from runstream_processors.engine import Entry, Received
from runstream_processors.fleet_engine import FleetEngine
from runstream_processors.knowledge import Knowledge
from runstream_processors.pipeline import Stage
from runstream_rules import Policy
from runstream_schemas import wire
from runstream_schemas.records import FINAL_VERSION, Alert, Digest, MetricFrame, MetricGroup, Rule
from runstream_schemas.topics import DAY_MS, writer_key
from tests.processors.stack import Feed, Part, Tail, settings_of
from tests.processors.test_pipeline import Lists, learn
from tests.rules.test_lives import RECORD

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runstream_schemas.records import Record, Writer

RUN = "0190f0aa-0000-7000-8000-000000000001"
RANKS, STEPS = 6, 60
SLOW = Rule(rule_id="slow", version=1, time_ms=0, name="slow", kind="straggler", metric="step_s", measure="value", window=10, threshold=1.5)
DOWN = Rule(rule_id="down", version=1, time_ms=0, name="down", kind="run_state", metric="*", states=("failed", "crashed"))


def digest(run_id: str = RUN, **fields: object) -> Digest:
    """Three ranks' figures of one block, and that they run."""
    usual: dict[str, object] = {
        "run_id": run_id,
        "project": "p",
        "writers": (1, 2, 3),
        "ranks": (0, 1, 2),
        "states": ("running",) * 3,
        "attempts": ("a",) * 3,
        "starts": (0,) * 3,
        "heartbeats": (1_000,) * 3,
        "world_sizes": (3,) * 3,
        "rule_ids": ("slow",),
        "rule_versions": (1,),
        "metrics": ("step_s",),
        "contexts": ("",),
        "subjects": ("",),
        "tracks": (0, 0, 0),
        "places": (0, 1, 2),
        "blocks": (0, 0, 0),
        "figures": (1.0, 1.0, 5.0),
        "times": (1_000, 1_000, 1_000),
    }
    return Digest(**(usual | fields))  # pyright: ignore[reportArgumentType]  # the fields are given by name


class World:
    """The second stage with ports backed by lists."""

    def __init__(self) -> None:
        self.known = Knowledge("t")
        for rule in (SLOW, DOWN):
            learn(self.known, "rule", rule.rule_id.encode(), wire.encode(rule))
        self.ports = Lists()
        self.now_ms = 1_000
        self.start()

    def start(self) -> None:
        """As a worker that was started anew."""
        self.stage = Stage(FleetEngine(self.known, Policy(), "t"), self.known, lambda: self.now_ms, 0.0)
        self.stage.recovered([Entry(2, key, value) for key, value in self.ports.table.items()])

    def take(self, *digests: Digest, key: bytes | None = None) -> None:
        """A take."""
        records = [Received("t.digest", 2, 0, key or one.run_id.encode(), wire.encode(one)) for one in digests]
        assert asyncio.run(self.stage.take(records, self.ports))

    def tick(self, *, hears: bool = True) -> None:
        """Time passes."""
        asyncio.run(self.stage.tick(self.ports, hears=hears))

    def store(self) -> None:
        """All that changed is stored."""
        assert asyncio.run(self.stage.store(self.ports))

    def said(self) -> list[tuple[str, str, int]]:
        """Rule, state and rank of what was sent."""
        return [(one.rule_id, one.state, one.rank) for one in self.ports.sent if isinstance(one, Alert)]


class TestEngine:
    def test_digests_become_alerts(self) -> None:
        """A block that all ranks have behind them is judged at once; the state holds it after a restart, and nothing is said twice."""
        world = World()
        world.take(digest())
        assert world.said() == [("slow", "firing", 2)]
        world.store()
        world.start()
        world.take(digest())
        world.take(digest(blocks=(1, 1, 1), figures=(1.0, 1.0, 1.0)))
        assert world.said() == [("slow", "firing", 2), ("slow", "resolved", 2)]

    def test_time_passes_for_runs_in_the_table(self) -> None:
        """A worker that was started anew gives up a rank that it never heard of."""
        world = World()
        world.take(digest(world_sizes=(4, 4, 4)))
        assert world.said() == []
        world.store()
        world.start()
        world.now_ms += 30_000
        world.tick()
        assert world.said() == [("slow", "firing", 2)]

    def test_a_run_that_is_over_goes(self) -> None:
        """A day after its last word its entries go; a run with a living rank stays."""
        world = World()
        world.take(digest(states=("finished",) * 3), digest(run_id="other"))
        world.store()
        world.now_ms += DAY_MS + 1
        world.tick()
        world.store()
        assert {key.split(b"/")[0] for key in world.ports.table} == {b"other"}

    def test_what_is_no_digest_is_skipped(self) -> None:
        """Other records, wrong keys and digests that do not fit themselves stop nothing."""
        world = World()
        world.take(digest(), key=b"other")
        world.take(digest(ranks=(0, 1)), digest())
        assert len(world.said()) == 1


def history(rank: int) -> list[MetricFrame]:
    """A rank's frames: a second a step, and four times that for rank 2 in steps 20 to 39."""
    steps = np.arange(STEPS, dtype=np.int64)
    values = np.where((rank == 2) & (steps >= 20) & (steps < 40), 4.0, 1.0)[:, None]
    now_ms = time.time_ns() // 1_000_000
    out: list[MetricFrame] = []
    for first in range(0, STEPS, 5):
        cut = slice(first, first + 5)
        group = MetricGroup("training", "", ("step_s",), steps[cut], steps[cut], now_ms + steps[cut], values[cut])
        out.append(MetricFrame(RUN, 10 + rank, 1, "a", rank, "n", "p", first, first + 5, 0, (group,)))
    return out


def life(rank: int, **fields: object) -> Writer:
    """What a rank's agent says of it."""
    now_ms = time.time_ns() // 1_000_000
    usual = replace(RECORD, writer=10 + rank, run_id=RUN, rank=rank, world_size=RANKS, started_ms=1, version=now_ms, heartbeat_ms=now_ms, next_seq=STEPS)
    return replace(usual, **fields)


def said(records: Sequence[Record]) -> set[tuple[str, str, int, int]]:
    """Rule, state, rank and step of alerts."""
    return {(one.rule_id, one.state, one.rank, one.step) for one in cast("Sequence[Alert]", records)}


@pytest.mark.stack
@pytest.mark.timeout(180)
def test_ranks_on_a_broker(kafka: str, tmp_path: Path) -> None:
    """Two workers, one of them killed in the middle: the slow rank is found at its step and resolved at its step, once by id; a rank that fails is told of the run."""
    settings = settings_of(kafka)
    feed, alerts = Feed(settings), Tail(settings, "alert")
    for rule in (SLOW, DOWN):
        feed.raw("rule", [(rule.rule_id.encode(), wire.encode(rule))])
    workers = [Part("worker", settings, tmp_path) for _ in range(2)]
    try:
        for worker in workers:
            worker.wait_ready()
        feed.raw("writer", [(writer_key(one.writer), wire.encode(one)) for one in map(life, range(RANKS))])
        frames = [frame for turn in zip(*(history(rank) for rank in range(RANKS)), strict=True) for frame in turn]
        for at in range(0, len(frames), RANKS):
            feed.frames(frames[at : at + RANKS])
            time.sleep(0.05)
            if at == len(frames) // 2:
                workers[0].kill()
        feed.frames(frames[-2 * RANKS :])
        alerts.until(lambda records: len(said(records)) >= 2, timeout_s=60)
        failed = [life(rank, state="failed" if rank == 4 else "finished", version=FINAL_VERSION) for rank in range(RANKS)]
        feed.raw("writer", [(writer_key(one.writer), wire.encode(one)) for one in failed])
        alerts.until(lambda records: len(said(records)) >= 3, timeout_s=60)
        assert said(alerts.records) == {("slow", "firing", 2, 20), ("slow", "resolved", 2, 40), ("down", "firing", 4, 0)}
        assert len({(one.alert_id, one.version) for one in cast("list[Alert]", alerts.records)}) == 3
        assert workers[1].stop() == 0, workers[1].said()
    finally:
        for worker in workers:
            worker.kill()
        alerts.close()
