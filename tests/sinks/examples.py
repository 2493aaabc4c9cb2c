"""Records of every kind with known values, and frames of known points."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_schemas import records as rec
from runstream_schemas.ids import new_uuid, new_writer

if TYPE_CHECKING:
    from collections.abc import Sequence

STARTED_MS = 1_760_000_000_123
Point = tuple[str, str, str, int, int, int, int, float]  # name, context, subject, rank, step, seq, time, value


def group(keys: Sequence[str], first_seq: int, rows: int, *, context: str = "training", subject: str = "", first_value: float = 0.0) -> rec.MetricGroup:
    """Rows with consecutive seqs, steps and times, whose values count up from `first_value`."""
    seqs = np.arange(first_seq, first_seq + rows, dtype=np.int64)
    values = first_value + np.arange(rows * len(keys), dtype=np.float64).reshape(rows, len(keys))
    return rec.MetricGroup(context, subject, tuple(keys), seqs, seqs * 2, STARTED_MS + seqs * 10, values)


def frame(
    *groups: rec.MetricGroup, run_id: str, writer: int, rank: int = 0, started: int = STARTED_MS, first_seq: int = 0, next_seq: int = 1000
) -> rec.MetricFrame:
    """A frame of groups."""
    return rec.MetricFrame(run_id, writer, started, "attempt-1", rank, "node-1", "digits", first_seq, next_seq, 0, groups)


def points_of(frames: Sequence[rec.MetricFrame]) -> list[Point]:
    """Every point of frames, one by one: the slow and plain way that the mapping is held against."""
    return [
        (key, one.context, one.subject, frame.rank, int(one.steps[row]), int(one.seqs[row]), int(one.times[row]), float(one.values[row, place]))
        for frame in frames
        for one in frame.groups
        for row in range(len(one.seqs))
        for place, key in enumerate(one.keys)
    ]


def run(run_id: str, **changes: object) -> rec.Run:
    """A change of a run."""
    fields: dict[str, object] = {"run_id": run_id, "writer": 7, "seq": 0, "time_ms": STARTED_MS, "project": "digits"}
    return rec.Run(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def writer(run_id: str, **changes: object) -> rec.Writer:
    """A state of a writer."""
    fields: dict[str, object] = {
        "writer": new_writer(),
        "run_id": run_id,
        "project": "digits",
        "version": 1,
        "kind": "rank",
        "rank": 0,
        "local_rank": 0,
        "world_size": 2,
        "node": "node-1",
        "host": "host-1",
        "pid": 99,
        "attempt": "attempt-1",
        "started_ms": STARTED_MS,
        "state": "running",
        "exit_reason": "",
        "heartbeat_ms": STARTED_MS + 60_000,
        "next_seq": 0,
        "rows_logged": 0,
        "points_logged": 0,
    }
    return rec.Writer(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def event(run_id: str, **changes: object) -> rec.Event:
    """An event."""
    fields: dict[str, object] = {
        "event_id": new_uuid(),
        "run_id": run_id,
        "writer": 7,
        "seq": 3,
        "time_ms": STARTED_MS,
        "name": "checkpoint.finished",
        "source": "trainer",
        "step": 12,
        "metadata": {"bytes": "1024"},
    }
    return rec.Event(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def param(run_id: str, key: str, kind: rec.ParamKind, value: str, **changes: object) -> rec.Param:
    """A value of a param."""
    fields: dict[str, object] = {"run_id": run_id, "writer": 7, "seq": 4, "time_ms": STARTED_MS, "key": key, "kind": kind, "value": value}
    return rec.Param(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def value(run_id: str, **changes: object) -> rec.Value:
    """A tensor of a metric."""
    fields: dict[str, object] = {
        "run_id": run_id,
        "writer": 7,
        "seq": 6,
        "time_ms": STARTED_MS,
        "name": "attention",
        "role": "metric",
        "kind": "tensor",
        "step": 12,
        "dtype": "<f4",
        "shape": (1, 2),
        "data": np.array([1.0, 0.5], dtype="<f4").tobytes(),
    }
    return rec.Value(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def media(run_id: str, **changes: object) -> rec.Media:
    """Points of a line."""
    fields: dict[str, object] = {
        "run_id": run_id,
        "writer": 7,
        "seq": 10,
        "time_ms": STARTED_MS,
        "name": "losses",
        "kind": "line",
        "series": "val",
        "steps": (0, 5),
        "points": (1.0, 0.5),
        "data": b"",
        "size": 32,
    }
    return rec.Media(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def artifact(run_id: str, **changes: object) -> rec.Artifact:
    """A version of a model."""
    fields: dict[str, object] = {
        "artifact_id": run_id,
        "run_id": run_id,
        "writer": 7,
        "seq": 11,
        "time_ms": STARTED_MS,
        "kind": "model_version",
        "relation": "output",
        "name": "net",
        "path": "net.pt",
        "uri": "file:///store/objects/ab/abcd",
        "checksum": "abcd",
        "size": 4,
        "project": "digits",
        "step": 12,
        "metadata": {"framework": '"torch"'},
    }
    return rec.Artifact(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def rule(rule_id: str, **changes: object) -> rec.Rule:
    """A version of a rule."""
    fields: dict[str, object] = {
        "rule_id": rule_id,
        "version": 1,
        "time_ms": STARTED_MS,
        "name": "diverged",
        "kind": "threshold",
        "metric": "loss",
        "operator": ">",
        "threshold": 5.0,
        "channels": ("ops",),
    }
    return rec.Rule(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def silence(silence_id: str, **changes: object) -> rec.Silence:
    """A version of a silence."""
    fields: dict[str, object] = {
        "silence_id": silence_id,
        "version": 1,
        "time_ms": STARTED_MS,
        "author": "ada",
        "comment": "known",
        "starts_ms": STARTED_MS,
        "ends_ms": STARTED_MS + 3_600_000,
    }
    return rec.Silence(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def alert(run_id: str, **changes: object) -> rec.Alert:
    """A transition of an alert: it fires."""
    fields: dict[str, object] = {
        "alert_id": "alert-1",
        "version": 0,
        "state": "firing",
        "rule_id": "rule-1",
        "rule_version": 1,
        "rule_name": "diverged",
        "kind": "threshold",
        "severity": "critical",
        "run_id": run_id,
        "writer": 7,
        "seq": 5,
        "rank": 1,
        "metric": "loss",
        "context": "training",
        "subject": "",
        "step": 10,
        "time_ms": STARTED_MS,
        "value": 9.5,
        "operator": ">",
        "threshold": 5.0,
        "text": "loss is 9.5",
        "late": False,
        "decided_ms": STARTED_MS + 250,
    }
    return rec.Alert(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def delivery(run_id: str, **changes: object) -> rec.Delivery:
    """An alert that a channel took at the second try."""
    fields: dict[str, object] = {
        "alert_id": "alert-1",
        "version": 0,
        "channel": "ops",
        "way": "webhook",
        "outcome": "delivered",
        "reason": "",
        "message_id": "m-1",
        "alerts": 1,
        "tries": 2,
        "run_id": run_id,
        "rule_id": "rule-1",
        "severity": "critical",
        "state": "firing",
        "time_ms": STARTED_MS,
        "taken_ms": STARTED_MS + 300,
        "done_ms": STARTED_MS + 900,
    }
    return rec.Delivery(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def summary(run_id: str, **changes: object) -> rec.SummaryFrame:
    """A summary of two series."""
    fields: dict[str, object] = {
        "run_id": run_id,
        "writer": 7,
        "block": 0,
        "next_seq": 100,
        "rank": 0,
        "attempt": "attempt-1",
        "started": STARTED_MS,
        "time_ms": STARTED_MS + 990,
        "names": ("loss", "accuracy"),
        "contexts": ("training", "validation"),
        "subjects": ("", ""),
        "counts": (5, 1),
        "non_finites": (1, 1),
        "sums": (10.0, 0.0),
        "means": (2.5, float("nan")),
        "m2s": (5.0, 0.0),
        "mins": (1.0, float("nan")),
        "min_steps": (1, 0),
        "maxs": (4.0, float("nan")),
        "max_steps": (4, 0),
        "firsts": (1.0, float("nan")),
        "first_steps": (1, 3),
        "lasts": (4.0, float("nan")),
        "last_steps": (4, 3),
        "first_times": (STARTED_MS, STARTED_MS),
        "last_times": (STARTED_MS + 40, STARTED_MS),
    }
    return rec.SummaryFrame(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name


def dead_letter(**changes: object) -> rec.DeadLetter:
    """A record set aside."""
    fields: dict[str, object] = {
        "topic": "t.metric",
        "partition": 3,
        "offset": 17,
        "time_ms": STARTED_MS,
        "value": b"\xff\x00poison",
        "sha256": "ab" * 32,
        "reason": "expected a record that begins with 00",
        "set_aside_ms": STARTED_MS + 5,
    }
    return rec.DeadLetter(**{**fields, **changes})  # pyright: ignore[reportArgumentType]  # the fields are given by name
