"""The ready-made rules: each fires through the core on rows as programs and our agent log them, and is quiet on a run where all is well."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.simulated_nvml import Gpu, Library, all_fields, installed
from runstream_producers.hardware.gpus import Gpus
from runstream_producers.hardware.node import Node
from runstream_rules.files import read
from runstream_rules.rehearsal import Rehearsal
from runstream_schemas.records import FINAL_VERSION, MetricFrame, MetricGroup, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from runstream_schemas.records import Alert, State

RUN_ID = "0190f0aa-0000-7000-8000-000000000001"
START_MS = 1_700_000_000_000
HARDWARE = 900
RULES = [entry.rule for entry in read([("ready-made", files("runstream_rules").joinpath("ready_made.yaml").read_text(encoding="utf-8"))])]
# A reading every 5 seconds for half an hour.
SAMPLES = 360


def frame(writer: int, rank: int, columns: Mapping[str, NDArray[np.float64]], every_ms: NDArray[np.int64]) -> MetricFrame:
    """Rows with these columns; step is the row's number, times are from the start on."""
    count = len(every_ms)
    seqs = np.arange(count, dtype=np.int64)
    group = MetricGroup("", "", tuple(columns), seqs, seqs, START_MS + every_ms, np.stack(list(columns.values()), axis=1))
    return MetricFrame(RUN_ID, writer, START_MS, "attempt", rank, "node", "digits", 0, count, 0, (group,))


def life(writer: int, rank: int, *, kind: str = "rank", state: State = "finished", version: int = FINAL_VERSION, lived_ms: int = 1_800_000) -> Writer:
    """The newest record of a process of four ranks."""
    return Writer(
        writer=writer,
        run_id=RUN_ID,
        project="digits",
        version=version,
        kind="hardware" if kind == "hardware" else "rank",
        rank=rank,
        local_rank=rank,
        world_size=4,
        node="node",
        host="host",
        pid=1,
        attempt="attempt",
        started_ms=START_MS,
        state=state,
        exit_reason="",
        heartbeat_ms=START_MS + lived_ms,
        next_seq=0,
        rows_logged=0,
        points_logged=0,
    )


def readings() -> dict[str, NDArray[np.float64]]:
    """What the agent reads of a node with two GPUs where all is well, as columns under the names that it gives."""
    with installed(Library([Gpu(f"GPU-{number}", ecc=0, fields=all_fields()) for number in range(2)])):
        one = Gpus().read(0.0).machine | Node().read(0.0).machine | {"memory.utilization": 40.0}
    return {name: np.full(SAMPLES, value) for name, value in one.items()}


def losses(rank: int) -> dict[str, NDArray[np.float64]]:
    """A loss that falls, with some noise."""
    steps = np.arange(1800)
    return {"train/loss": 2.0 * np.exp(-steps / 600.0) + 0.5 + np.random.default_rng(rank).normal(0.0, 0.01, len(steps))}


def judged(
    *,
    hardware: Callable[[dict[str, NDArray[np.float64]]], None] | None = None,
    training: Callable[[int, dict[str, NDArray[np.float64]], NDArray[np.int64]], None] | None = None,
    lives: Callable[[list[Writer]], list[Writer]] = lambda every: every,
) -> list[Alert]:
    """What the ready-made rules say of half an hour of four ranks on one node, changed by what is given."""
    columns = readings()
    if hardware is not None:
        hardware(columns)
    every = lives([life(rank + 1, rank) for rank in range(4)] + [life(HARDWARE, 0, kind="hardware")])
    by_writer = {one.writer: one for one in every}
    rehearsal = Rehearsal(RULES, RUN_ID, "digits", START_MS + 10_000_000)
    rehearsal.writer([frame(HARDWARE, 0, columns, np.arange(SAMPLES, dtype=np.int64) * 5000)], by_writer[HARDWARE])
    for rank in range(4):
        rows, times = losses(rank), np.arange(1800, dtype=np.int64) * 1000
        if training is not None:
            training(rank, rows, times)
        rehearsal.writer([frame(rank + 1, rank, rows, times)], by_writer[rank + 1])
    rehearsal.conclude(every, 300_000)
    assert not rehearsal.failed
    return rehearsal.alerts


def fired(alerts: list[Alert]) -> set[tuple[str, str]]:
    """Rule and metric of what fired."""
    return {(alert.rule_id, alert.metric) for alert in alerts if alert.state == "firing"}


def test_a_run_where_all_is_well_is_quiet() -> None:
    """No rule fires on half an hour of a falling loss, busy GPUs and processes that finish."""
    assert judged() == []


@pytest.mark.parametrize(
    ("name", "at", "value", "rule_id"),
    [
        ('gpu.utilization{device="1"}', 100, 1.0, "ready.gpu-idle"),
        ('gpu.temperature_c{device="0"}', 100, 91.0, "ready.gpu-hot"),
        ('gpu.ecc.uncorrected{device="1"}', 100, 1.0, "ready.gpu-ecc-uncorrected"),
        ('gpu.ecc.corrected{device="1"}', 100, 500.0, "ready.gpu-ecc-corrected"),
        ('gpu.throttled{device="0"}', 100, 1.0, "ready.gpu-throttled"),
        ('gpu.memory.used_percent{device="0"}', 100, 99.5, "ready.gpu-memory-full"),
        ("memory.utilization", 100, 97.0, "ready.memory-full"),
    ],
)
def test_a_reading_that_goes_wrong_fires_its_rule_alone(name: str, at: int, value: float, rule_id: str) -> None:
    """From a reading on, one of the agent's readings is bad, of one device: that rule fires for that device, once, and no other does."""

    def spoil(columns: dict[str, NDArray[np.float64]]) -> None:
        assert name in columns, "the agent reads it under this name"
        columns[name][at:] = value

    alerts = judged(hardware=spoil)
    assert fired(alerts) == {(rule_id, name)}
    assert sum(alert.state == "firing" for alert in alerts) == 1


def test_a_loss_that_is_not_finite() -> None:
    """Fires at the row, on the rank."""

    def spoil(rank: int, rows: dict[str, NDArray[np.float64]], _times: NDArray[np.int64]) -> None:
        if rank == 2:
            rows["train/loss"][700:] = np.nan

    alerts = judged(training=spoil)
    assert fired(alerts) == {("ready.loss-not-finite", "train/loss")}
    assert [(alert.rank, alert.step) for alert in alerts] == [(2, 700)]


def test_a_loss_that_diverges() -> None:
    """Fires once it is more than twice its past."""

    def spoil(rank: int, rows: dict[str, NDArray[np.float64]], _times: NDArray[np.int64]) -> None:
        if rank == 0:
            rows["train/loss"][900:] += np.arange(900) * 0.05

    assert fired(judged(training=spoil)) == {("ready.loss-diverges", "train/loss")}


def test_a_run_that_slows_down() -> None:
    """All ranks take three times as long from one step on: throughput falls, and nobody is a straggler."""

    def spoil(_rank: int, _rows: dict[str, NDArray[np.float64]], times: NDArray[np.int64]) -> None:
        times[800:] = times[800] + np.arange(1000) * 3000

    alerts = judged(training=spoil, lives=lambda every: [life(one.writer, one.rank, kind=one.kind, lived_ms=4_000_000) for one in every])
    assert fired(alerts) == {("ready.throughput-drop", "train/loss")}
    assert {alert.rank for alert in alerts} == {0, 1, 2, 3}


def test_a_straggler() -> None:
    """One rank takes twice as long a step all the time; the alert names it."""

    def spoil(rank: int, rows: dict[str, NDArray[np.float64]], times: NDArray[np.int64]) -> None:
        if rank == 3:
            times *= 2

    alerts = judged(training=spoil, lives=lambda every: [life(one.writer, one.rank, kind=one.kind, lived_ms=3_600_000) for one in every])
    assert ("ready.straggler", "train/loss") in fired(alerts)
    assert {alert.rank for alert in alerts if alert.rule_id == "ready.straggler"} == {3}


@pytest.mark.parametrize("state", ["failed", "crashed", "killed"])
def test_a_run_that_ends_badly(state: State) -> None:
    """One rank's end is enough."""
    alerts = judged(lives=lambda every: [life(one.writer, one.rank, kind=one.kind, state=state if one.writer == 2 else "finished") for one in every])
    assert fired(alerts) == {("ready.run-failed", "")}
    assert [(alert.rank, alert.value) for alert in alerts] == [(1, 1.0)]


def test_a_rank_that_falls_silent() -> None:
    """A machine that went away: silence after two minutes, and then a guessed crash."""
    alerts = judged(
        lives=lambda every: [
            life(one.writer, one.rank, kind=one.kind, state="crashed", version=5) if one.writer == 2 else life(one.writer, one.rank, kind=one.kind)
            for one in every
        ]
    )
    assert fired(alerts) == {("ready.rank-silent", ""), ("ready.run-failed", "")}
