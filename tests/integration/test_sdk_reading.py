"""Everything that the SDK can say is written through the whole pipeline, and read back by SQL and by `runstream.read`, with its types."""

from __future__ import annotations

import datetime as dt
import enum
import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import runstream
from runstream import Context, Event, EventSource, _emit, read, sql
from runstream.commands import account as account_command
from runstream_schemas.ids import run_id_of
from runstream_schemas.settings import load
from tests.answers import Answers
from tests.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

PROJECT = "sdk-reading"
ATTENTION = np.arange(6, dtype="<f4").reshape(2, 3)
SECRET = "correct horse battery"


class Phase(enum.Enum):
    """A phase of the user's own."""

    WARM_UP = "anything"


@dataclass
class Written:
    """What was written: the run, its child, and ids that calls returned."""

    answers: Answers
    run_id: str
    child_id: str
    ids: dict[str, str] = field(default_factory=dict[str, str])

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of an answer about the run."""
        return self.answers.rows(sql, run=self.run_id)


@pytest.fixture(scope="module")
def held() -> dict[str, Written]:
    """What the first test that asks has written."""
    return {}


def write_metrics(run: runstream.Run) -> None:
    """Values of every type, in every usual phase and one of the user's, of the run and of a subject."""
    for step in range(3):
        run.log({"loss": 1.0 / (step + 1), "epoch": step, "diverged": step == 2}, step=step, context=Context.TRAINING, time=1_790_000_000.5 + step)
    run.log({"loss": float("nan")}, step=9, context=Context.VALIDATION)
    run.log({"loss": 2.5}, step=9, context=Context.TESTING, source="sklearn")
    run.log({"loss": 3.5}, context=Phase.WARM_UP)
    run.log({"score": np.float32(0.5)}, step=1, subject="model/net/1")
    run.log({"loss": 0.125, "verdict": "good ü", "raw": b"\x00\xff", "attention": ATTENTION}, step=5, context="sampling", subject="checkpoint/5")
    run.log({"count": np.int32(3), "flag": np.bool_(True), "few": np.array([4])}, step=0, context="types")
    for step, value in enumerate((1, 2.5)):
        run.log({"grew": value, "big": (1 << 53) + 1}, step=step, context="types")
    run.log({"mixed": 1}, context="types")
    run.log({"mixed": 2.0, "beside": 1.0}, context="types")
    run.define_metric("loss", step_metric="epoch", goal="max")
    run.define_metric("loss", goal="min", unit="nat")
    summary: dict[str, Any] = {
        "training_accuracy": 0.5,
        "epochs": 3,
        "ok": True,
        "why": "done",
        "none": None,
        "list": [1, "a"],
        "dict": {"a": {"b": [None]}},
        "raw": b"\x01",
        "grid": ATTENTION,
    }
    for name, value in summary.items():
        run.summary[name] = value
    run.summary["training_accuracy"] = 0.75


def write_events(run: runstream.Run, ids: dict[str, str]) -> None:
    """Events of the run and of a checkpoint, by object, by name, and timed."""
    at = dt.datetime(2026, 9, 1, 12, tzinfo=dt.UTC)
    ids["event"] = run.log_event(
        Event("pushed", source=EventSource("registry"), time=at, metadata={"size": 3, "nested": {"a": [1, None]}}, subject="model/net/1", step=7)
    )
    with run.timed("checkpoint", source="trainer", subject="checkpoint/5", size=1024) as block:
        block.metadata["path"] = "5.pt"
    with pytest.raises(OSError, match="disk"), run.timed("upload"):
        raise OSError("disk full")
    ids["alert"] = run.alert("data looks odd", "labels of shard 7 are zero", "critical", step=4, labels={"team": "vision"})


@pytest.fixture
def written(held: dict[str, Written], environment: dict[str, str], answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Written:
    """A run of two ranks with a child, stored to the last row."""
    assert environment
    if "it" in held:
        return held["it"]
    said: dict[str, Any] = {"owner": "ada", "namespace": "vision", "framework": "numpy", "task": "test", "notes": "words", "tags": ["a", "b"]}
    config = {"optimizer": {"lr": 0.1, "api_key": SECRET}, "layers": [64, "x"], "none": None, "on": True, "big": 1 << 62, "seed": 0, "empty": {}}
    run = runstream.init(
        PROJECT, "whole", external_id="job-1", group="sweep", config=config, metadata={"k": [1]}, mode="inline", capture="python,command,git,packages", **said
    )
    run.start()
    monkeypatch.setenv("RANK", "1")
    other = runstream.init(PROJECT, external_id="job-1", config={"seed": 1}, mode="inline", capture="none")
    run.log_params({"optimizer": {"lr": 0.01}})
    run.log_params({"batch": 8}, context=Context.TRAINING)
    run.update_metadata("dataset", {"name": "digits"})
    write_metrics(run)
    made = Written(answers, run.id, "")
    write_events(run, made.ids)
    with run.child("fold-1", config={"fold": 1}) as fold:
        fold.log({"loss": 1.0}, step=1)
    made.child_id = fold.id
    monkeypatch.setenv("RUNSTREAM_MODE", "inline")
    made.ids["emitted"] = runstream.emit_event("deployed", subject="model/net/1", source="server", metadata={"replicas": 2})
    client = _emit.swap(None)
    assert client is not None
    for one in (client, other, run):
        assert one.finish().shipped

    def stored() -> bool:
        found = made.rows("SELECT state, balanced FROM account WHERE run_id = {run:UUID} AND kind = 'rank'")
        return len(found) == 2 and all(row["state"] == "finished" and row["balanced"] for row in found) and len(read.events(subject="model/net/1")) == 2

    wait_for(stored, 60, "the run to be stored")
    wait_for(lambda: len(read.summaries(run)) >= 8 and bool(read.alerts(run)), 30, "summaries and the alert")
    held["it"] = made
    return made


def test_a_run_reads_as_it_was_said(written: Written) -> None:
    """Its fields, metadata, group, parent, state and surroundings, by SQL and by the reading calls; secrets are in none of it."""
    run = read.run(f"{PROJECT}/whole")
    assert (run.id, run.owner, run.namespace, run.framework, run.task, run.notes, run.tags) == (
        run_id_of(PROJECT, "job-1"),
        "ada",
        "vision",
        "numpy",
        "test",
        "words",
        ["a", "b"],
    )
    assert (run.state, run.external_id, run.group, run.parent, run.metadata) == ("finished", "job-1", "sweep", None, {"k": [1], "dataset": {"name": "digits"}})
    assert run.writers == 2
    assert run.started is not None
    assert run.ended is not None
    assert run.ended >= run.started
    [child] = read.runs(PROJECT, parent=run)
    assert (child.id, child.name, child.parent, child.state) == (written.child_id, "fold-1", run.id, "finished")
    assert [one.id for one in read.runs(group="sweep")] == [run.id]
    [row] = written.rows("SELECT run_group, parent_run_id, metadata FROM runs WHERE run_id = {run:UUID}")
    assert row == {"run_group": "sweep", "parent_run_id": None, "metadata": {"k": "[1]", "dataset": '{"name": "digits"}'}}
    environments = {
        one["rank"]: one["environment"] for one in written.rows("SELECT rank, environment FROM writers WHERE run_id = {run:UUID} AND kind = 'rank'")
    }
    assert environments[1].keys() <= {"hardware_interval_s", "pid_namespace"}, "each part can be turned off"
    assert {"python", "command"} <= set(environments[0])
    assert any(one.startswith("numpy==") for one in read.params(run, rank=0)["environment.packages"])
    assert "environment.packages" not in read.params(run, rank=1)
    assert len(environments[0].get("git.commit", "0" * 40)) == 40
    for table in ("params_log", "run_changes", "writer_states", "events_log", "values_log"):
        [found] = written.rows(f"SELECT countIf(position(toString(tuple(*)), '{SECRET}') > 0) AS found FROM {table} WHERE run_id = {{run:UUID}}")
        assert found["found"] == 0, table


def test_a_run_knows_whether_it_was_there_before(written: Written, environment: dict[str, str]) -> None:
    """The same external id is the same run, which existed; another one did not; offline nobody can say."""
    assert environment
    again = runstream.init(PROJECT, external_id="job-1", mode="inline")
    fresh = runstream.init(PROJECT, external_id="job-2", mode="inline")
    offline = runstream.init(PROJECT, external_id="job-1", mode="offline")
    assert again.id == offline.id == written.run_id
    assert (again.existed, fresh.existed, offline.existed) == (True, False, None)
    never = runstream.init(PROJECT, external_id="job-1", mode="inline", resume="never")
    assert never.id not in (written.run_id, fresh.id)
    for one in (again, fresh, never):
        assert one.finish().shipped
    offline.finish()


def test_numbers_read_as_arrays(written: Written) -> None:
    """Series of each phase and subject come as arrays by step, with the times that were given, as floats, integers or truth values."""
    series = {(one.name, one.context, one.subject): one for one in read.metrics(written.run_id)}
    loss = series["loss", "training", ""]
    assert (loss.rank, loss.steps.tolist(), loss.values.tolist(), loss.times.tolist()) == (
        0,
        [0, 1, 2],
        [1.0, 1.0 / 2, 1.0 / 3],
        [1_790_000_000.5, 1_790_000_001.5, 1_790_000_002.5],
    )
    assert (loss.steps.dtype, loss.values.dtype, loss.times.dtype) == (np.int64, np.float64, np.float64)
    assert _typed(series["diverged", "training", ""]) == (np.bool_, [False, False, True])
    assert _typed(series["epoch", "training", ""]) == (np.int64, [0, 1, 2])
    assert np.isnan(series["loss", "validation", ""].values).tolist() == [True]
    assert series["loss", "testing", ""].values.tolist() == [2.5]
    assert series["loss", "warm_up", ""].steps.tolist() == [0]
    assert series["score", "", "model/net/1"].values.tolist() == [0.5]
    assert series["loss", "sampling", "checkpoint/5"].values.tolist() == [0.125]
    only = read.metrics(written.run_id, ["los*"], context=Context.TESTING, rank=0)
    assert [(one.name, one.context) for one in only] == [("loss", "testing")]
    table = read.metrics_table(written.run_id, "epoch")
    assert (str(table.schema.field("value").type), table.to_pydict()["value"]) == ("int64", [0, 1, 2])
    assert table.column_names == ["name", "context", "subject", "rank", "step", "time", "value"]
    rows = written.rows("SELECT step, value FROM metrics WHERE run_id = {run:UUID} AND name = 'loss' AND context = 'training' ORDER BY step")
    assert [(row["step"], row["value"]) for row in rows] == [(0, 1.0), (1, 0.5), (2, 1.0 / 3)]


def _typed(series: read.Series) -> tuple[Any, list[Any]]:
    return series.values.dtype.type, series.values.tolist()


def test_numbers_keep_their_types_where_all_of_a_series_have_one(written: Written) -> None:
    """Numpy's integers and truth values are such; a series that grew to floats, or was logged with two types, or holds integers that doubles cannot tell apart, is of floats."""
    found = {one.name: _typed(one) for one in read.metrics(written.run_id, context="types")}
    assert found == {
        "count": (np.int64, [3]),
        "flag": (np.bool_, [True]),
        "few": (np.int64, [4]),
        "grew": (np.float64, [1.0, 2.5]),
        "big": (np.float64, [2.0**53, 2.0**53]),
        "mixed": (np.float64, [1.0, 2.0]),
        "beside": (np.float64, [1.0]),
    }
    types = {name: str(read.metrics_table(written.run_id, name, context="types").schema.field("value").type) for name in ("flag", "mixed", "*")}
    assert types == {"flag": "bool", "mixed": "double", "*": "double"}
    rows = written.rows("SELECT name, type FROM metric_definitions WHERE run_id = {run:UUID} AND type != '' ORDER BY name")
    assert {row["name"]: row["type"] for row in rows} == {
        "big": "int",
        "count": "int",
        "diverged": "bool",
        "epoch": "int",
        "few": "int",
        "flag": "bool",
        "grew": "int",
        "mixed": "float",
    }
    assert read.definitions(written.run_id)["flag"].type == "bool"


def test_texts_bytes_and_tensors_read_as_they_were(written: Written) -> None:
    """A value that is no number has its type, dtype and shape, beside the number of the same call, at the same step."""
    found = {one.name: one for one in read.values(written.run_id)}
    assert found["verdict"].value == "good ü"
    assert found["raw"].value == b"\x00\xff"
    attention = found["attention"]
    assert attention.value.dtype == ATTENTION.dtype
    assert np.array_equal(attention.value, ATTENTION)
    assert {(one.context, one.subject, one.step, one.rank) for one in found.values()} == {("sampling", "checkpoint/5", 5, 0)}
    rows = written.rows("SELECT name, kind, str, dtype, shape, hex(data) AS data FROM metric_values WHERE run_id = {run:UUID} ORDER BY name")
    assert [(row["name"], row["kind"], row["str"], row["dtype"], row["shape"], row["data"]) for row in rows] == [
        ("attention", "tensor", None, "<f4", [2, 3], ATTENTION.tobytes().hex().upper()),
        ("raw", "bytes", None, "", [], "00FF"),
        ("verdict", "string", "good ü", "", [], ""),
    ]


def test_the_summary_has_what_was_set_beside_what_is_computed(written: Written) -> None:
    """The newest value of each name holds, with its type; the series' own extremes are there as well, and what a metric means."""
    summary = read.summary(written.run_id)
    grid = summary.pop("grid")
    assert np.array_equal(grid, ATTENTION)
    assert summary == {
        "training_accuracy": 0.75,
        "epochs": 3,
        "ok": True,
        "why": "done",
        "none": None,
        "list": [1, "a"],
        "dict": {"a": {"b": [None]}},
        "raw": b"\x01",
    }
    assert {name: type(value) for name, value in summary.items()}["epochs"] is int
    [row] = written.rows("SELECT f64 FROM run_summary WHERE run_id = {run:UUID} AND name = 'training_accuracy'")
    assert row["f64"] == 0.75
    [computed] = [one for one in read.summaries(written.run_id, "loss") if one.context == "training"]
    assert (computed.count, computed.min, computed.min_step, computed.max, computed.last) == (3, 1.0 / 3, 2, 1.0, 1.0 / 3)
    said = read.definitions(written.run_id)
    assert (said["loss"].step_metric, said["loss"].goal, said["loss"].unit) == ("epoch", "min", "nat")
    assert said["loss"].source == "sklearn"
    assert (said["score"].source, said["attention"].source) == ("numpy", "numpy"), "detected by the values' types"


def test_params_keep_types_history_and_conflicts(written: Written) -> None:
    """Types come back, a later value is a new version, and where ranks differ each one's value is told."""
    params = {key: value for key, value in read.params(written.run_id).items() if not key.startswith("environment.")}
    wanted: dict[str, Any] = {
        "layers": [64, "x"],
        "none": None,
        "on": True,
        "big": 1 << 62,
        "batch": 8,
        "seed": 0,
        "empty": {},
        "optimizer.lr": 0.01,
        "optimizer.api_key": "[hidden]",
    }
    assert params == wanted
    assert {key: type(value) for key, value in params.items()} == {key: type(value) for key, value in wanted.items()}
    assert [one.value for one in read.param_history(written.run_id, "optimizer.lr")] == [0.1, 0.01]
    assert read.params(written.run_id, context="training") == {"batch": 8}
    assert read.param_conflicts(written.run_id) == {"seed": {0: 0, 1: 1}}
    rows = written.rows("SELECT key, kind FROM params WHERE run_id = {run:UUID} AND rank = 0 AND context = '' ORDER BY key")
    assert {row["key"]: row["kind"] for row in rows}["none"] == "null"
    assert written.rows("SELECT key FROM param_conflicts WHERE run_id = {run:UUID}") == [{"key": "seed"}]


def test_events_read_back_in_order(written: Written) -> None:
    """Each event has its source, time, subject, step and nested metadata; a timed block is a pair with its duration; events without a run are found by their subject."""
    events = read.events(written.run_id)
    by_name = {one.name: one for one in events}
    pushed = by_name["pushed"]
    assert (pushed.id, pushed.source, pushed.subject, pushed.step, pushed.time) == (
        written.ids["event"],
        "registry",
        "model/net/1",
        7,
        dt.datetime(2026, 9, 1, 12, tzinfo=dt.UTC),
    )
    assert pushed.metadata == {"size": 3, "nested": {"a": [1, None]}}
    started, finished = by_name["checkpoint_started"], by_name["checkpoint_finished"]
    assert started.metadata == {"size": 1024}
    assert finished.metadata.keys() == {"size", "path", "seconds"}
    assert started.time <= finished.time
    assert by_name["upload_failed"].metadata["reason"] == "OSError: disk full"
    assert by_name["run_started"].source == "runstream"
    [emitted] = [one for one in read.events(subject="model/net/1") if one.run_id is None]
    assert (emitted.id, emitted.name, emitted.source, emitted.metadata) == (written.ids["emitted"], "deployed", "server", {"replicas": 2})
    [row] = written.rows("SELECT name, metadata FROM events WHERE run_id = {run:UUID} AND subject = 'model/net/1'")
    assert (row["name"], json.loads(row["metadata"]["nested"])) == ("pushed", {"a": [1, None]})


def test_an_alert_at_once_is_an_alert_like_others(written: Written) -> None:
    """It fires with its words, step, level and labels."""
    [alert] = read.alerts(written.run_id)
    assert (alert.id, alert.state, alert.rule, alert.kind, alert.severity, alert.text, alert.step) == (
        written.ids["alert"],
        "firing",
        "data looks odd",
        "code",
        "critical",
        "labels of shard 7 are zero",
        4,
    )
    assert np.isnan(alert.value)
    [row] = written.rows("SELECT project, labels FROM alerts WHERE run_id = {run:UUID}")
    assert row == {"project": PROJECT, "labels": {"team": "vision"}}


def test_the_account_knows_every_kind_of_row(written: Written, capsys: pytest.CaptureFixture[str]) -> None:
    """Values, alerts and all else that has a seq count as stored, once the last of them has come."""
    import argparse

    troubles: list[list[str]] = []

    def balances() -> bool:
        code = account_command.run(argparse.Namespace(run=written.run_id, json=True, database=None))
        told = json.loads(capsys.readouterr().out)
        troubles[:] = [one["troubles"] for one in told["writers"]]
        return code == 0

    wait_for(balances, 30, lambda: f"the account to balance: {troubles}")


def test_reading_is_done_by_a_user_who_may_only_read(written: Written, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the tests above read, they read as the stack's analyst, whom a home folder with a running stack names by itself; what that user would change is refused, and is as it was."""
    for variable in ("CLICKHOUSE_URL", "READ_URL", "KAFKA"):
        monkeypatch.delenv(f"RUNSTREAM_{variable}")
    url = load().reading_url
    assert url == environment["RUNSTREAM_READ_URL"]
    assert "//analyst@" in url
    assert read.run(written.run_id).name == "whole"
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:9")
    assert load().reading_url == "http://127.0.0.1:9", "who names another ClickHouse is not read from this one"
    for statement in ("TRUNCATE TABLE events_log", "INSERT INTO events_log (name) VALUES ('x')", "DROP VIEW metrics"):
        with pytest.raises(sql.SqlError) as refused:
            sql.ask(url, statement, database="runstream")
        assert refused.value.code == 164
    assert read.events(written.run_id, url=url)


def test_who_asks_for_what_is_not_there_is_told(written: Written, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """A run that is not stored, a name that is none, and no address at all are one sentence each."""
    assert written
    with pytest.raises(read.ReadError, match="is stored"):
        read.run("00000000-0000-0000-0000-000000000001")
    with pytest.raises(read.ReadError, match="project/name"):
        read.metrics("nonsense")
    monkeypatch.delenv("RUNSTREAM_CLICKHOUSE_URL")
    monkeypatch.delenv("RUNSTREAM_READ_URL")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    with pytest.raises(read.ReadError, match="RUNSTREAM_CLICKHOUSE_URL"):
        read.runs()
