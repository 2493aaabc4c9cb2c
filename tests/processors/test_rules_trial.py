"""`runstream rules test --run` against what the Faust worker really fired for the same run, and what it says of what cannot be judged."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from runstream_rules.files import read
from runstream_schemas import wire
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import FINAL_VERSION, Alert, MetricFrame, MetricGroup, SummaryFrame, Writer
from runstream_schemas.settings import environment_of
from runstream_schemas.topics import writer_key
from runstream_sinks.clickhouse import Server
from tests.processors.commands import command, fine
from tests.processors.stack import Feed, Part, Tail, settings_of
from tests.sinks import examples
from tests.sinks.test_tables import insert

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runstream_schemas.records import Record

pytestmark = [pytest.mark.stack, pytest.mark.timeout(180)]

RANKS, ROWS, QUIET_FROM = 3, 400, 300
HARDWARE = 90
# Hours ago would be late; every row is a second after the one before it.
STARTED_MS = (time.time_ns() // 1_000_000_000 - 900) * 1000
# Workers wait for ranks by their own clock; on a machine that is busy they must not give up.
RULES = """
rules:
  - {name: spike, kind: threshold, metric: train/loss, operator: ">", threshold: 3, clear: 1, for: 5s, cooldown: 20s}
  - {name: mean, kind: aggregate, metric: "train/*", aggregate: mean, window_s: 60, operator: ">", threshold: 2}
  - {name: median, kind: aggregate, metric: train/loss, aggregate: median, window: 9, operator: ">", threshold: 1.2, context: training}
  - {name: jump, kind: change, metric: train/loss, threshold: 0.5, direction: up}
  - {name: odd, kind: zscore, metric: train/loss, threshold: 4, project: digits}
  - {name: nan, kind: non_finite, metric: "*", rank: 1, severity: critical}
  - {name: flat, kind: plateau, metric: train/loss, goal: min, window: 50, threshold: 0.01}
  - {name: rising, kind: divergence, metric: train/loss, window: 5}
  - {name: slow, kind: throughput, metric: step_seconds, window: 10, baseline: 60, threshold: 0.3}
  - {name: no eval, kind: stale, metric: eval, window_s: 30}
  - {name: straggler, kind: straggler, metric: step_seconds, measure: value, window: 10, window_s: 5m, threshold: 1.5}
  - {name: apart, kind: disagreement, metric: grad, measure: relative, threshold: 0.01, window: 10, window_s: 5m}
  - {name: failed, kind: run_state, states: [failed, crashed]}
  - {name: hot, kind: threshold, metric: "gpu.temperature_c{*}", operator: ">=", threshold: 85}
  - {name: elsewhere, kind: threshold, metric: train/loss, operator: ">", threshold: 0, project: other}
  - {name: nothing, kind: threshold, metric: absent, operator: ">", threshold: 0}
"""
FLEET = ("straggler", "apart", "failed")


def frames(run_id: str) -> list[MetricFrame]:
    """Rows of three ranks and of one node's readings, with something for every rule; some of them in two groups of names, in frames of 25 rows."""
    out: list[MetricFrame] = []
    seqs = np.arange(ROWS, dtype=np.int64)
    for rank in range(RANKS):
        random = np.random.default_rng(rank)
        loss = 1.0 + random.normal(0.0, 0.05, ROWS)
        loss[120:150] += 3.0 * (rank == 0)
        loss[200:203] = np.nan
        loss[340 : 340 + 8] += np.arange(8) * (rank == 2)
        seconds = np.where((seqs >= 150) & (seqs < 220) & (rank == 2), 2.5, 1.0)
        grad = np.where((seqs >= 60) & (seqs < 90) & (rank == 1), 1.2, 1.0)
        times = STARTED_MS + 1000 * seqs + np.where(seqs >= 260, 2000 * (seqs - 260), 0)
        for first in range(0, ROWS, 25):
            own = slice(first, first + 25)
            names, columns = ("train/loss", "step_seconds", "grad"), np.stack([loss, seconds, grad], axis=1)
            odd = seqs[own] % 10 == 3
            groups: list[MetricGroup] = []
            for context, keys, chosen, values in (
                ("training", names, ~odd, columns[own]),
                ("training", (*names, "eval"), odd & (seqs[own] < QUIET_FROM), np.concatenate((columns[own], loss[own, None]), axis=1)),
                ("training", names, odd & (seqs[own] >= QUIET_FROM), columns[own]),
            ):
                if chosen.any():
                    groups.append(MetricGroup(context, "", keys, seqs[own][chosen], seqs[own][chosen], times[own][chosen], values[chosen]))
            out.append(MetricFrame(run_id, rank + 1, STARTED_MS, "attempt", rank, "node", "digits", first, first + 25, 0, tuple(groups)))
    heat = np.full((ROWS // 5, 1), 60.0)
    heat[30:40] = 90.0
    group = MetricGroup("", "", ('gpu.temperature_c{device="0"}',), seqs[: len(heat)], seqs[: len(heat)], STARTED_MS + 5000 * seqs[: len(heat)], heat)
    out.append(MetricFrame(run_id, HARDWARE, STARTED_MS, "attempt", 0, "node", "digits", 0, len(heat), 0, (group,)))
    return out


def lives(run_id: str) -> list[Writer]:
    """The last word of each process; rank 1 failed."""
    end_ms = STARTED_MS + 1000 * ROWS + 2000 * (ROWS - 260) + 5000
    fields = {"project": "digits", "world_size": RANKS, "started_ms": STARTED_MS, "heartbeat_ms": end_ms, "attempt": "attempt", "version": FINAL_VERSION}
    made = [examples.writer(run_id, writer=rank + 1, rank=rank, state="failed" if rank == 1 else "finished", next_seq=ROWS, **fields) for rank in range(RANKS)]
    return [*made, examples.writer(run_id, writer=HARDWARE, kind="hardware", state="finished", next_seq=ROWS // 5, **fields)]


def store(url: str, database: str, run_id: str, every: Sequence[MetricFrame], writers: Sequence[Writer]) -> None:
    """Writes a run as the sinks do, the frames twice and out of order."""
    server = Server(url, database)
    for view, own in (
        ("metric_points", [one for one in every if one.writer != HARDWARE]),
        ("hardware_points", [one for one in every if one.writer == HARDWARE]),
    ):
        insert(server, view, *reversed(own))  # pyright: ignore[reportArgumentType]  # names of tables
        insert(server, view, *own[:3])  # pyright: ignore[reportArgumentType]  # names of tables
    if writers:
        insert(server, "writer_states", *writers)
    insert(server, "run_changes", examples.run(run_id, name="trial"))
    server.close()


def fired(settings: Any, folder: Path, run_id: str) -> list[Alert]:
    """What a worker fires for the run."""
    feed, summaries, tail = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    rules = [replace(entry.rule, version=1) for entry in read([("rules", RULES)])]
    feed.raw("rule", [(rule.rule_id.encode(), wire.encode(rule)) for rule in rules])
    every, ends = frames(run_id), lives(run_id)
    running = [replace(one, state="running", version=1, heartbeat_ms=STARTED_MS + 1, next_seq=0) for one in ends]
    # A sign of life a while after the last evaluation, and all that was logged before it.
    signs = [replace(one, state="running", version=2, heartbeat_ms=int(every[-2].groups[0].times[-1]), next_seq=ROWS) for one in ends if one.kind == "rank"]
    worker = Part("worker", settings, folder)
    try:
        worker.wait_ready()
        feed.raw("writer", [(writer_key(one.writer), wire.encode(one)) for one in running])
        feed.frames([one for one in every if one.writer != HARDWARE])
        feed.frames([one for one in every if one.writer == HARDWARE], "hardware")
        summaries.until(lambda records: _read(records) >= {(one.writer, one.next_seq) for one in ends})
        feed.raw("writer", [(writer_key(one.writer), wire.encode(one)) for one in signs])
        tail.until(lambda records: len({one.alert_id for one in _alerts(records) if one.rule_id == "no-eval"}) == RANKS)
        feed.raw("writer", [(writer_key(one.writer), wire.encode(one)) for one in ends])
        tail.until(
            lambda records: {one.rule_id for one in _alerts(records)} >= {"failed"} and sum(one.rule_id == "no-eval" for one in _alerts(records)) == 2 * RANKS
        )
    finally:
        worker.kill()
        summaries.close()
        tail.close()
    return list({(one.alert_id, one.version): one for one in _alerts(tail.records)}.values())


def _alerts(records: Sequence[Record]) -> list[Alert]:
    return cast("list[Alert]", list(records))


def _read(records: Sequence[Record]) -> set[tuple[int, int]]:
    return {(one.writer, one.next_seq) for one in cast("Sequence[SummaryFrame]", records)}


def as_said(alert: Alert) -> tuple[object, ...]:
    """What of an alert must be the same; times of silence are those of signs of life, of which the store has the last one only."""
    about = (alert.rule_id, alert.state, alert.metric, alert.context, alert.rank, alert.step)
    if alert.rule_id == "no-eval":
        return (*about, alert.alert_id)
    return (*about, repr(alert.value), alert.text, alert.time_ms, alert.alert_id)


def test_it_says_what_the_worker_fires(kafka: str, clickhouse_url: str, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every kind on one run of three ranks, read back from the store: the same episodes with the same rows, values, words and ids, and nothing is written."""
    settings = settings_of(kafka, clickhouse_url=clickhouse_url, clickhouse_database=database)
    run_id = new_uuid()
    store(clickhouse_url, database, run_id, frames(run_id), lives(run_id))
    for name, value in environment_of(settings).items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "rules.yaml"
    file.write_text(RULES, encoding="utf-8")
    told = fine("rules", "test", str(file), "--run", run_id)
    real = fired(settings, tmp_path, run_id)
    names = ("rule", "state", "metric", "context", "rank", "step")
    tried = {
        (*(one[name] for name in names), *(() if one["rule"] == "no-eval" else (repr(float(one["value"])), one["text"], one["time_ms"])))
        for one in told["transitions"]
    }
    assert {one[:-1] for one in map(as_said, real)} == tried
    assert {one["id"] for one in told["rules"] if one["fired"]} == {entry.rule.rule_id for entry in read([("rules", RULES)])} - {"other.elsewhere", "nothing"}
    assert {one["id"]: one["note"] for one in told["rules"]}["other.elsewhere"] == "does not watch this run: it is for project other, the run is of digits"
    assert told["points"] == sum(frame.points for frame in frames(run_id))

    words = command("rules", "test", str(file), "--run", "digits/trial", "--limit", "1").out
    assert "spike (threshold, > 3, clear 1, for 5 s) would have fired 2 times" in words
    assert "nothing (threshold, > 0) would not have fired" in words
    assert "found nothing to judge: the run has no metric named absent" in words
    assert "judged as if each process had given a sign of life every 5 s" in words
    assert "... and " in words
    server = Server(clickhouse_url, database)
    assert server.query("SELECT count() FROM alerts_log", {}) == [(0,)]
    server.close()


def test_what_cannot_be_judged_is_said(clickhouse_url: str, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A run whose processes are not stored, a run that is not there, and no ClickHouse at all."""
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", clickhouse_url)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    run_id = new_uuid()
    store(clickhouse_url, database, run_id, frames(run_id)[:1], [])
    file = tmp_path / "rules.yaml"
    file.write_text(RULES, encoding="utf-8")
    told = fine("rules", "test", str(file), "--run", run_id[:20], "--database", database)
    notes = {one["id"]: one["note"] for one in told["rules"]}
    assert notes["failed"] == "cannot be judged: nothing is stored of the run's processes"
    assert notes["no-eval"].startswith("judged in part: nothing is stored of the run's processes")
    assert told["points"] == frames(run_id)[0].points
    done = command("rules", "test", str(file), "--run", "beef", "--database", database)
    assert (done.code, done.err.startswith("no run is 'beef'")) == (2, True)
    assert fine("rules", "test", str(file))["run"] is None
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:9")
    done = command("rules", "test", str(file), "--run", run_id)
    assert (done.code, "does not answer" in done.err) == (2, True)
