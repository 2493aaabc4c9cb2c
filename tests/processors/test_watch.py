"""What a worker shows of itself: figures of its engines and its runner, and health that turns red when offsets stand still while records wait."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runstream_local.ports import HOST, choose_port
from runstream_processors.engine import Place
from runstream_processors.metrics import PREFIX, Metrics, Reading
from runstream_processors.watch import TURN_S_MAX, Watch
from runstream_schemas.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
A, B = Place("t.metric", 0), Place("t.metric", 1)


@dataclass
class Runner:
    """What a runner says of itself, set by hand."""

    counts: dict[tuple[str, str], int] = field(default_factory=lambda: {("records", "metric"): 7, ("rebalances", "assigned"): 1})
    acknowledged: dict[Place, int] = field(default_factory=lambda: {A: 5, B: 3})
    ends: dict[Place, int] = field(default_factory=lambda: {A: 5, B: 3})
    ends_at_s: float = 0.0
    newest_s: dict[Place, float] = field(default_factory=lambda: dict[Place, float]())
    state_bytes: dict[str, int] = field(default_factory=lambda: {"metric": 4096})
    pending_bytes: dict[str, int] = field(default_factory=lambda: {"metric": 0})


class World:
    """A watch with a clock that is set by hand, and its page."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.runner = Runner()
        self.port = choose_port()
        settings = Settings(metrics_port=self.port, metrics_host=HOST, stall_after=60.0)
        self.counted = Counter({"points": 40, "rules_evaluated": 9, "not shown": 1})
        self.watch = Watch(settings, {"metric": self.counted}, clock=lambda: self.now_s)

    def turn(self, seconds: float, *, asked: bool = True) -> None:
        """Time passes, the loop turns, and Kafka was asked where partitions end."""
        self.now_s += seconds
        if asked:
            self.runner.ends_at_s = self.now_s
        self.watch.turn(self.runner, rules=2)

    def get(self, path: str) -> tuple[int, str]:
        """A page and its status."""
        try:
            with urlopen(f"http://{HOST}:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def figure(self, text: str) -> float:
        """One figure, named with its labels."""
        lines = self.get("/metrics")[1].splitlines()
        return float(next(line for line in lines if line.startswith(f"{PREFIX}_{text} ")).rpartition(" ")[2])


@pytest.fixture
def world() -> Iterator[World]:
    """A watch that serves its page."""
    made = World()
    yield made
    made.watch.close()


def test_figures_of_engines_and_runner_are_on_the_page(world: World) -> None:
    """Counts by source, lags by partition, bytes of state; what nobody has named is not shown."""
    world.turn(1.0)
    world.runner.ends = {A: 5, B: 10}
    world.turn(3.0)
    world.counted["points"] += 2
    world.turn(1.0)
    assert world.figure('records_total{source="metric"}') == 7
    assert world.figure('points_total{source="metric"}') == 42
    assert world.figure('rules_evaluated_total{source="metric"}') == 9
    assert world.figure('rebalances_total{kind="assigned"}') == 1
    assert world.figure('state_bytes{source="metric"}') == 4096
    assert world.figure('lag_records{partition="0",topic="t.metric"}') == 0
    assert world.figure('lag_records{partition="1",topic="t.metric"}') == 7
    assert world.figure('lag_seconds{partition="1",topic="t.metric"}') == 4
    assert world.figure("partitions") == 2
    assert world.figure("rules") == 2
    assert "not shown" not in world.get("/metrics")[1]
    assert f"{PREFIX}_seconds_since_commit" not in world.get("/metrics")[1]
    world.runner.acknowledged = {A: 5, B: 10}
    world.turn(1.0)
    world.turn(2.0)
    assert world.figure("seconds_since_commit") == 2


def test_health_is_red_while_offsets_stand_still_and_records_wait(world: World) -> None:
    """Green while all is read and while it gets on, however slowly; red past the bound, with the partition's name; green again when it goes on or another has the partition."""
    assert world.get("/healthz")[0] == 503
    world.watch.waits("the rules are read")
    assert world.get("/healthz") == (503, "the rules are read\n")
    world.turn(1.0)
    assert world.get("/healthz") == (200, "ok\n")
    world.turn(500.0)
    assert world.get("/healthz")[0] == 200
    world.runner.ends = {A: 5, B: 10}
    world.turn(1.0)
    world.turn(50.0)
    assert world.get("/healthz")[0] == 200
    world.runner.acknowledged = {A: 5, B: 4}
    world.turn(15.0)
    assert world.get("/healthz")[0] == 200
    world.turn(61.0)
    status, reason = world.get("/healthz")
    assert status == 503
    assert "1 of 2 partitions stand still while records wait, partition 1 of t.metric" in reason
    world.runner.acknowledged = {A: 5}
    world.turn(1.0)
    assert world.get("/healthz")[0] == 200


def test_health_is_red_when_kafka_or_the_loop_says_nothing(world: World) -> None:
    """A loop that hangs cannot say so itself: the page looks at the clock."""
    world.turn(1.0)
    world.turn(100.0, asked=False)
    assert "has not said" in world.get("/healthz")[1]
    world.turn(1.0)
    assert world.get("/healthz")[0] == 200
    world.now_s += TURN_S_MAX + 1.0
    assert "has not turned" in world.get("/healthz")[1]


def test_every_figure_is_explained() -> None:
    """The table of docs/operations.md has the figures that a worker serves, and no others."""
    metrics = Metrics()
    metrics.reading = Reading(since_commit_s=1.0)
    families = [family for family in text_string_to_metric_families(metrics.page().decode()) if family.name.startswith(PREFIX)]
    served = {family.name.removeprefix(f"{PREFIX}_") + ("_total" if family.type == "counter" else "") for family in families}
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition("## Figures of the processors\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == served
