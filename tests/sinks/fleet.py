"""A small fleet with known numbers, stored through the sinks' own mapping: what the questions of docs/sql.md are asked of."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from runstream_schemas import records as rec
from tests.sinks import examples
from tests.sinks.test_tables import insert

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_sinks.clickhouse import Server

BASELINE, WIDE, HOT, LIVE, TEXT = (str(uuid.UUID(int=0xF1EE7 << 64 | number)) for number in range(1, 6))
DAY_MS = 86_400_000
NAN = float("nan")


@dataclass(slots=True)
class Process:
    """A process of a run that logs rows at given times; `store` writes what it logged, all of it twice."""

    run_id: str
    writer: int
    rank: int
    attempt: str
    started_ms: int
    project: str = "vision"
    kind: rec.WriterKind = "rank"
    _groups: list[rec.MetricGroup] = field(default_factory=list[rec.MetricGroup], init=False)
    _seq: int = field(default=0, init=False)

    def log(self, context: str, keys: Sequence[str], steps: Sequence[int], seconds: Sequence[float], values: Sequence[Sequence[float]]) -> None:
        """Logs one row a step, `seconds` after the start."""
        seqs = np.arange(self._seq, self._seq + len(steps), dtype=np.int64)
        self._seq += len(steps)
        times = self.started_ms + (np.array(seconds) * 1000).astype(np.int64)
        self._groups.append(rec.MetricGroup(context, "", tuple(keys), seqs, np.array(steps, dtype=np.int64), times, np.array(values, dtype=np.float64)))

    def store(self, server: Server, *, state: rec.State, seconds: float, reason: str = "", dropped: int = 0) -> None:
        """Writes its rows, its state and what its series come to; it lived for `seconds`."""
        points = sum(group.values.size for group in self._groups)
        frame = rec.MetricFrame(
            self.run_id, self.writer, self.started_ms, self.attempt, self.rank, f"node-{self.rank}", self.project, 0, self._seq, 0, tuple(self._groups)
        )
        table = "hardware_points" if self.kind == "hardware" else "metric_points"
        insert(server, table, frame)
        insert(server, table, frame)
        told = examples.writer(
            self.run_id,
            writer=self.writer,
            project=self.project,
            kind=self.kind,
            rank=self.rank,
            host=f"host-{self.rank}",
            attempt=self.attempt,
            started_ms=self.started_ms,
            heartbeat_ms=self.started_ms + int(seconds * 1000),
            state=state,
            exit_reason=reason,
            points_logged=points,
            points_shipped=points,
            points_dropped={"journal_full": dropped} if dropped else {},
        )
        insert(server, "writer_states", told, told)
        if self.kind == "rank" and self._groups:
            insert(server, "summary_series", self._summary())

    def _summary(self) -> rec.SummaryFrame:
        series: dict[tuple[str, str], list[tuple[int, int, float]]] = {}
        for group in self._groups:
            for place, key in enumerate(group.keys):
                rows = zip(group.steps.tolist(), group.times.tolist(), group.values[:, place].tolist(), strict=True)
                series.setdefault((key, group.context), []).extend(rows)
        finite = {key: [row for row in rows if np.isfinite(row[2])] for key, rows in series.items()}
        low = {key: min(rows, key=lambda row: row[2]) for key, rows in finite.items()}
        high = {key: max(rows, key=lambda row: row[2]) for key, rows in finite.items()}
        return rec.SummaryFrame(
            run_id=self.run_id,
            writer=self.writer,
            block=0,
            next_seq=self._seq,
            rank=self.rank,
            attempt=self.attempt,
            started=self.started_ms,
            time_ms=self.started_ms,
            names=[key for key, _ in series],
            contexts=[context for _, context in series],
            subjects=["" for _ in series],
            counts=[len(rows) for rows in series.values()],
            non_finites=[len(rows) - len(finite[key]) for key, rows in series.items()],
            sums=[sum(row[2] for row in rows) for rows in finite.values()],
            means=[sum(row[2] for row in rows) / len(rows) for rows in finite.values()],
            m2s=[0.0 for _ in series],
            mins=[row[2] for row in low.values()],
            min_steps=[row[0] for row in low.values()],
            maxs=[row[2] for row in high.values()],
            max_steps=[row[0] for row in high.values()],
            firsts=[rows[0][2] for rows in series.values()],
            first_steps=[rows[0][0] for rows in series.values()],
            lasts=[rows[-1][2] for rows in series.values()],
            last_steps=[rows[-1][0] for rows in series.values()],
            first_times=[rows[0][1] for rows in series.values()],
            last_times=[rows[-1][1] for rows in series.values()],
        )


def store(server: Server, now_ms: int) -> None:
    """Stores the fleet as of `now_ms`: what began lately is told from what began long ago."""
    _baseline(server, now_ms - 3 * DAY_MS)
    _wide(server, now_ms - 2 * DAY_MS)
    _hot(server, now_ms - DAY_MS)
    _live(server, now_ms - 600_000)
    _text(server, now_ms - 40 * DAY_MS)
    _made(server, now_ms - DAY_MS)
    insert(server, "dead_letters_log", *(examples.dead_letter(topic="rs.metric", offset=number, reason="not Avro") for number in range(3)))
    insert(server, "dead_letters_log", examples.dead_letter(topic="rs.event", reason="no such schema"))


def _said(server: Server, run_id: str, name: str, started_ms: int, writer: int, project: str = "vision") -> None:
    insert(server, "run_changes", examples.run(run_id, project=project, name=name, writer=writer, time_ms=started_ms))


def _params(server: Server, run_id: str, writer: int, values: dict[str, tuple[rec.ParamKind, str]]) -> None:
    rows = [examples.param(run_id, key, kind, value, writer=writer, seq=place) for place, (key, (kind, value)) in enumerate(values.items())]
    insert(server, "params_log", *rows)


def _baseline(server: Server, began_ms: int) -> None:
    """Two ranks, 100 steps of 2 seconds with a pause of a minute before step 50; rank 1 works longer on each. A GPU a rank, of which the second idles."""
    _said(server, BASELINE, "baseline", began_ms, 11)
    _params(server, BASELINE, 11, {"optimizer.lr": ("float", "0.1"), "optimizer.name": ("string", '"sgd"'), "steps": ("int", "100")})
    steps = list(range(100))
    seconds = [2.0 * step + 60.0 * (step >= 50) for step in steps]
    for rank in (0, 1):
        process = Process(BASELINE, 11 + rank, rank, "baseline-1", began_ms)
        process.log("training", ["loss"], steps, seconds, [[2.0 - step / 100 + rank * step / 1000] for step in steps])
        process.log("training", ["step_seconds"], steps, seconds, [[1.0 + rank / 2 + (step == 7)] for step in steps])
        if rank == 0:
            process.log("validation", ["accuracy"], [49, 99], [158.0, 260.0], [[0.8], [0.9]])
        process.store(server, state="finished", seconds=360.0, dropped=5 * rank)
    node = Process(BASELINE, 19, 0, "baseline-1", began_ms, kind="hardware")
    node.log(
        "",
        ['gpu.utilization{device="0"}', 'gpu.utilization{device="1"}', 'gpu.power_w{device="0"}'],
        [0, 1, 2],
        [0.0, 60.0, 120.0],
        [[90, 10, 600], [96, 20, 700], [99, 30, 0]],
    )
    node.store(server, state="finished", seconds=360.0)
    events = [
        examples.event(BASELINE, name="checkpoint_finished", writer=11, seq=500 + place, metadata={"seconds": text})
        for place, text in enumerate(("0.5", "2.5"))
    ]
    insert(server, "events_log", *events, *events)


def _wide(server: Server, began_ms: int) -> None:
    """One rank. The first attempt crashes at step 59, the second goes on from the checkpoint of step 50 and is better."""
    _said(server, WIDE, "wide", began_ms, 21)
    _params(server, WIDE, 21, {"optimizer.lr": ("float", "0.3"), "optimizer.name": ("string", '"sgd"'), "steps": ("int", "100"), "width": ("int", "4")})
    first = Process(WIDE, 21, 0, "wide-1", began_ms)
    first.log("training", ["loss"], list(range(60)), [float(step) for step in range(60)], [[3.0] for _ in range(60)])
    first.log("validation", ["accuracy"], [49], [49.0], [[0.7]])
    first.store(server, state="crashed", seconds=60.0, reason="no sign of life")
    second = Process(WIDE, 22, 0, "wide-2", began_ms + 600_000)
    second.log("training", ["loss"], list(range(50, 100)), [float(step) for step in range(50)], [[1.0] for _ in range(50)])
    second.log("validation", ["accuracy"], [99], [50.0], [[0.95]])
    second.store(server, state="finished", seconds=60.0)
    insert(server, "events_log", examples.event(WIDE, name="checkpoint_finished", writer=21, metadata={"seconds": "1.25"}))


def _hot(server: Server, began_ms: int) -> None:
    """Diverges at step 20, is NaN from step 30 on, and fails. Two rules fire; one of them on the crash of the run, three seconds late."""
    _said(server, HOT, "hot", began_ms, 31)
    process = Process(HOT, 31, 0, "hot-1", began_ms)
    steps = list(range(40))
    process.log("training", ["loss"], steps, [float(step) for step in steps], [[NAN if step >= 30 else 10.0 * (step >= 20) + 1.0] for step in steps])
    process.store(server, state="failed", seconds=40.0, reason="ValueError: loss is NaN")

    def alert(alert_id: str, rule: str, **changes: object) -> rec.Alert:
        return examples.alert(HOT, alert_id=alert_id, rule_name=rule, project="vision", time_ms=began_ms, decided_ms=began_ms + 200, **changes)

    resolved: dict[str, object] = {"version": 1, "state": "resolved"}
    rows = [
        alert("a", "diverged"),
        examples.alert(HOT, alert_id="a", rule_name="diverged", project="vision", time_ms=began_ms + 10_000, decided_ms=began_ms + 10_100, **resolved),
        alert("b", "diverged"),
        examples.alert(HOT, alert_id="c", rule_name="lost", severity="warning", project="vision", time_ms=began_ms, decided_ms=began_ms + 3000),
    ]
    insert(server, "alerts_log", *rows, *rows)

    def told(alert_id: str, done_ms: int, **changes: object) -> rec.Delivery:
        return examples.delivery(HOT, alert_id=alert_id, time_ms=began_ms, taken_ms=began_ms + 250, done_ms=began_ms + done_ms, **changes)

    refused: dict[str, object] = {"channel": "pager", "way": "pagerduty", "outcome": "failed", "reason": "it answered 403", "tries": 1}
    insert(server, "deliveries_log", told("a", 700), told("b", 900), told("b", 900), told("a", 600, **refused))


def _live(server: Server, began_ms: int) -> None:
    """Runs: 150 of 200 steps, slowly at first, then one in 4 seconds."""
    _said(server, LIVE, "live", began_ms, 41)
    _params(server, LIVE, 41, {"optimizer.lr": ("float", "0.2"), "steps": ("int", "200")})
    process = Process(LIVE, 41, 0, "live-1", began_ms)
    seconds = [0.0] * 50 + [4.0 * step for step in range(101)]
    process.log("training", ["loss"], list(range(151)), seconds, [[1.0] for _ in range(151)])
    process.store(server, state="running", seconds=600.0)


def _text(server: Server, began_ms: int) -> None:
    """Another project, that crashed long ago."""
    _said(server, TEXT, "chat", began_ms, 51, "text")
    process = Process(TEXT, 51, 0, "chat-1", began_ms, project="text")
    process.log("training", ["loss"], [0], [0.0], [[1.0]])
    process.store(server, state="crashed", seconds=7200.0, reason="no sign of life")


def _made(server: Server, now_ms: int) -> None:
    """Two versions of a model, the first of which was saved by two ranks and is used by two runs; and a line that was appended to, replaced, and gone on with by a second attempt."""
    first, second = "1" * 64, "2" * 64
    saves = [
        examples.artifact(
            BASELINE, writer=writer, seq=seq, project="vision", checksum=checksum, step=step, time_ms=now_ms + step, artifact_id=str(uuid.UUID(int=seq))
        )
        for writer, seq, checksum, step in ((11, 700, first, 50), (12, 700, first, 50), (11, 701, second, 100))
    ]
    uses = [examples.artifact(run_id, writer=writer, project="vision", relation="input", checksum=first) for run_id, writer in ((WIDE, 22), (HOT, 31))]
    insert(server, "artifacts_log", *saves, *uses, *uses)
    lines = [
        examples.media(
            WIDE,
            name="roc",
            series="",
            writer=writer,
            seq=800 + place,
            time_ms=now_ms + place,
            replaces=replaces,
            counted=steps is None,
            steps=steps or (),
            points=points,
        )
        for place, (writer, replaces, steps, points) in enumerate(
            (
                (21, False, (0, 10), (0.5, 0.75)),
                (21, False, None, (1.0,)),
                (21, True, None, (0.25, 0.5)),
                (22, False, None, (1.0,)),
            )
        )
    ]
    insert(server, "media_log", *lines, *lines)
