"""What a run's calls leave in the journal, how it ends, and that nothing that users give raises."""

from __future__ import annotations

import datetime as dt
import enum
import json
import logging
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runstream
from runstream._live import live_runs
from runstream_producers.journal import format as fmt
from runstream_schemas import records as rec
from runstream_schemas import wire
from tests.producers.journals import bits, read_back
from tests.sdk.conftest import Offline


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the SDK warned of."""
    return [record.getMessage() for record in caplog.records if record.name == "runstream" and record.levelno >= logging.WARNING]


def end_of(offline: Offline, run: runstream.Run) -> fmt.End:
    """How a run's journal ended."""
    return fmt.End.from_json((offline.journal(run)[0] / "end.json").read_text())


def test_what_is_said_of_a_run(offline: Offline) -> None:
    """Arguments of init are one record; `change` adds others with what changed alone; None says nothing."""
    run = runstream.init(
        "p",
        "n",
        owner="o",
        namespace="ns",
        external_id="x-1",
        framework="torch",
        task="mnist",
        notes="free",
        tags=["a", "b"],
        metadata={"n": 1, "t": [1, None]},
    )
    run.change(name="renamed", tags="single", owner=None)
    run.change(name=5, metadata={})
    first, second, third = offline.records(run, fmt.Kind.RUN)
    assert first.pop("time_ms") > 1.7e12
    assert first == {
        "name": "n",
        "owner": "o",
        "namespace": "ns",
        "external_id": "x-1",
        "framework": "torch",
        "task": "mnist",
        "notes": "free",
        "tags": ["a", "b"],
        "metadata": {"n": "1", "t": "[1, null]"},
    }
    assert (second["name"], second["tags"], set(second)) == ("renamed", ["single"], {"time_ms", "name", "tags"})
    assert (third["name"], third["metadata"]) == ("5", {})


def test_a_change_of_what_a_run_does_not_have_is_told(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Unknown fields and wrong types are one warning each and never reach the topic, where they could not be stored."""
    run = runstream.init("p")
    run.change(shoe_size=43, tags=5, metadata=["x"])
    assert len(warnings_of(caplog)) == 3
    for payload in offline.records(run, fmt.Kind.RUN):
        wire.encode(rec.Run(run_id=run.id, writer=1, seq=0, project="p", **payload))


class Colour(enum.Enum):
    RED = 1


def test_params_keep_their_types(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Kinds and JSON values of every sort of param; nested ones flatten with dots; dicts within lists stay JSON; what is no param is one warning."""
    run = runstream.init("p")
    endless: dict[str, Any] = {}
    endless["again"] = endless
    params: Any = {
        "n": None,
        "b": True,
        "i": 1 << 70,
        "f": float("nan"),
        "s": "ü",
        "nested": {"a": {"b": 1}, "empty": {}},
        "list": [1, "x", None, [True]],
        "set": {"b", "a"},
        "layers": [{"type": "conv", "k": [3, 3]}, {}],
        "np": np.float32(0.5),
        "np_b": np.bool_(True),
        "np_i": np.int64(7),
        "path": Path("/a/b"),
        5: 1.5,
        "bad": object(),
        "bytes": b"x",
        "array": np.zeros(3),
        "listed": [object()],
        "endless": endless,
        "huge": 10**5000,
    }
    run.log_params(params, context="eval")
    run.log_params(5)  # pyright: ignore[reportArgumentType]  # what callers do
    found = {one["key"]: (one["kind"], json.loads(one["value"])) for one in offline.records(run, fmt.Kind.PARAM)}
    assert str(found.pop("f")) == "('float', nan)"
    assert found == {
        "n": ("null", None),
        "b": ("bool", True),
        "i": ("int", 1 << 70),
        "s": ("string", "ü"),
        "nested.a.b": ("int", 1),
        "nested.empty": ("dict", {}),
        "list": ("list", [1, "x", None, [True]]),
        "set": ("list", ["a", "b"]),
        "layers": ("list", [{"type": "conv", "k": [3, 3]}, {}]),
        "np": ("float", 0.5),
        "np_b": ("bool", True),
        "np_i": ("int", 7),
        "path": ("string", "/a/b"),
        "5": ("float", 1.5),
    }
    assert {one["context"] for one in offline.records(run, fmt.Kind.PARAM)} == {"eval"}
    told = warnings_of(caplog)
    assert len(told) == 8
    assert any("names of params must be texts" in one for one in told)
    assert all(any(f"'{key}" in one for one in told) for key in ("bad", "bytes", "array", "listed", "endless", "huge"))


def test_config_is_logged_as_params(offline: Offline) -> None:
    """`config=` of init goes the way of `log_params`."""
    run = runstream.init("p", config={"lr": {"start": 0.1}})
    assert [(one["key"], one["kind"], one["value"]) for one in offline.records(run, fmt.Kind.PARAM)] == [("lr.start", "float", "0.1")]


def test_events(offline: Offline) -> None:
    """An `Event` and a name with arguments are the same; metadata of any sort becomes JSON; the id comes back."""
    run = runstream.init("p")
    moment = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
    one = run.log_event(runstream.Event("saved", runstream.EventSource("trainer"), moment, {"n": 1}, "checkpoint/5", 7))
    other = run.log_event("saved", source="trainer", metadata={"n": 1}, step=7, subject="checkpoint/5")
    circle: list[Any] = []
    circle.append(circle)
    odd: Any = {"o": object(), "c": circle, "k": {(1, 2): 3}, 5: float("inf")}
    run.log_event("odd", metadata=odd)
    first, second, third = offline.records(run, fmt.Kind.EVENT)
    assert (first["event_id"], second["event_id"]) == (one, other)
    assert uuid.UUID(one).version == 7
    assert first["time_ms"] == 1_767_312_000_000
    for payload in (first, second):
        assert {key: payload[key] for key in ("name", "source", "subject", "step", "metadata")} == {
            "name": "saved",
            "source": "trainer",
            "subject": "checkpoint/5",
            "step": 7,
            "metadata": {"n": "1"},
        }
    assert set(third["metadata"]) == {"o", "c", "k", "5"}
    assert all(isinstance(json.loads(value), (str, float)) for value in third["metadata"].values())


ODD: dict[str, Any] = {"time": "yesterday", "metadata": None}
ODD_CALLS: list[Callable[[Any], object]] = [
    lambda run: run.log_event(None),
    lambda run: run.log_event(5, source=Colour.RED, subject=Path("a"), metadata=[1], step="x"),
    lambda run: run.log_event(runstream.Event("n", **ODD)),
    lambda run: run.log_event("n\ud800", metadata={"k\ud800": "v\ud800"}),
    lambda run: run.alert_on(5, ">", np.float32(1.5), name=7, text=None, context=Colour.RED, rank=np.int32(1), channels="slack"),
    lambda run: run.alert_on("a", ">", "5"),
    lambda run: run.alert_on("a", "above", 5),
    lambda run: run.alert_on("a", ["x"], 5),
    lambda run: run.alert_on("a", ">", float("nan")),
    lambda run: run.alert_on("a", ">", 5, severity="dire"),
    lambda run: run.alert_on("a", ">", 5, rank="first"),
    lambda run: run.alert_on("a", ">", 5, rank=1 << 31),
    lambda run: run.alert_on("a", "non_finite", 3),
    lambda run: run.log_params(None),
    lambda run: run.log_params({"a\ud800": "b\ud800"}),
    lambda run: run.change(name="a\ud800", tags=["b\ud800"]),
    lambda run: run.log(object(), step=object(), time=object(), context=object(), subject=object()),
    lambda run: run.fail(None),
]


@pytest.mark.parametrize("call", ODD_CALLS)
def test_nothing_that_users_give_raises_or_spoils_a_record(offline: Offline, call: Callable[[Any], object]) -> None:
    """Whatever a call is given, it returns, and what it left in the journal fits its schema."""
    run = runstream.init("p")
    call(run)
    run.log({"a": 1.0})
    assert len(offline.rows(run)) == 1
    for payload in offline.records(run, fmt.Kind.EVENT):
        wire.encode(rec.Event(run_id=run.id, writer=1, seq=0, **payload))
    for number, payload in enumerate(offline.records(run, fmt.Kind.RULE)):
        wire.encode(rec.Rule(writer=1, ordinal=number, **payload))
    for payload in offline.records(run, fmt.Kind.PARAM):
        wire.encode(rec.Param(run_id=run.id, writer=1, seq=0, **payload))
    for payload in offline.records(run, fmt.Kind.RUN):
        wire.encode(rec.Run(run_id=run.id, writer=1, seq=0, project="p", **payload))


def test_rules(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """A rule's record, its id the same from every rank that registers it and another for another rule; wrong ones are told and have no id."""
    run = runstream.init("p", id="one")
    rule = run.alert_on("loss/*", ">=", 2, severity="critical", text="{value}", context=runstream.Context.VALIDATION, rank=1, channels=["a", "b"])
    broken = run.alert_on("loss", "non_finite")
    assert run.alert_on("loss", "=>", 3) == ""  # pyright: ignore[reportArgumentType]  # what callers do
    first, second = offline.records(run, fmt.Kind.RULE)
    assert first.pop("time_ms") > 1.7e12
    assert first == {
        "rule_id": rule,
        "version": 1,
        "name": "loss/* >= 2",
        "kind": "threshold",
        "metric": "loss/*",
        "run_id": run.id,
        "context": "validation",
        "rank": 1,
        "operator": ">=",
        "threshold": 2.0,
        "severity": "critical",
        "text": "{value}",
        "channels": ["a", "b"],
    }
    assert (second["rule_id"], second["kind"], second["name"]) == (broken, "non_finite", "loss is not finite")
    assert not {"operator", "threshold"} & second.keys(), "what is left out is not written"
    again = runstream.init("p", id="one")
    assert again.alert_on("loss/*", ">=", 2.0, severity="critical", text="{value}", context="validation", rank=1, channels=["a", "b"]) == rule
    assert again.alert_on("loss/*", ">=", 3.0, severity="critical", text="{value}", context="validation", rank=1, channels=["a", "b"]) != rule
    assert ["'=>'" in one for one in warnings_of(caplog)] == [True]


def test_run_ids(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same id of a project is the same run, under either name; RUNSTREAM_RUN_ID joins ranks; without anything each run is new."""
    named = runstream.init("p", id="a").id
    assert named == runstream.init("p", external_id="a").id == runstream.init("p", "other name", id="a").id
    assert named != runstream.init("q", id="a").id
    assert runstream.init("p", id=5).id == runstream.init("p", id="5").id  # pyright: ignore[reportArgumentType]  # what callers do
    assert runstream.init("p").id != runstream.init("p").id
    assert uuid.UUID(runstream.init("p").id).version == 7
    monkeypatch.setenv("RUNSTREAM_RUN_ID", "job-5")
    joined = runstream.init("p").id
    assert joined == runstream.init("p").id == runstream.init("p", id="job-5").id
    assert runstream.init("p", id="a").id == named
    own = str(uuid.uuid4())
    monkeypatch.setenv("RUNSTREAM_RUN_ID", own)
    assert runstream.init("p").id == own


def test_a_job_without_an_id_is_told(offline: Offline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks that have no id in common are told which setting gives them one."""
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "2")
    run = runstream.init("p")
    assert run.rank == 2
    [told] = warnings_of(caplog)
    assert "RUNSTREAM_RUN_ID" in told


def test_the_identity_of_a_writer(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """writer.json says who writes: run, ranks, node, process, and what it runs on."""
    for name, value in {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "j",
        "TORCHELASTIC_RESTART_COUNT": "3",
    }.items():
        monkeypatch.setenv(name, value)
    run = runstream.init("p")
    one = fmt.Identity.from_json((offline.journal(run)[0] / "writer.json").read_text())
    assert (one.run_id, one.project, one.kind, one.rank, one.local_rank, one.world_size, one.attempt) == (run.id, "p", "rank", 1, 1, 2, "torchrun-j-3")
    assert abs(one.started_ms / 1000 - time.time()) < 60
    assert {"python", "platform", "command", "directory", "env.RANK"} <= set(one.environment)
    assert "packages" not in one.environment, "they are params"


def test_a_context_manager_finishes(offline: Offline) -> None:
    """The end of a with block finishes the run; an exception in it fails the run with its words, and goes on."""
    with runstream.init("p") as run:
        run.log({"a": 1.0})
    assert end_of(offline, run).state == "finished"
    with pytest.raises(ValueError, match="no"), runstream.init("p") as run:
        raise ValueError("no")
    assert (end_of(offline, run).state, end_of(offline, run).reason) == ("failed", "ValueError: no")
    assert run.finish() is run.finish()
    assert live_runs() == []


@pytest.mark.parametrize(
    ("ending", "state", "reason"),
    [
        ("", "finished", ""),
        ("raise ValueError('no')", "failed", "ValueError: no"),
        ("import sys; sys.exit(0)", "finished", ""),
        ("run = None; runstream.init('p', mode='disabled'); import gc; gc.collect()", "finished", ""),
    ],
)
def test_a_script_without_a_finish_ends_well(offline: Offline, ending: str, state: str, reason: str) -> None:
    """At exit runs are finished, those that no variable holds any more included; an uncaught exception fails them, and its traceback is still shown."""
    script = f"import runstream\nrun = runstream.init('p')\nrun.log({{'a': 1.0}})\n{ending}"
    done = subprocess.run([sys.executable, "-c", script], env=offline.place.environ, capture_output=True, text=True, timeout=30, check=False)
    [folder] = offline.folders()
    end = fmt.End.from_json((folder / "end.json").read_text())
    assert (end.state, end.reason, end.points) == (state, reason, 1)
    assert ("Traceback" in done.stderr) == ending.startswith("raise")


def test_the_account_of_a_run(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Points logged and dropped are counted as the calls return; offline nothing is shipped, and finish says what is kept and where."""
    run = runstream.init("p")
    run.log({"a": 1.0, "b": [2.0]})
    run.log({"a": 1.0, "b": None, "c": 2.0})
    assert (run.points_logged, dict(run.points_dropped), run.rows_shipped, run.points_shipped) == (3, {"bad_value": 2}, 0, 0)
    done = run.finish(5)
    assert (done.shipped, done.rows_left, done.folder) == (False, 3, offline.journal(run)[0])
    assert sum("'b'" in one for one in warnings_of(caplog)) == 1


def test_a_disabled_run_records_nothing(offline: Offline) -> None:
    """In mode disabled every call works and no file is made."""
    run = runstream.init("p", mode="disabled", config={"a": 1})
    run.log({"a": 1.0})
    run.log_event("x")
    assert run.alert_on("a", ">", 1)
    assert run.points_logged == 0
    assert run.finish() == runstream.Finished(shipped=True, rows_left=0, folder=None)
    assert not offline.place.journals.exists()


def test_where_no_journal_can_be_written_there_is_one_warning(
    offline: Offline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder that cannot be made costs the record of the run and not the run: one warning names the setting, and training goes on."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path / "file" / "below"))
    with runstream.init("p", config={"a": 1}) as run:
        for _ in range(10):
            run.log({"a": 1.0})
    [told] = warnings_of(caplog)
    assert "RUNSTREAM_JOURNAL_DIR" in told
    assert not run.finish().shipped, "what was never recorded was not shipped"


def test_a_read_only_folder_is_one_warning(offline: Offline, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """On a file system that is mounted read-only training goes on, with one warning."""
    folder = tmp_path / "ro"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs", str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(folder / "j"))
        run = runstream.init("p")
        run.log({"a": 1.0})
        run.finish()
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
    [told] = warnings_of(caplog)
    assert "Read-only" in told


def test_strict_mode_raises(offline: Offline) -> None:
    """With strict=True what would be a warning is a StrictError, in every call."""
    run = runstream.init("p", strict=True)
    calls: tuple[Callable[[], object], ...] = (
        lambda: run.log({"a": ["text"]}),
        lambda: run.log({"a": 1.0}, step=0.5),  # pyright: ignore[reportArgumentType]
        lambda: run.log_params({"a": object()}),
        lambda: run.log_event("x", step="y"),  # pyright: ignore[reportArgumentType]
        lambda: run.alert_on("a", ">", None),
        lambda: run.change(shoe_size=43),
    )
    for call in calls:
        with pytest.raises(runstream.StrictError):
            call()
    run.log({"a": 1.0})
    assert [row.values for row in offline.rows(run)] == [{"a": bits(1.0)}]


def test_wrong_settings_raise_in_init(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """SettingsError is the one thing that init raises, and names the setting."""
    with pytest.raises(runstream.SettingsError, match="mode"):
        runstream.init("p", mode="sometimes")  # pyright: ignore[reportArgumentType]
    with pytest.raises(runstream.SettingsError, match="batch_size"):
        runstream.init("p", settings={"batch_size": 1})
    assert runstream.init("p", settings={"batch_size": 2048})._settings.batch_size == 2048
    monkeypatch.setenv("RUNSTREAM_KAFAK", "x")
    with pytest.raises(runstream.SettingsError, match=r"RUNSTREAM_KAFAK.*RUNSTREAM_KAFKA"):
        runstream.init("p")


def test_module_level_calls_go_to_the_run_begun_last(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Before any run they are one warning a call and do nothing."""
    runstream.log({"a": 1.0})
    assert runstream.alert_on("a", ">", 1) == ""
    assert runstream.finish().shipped
    assert [told.split()[1] for told in warnings_of(caplog)] == ["log", "alert_on", "finish"]
    runstream.init("p")
    run = runstream.init("p")
    assert runstream.current() is run
    runstream.log({"a": 1.0}, step=3, context="v")
    runstream.log_params({"x": 1})
    assert runstream.log_event("e")
    assert runstream.alert_on("a", ">", 1)
    runstream.finish(0)
    assert [(row.step, row.context) for row in offline.rows(run)] == [(3, "v")]
    assert end_of(offline, run).next_seq == 5


def test_two_runs_of_a_process_do_not_meet(offline: Offline) -> None:
    """Each run has a journal of its own, and is finished by itself."""
    one, other = runstream.init("p"), runstream.init("p")
    for number in range(10):
        one.log({"a": float(number)})
        other.log({"b": float(number)})
    one.finish(0)
    other.log({"b": 10.0})
    assert len(offline.rows(one)) == 10
    assert len(offline.rows(other)) == 11


def test_what_a_journal_holds_is_there_without_a_finish(offline: Offline) -> None:
    """SIGKILL right after the last call: the rows are in the journal."""
    script = (
        "import os, signal, runstream\nrun = runstream.init('p')\nfor n in range(1000): run.log({'a': float(n)}, step=n)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], env=offline.place.environ, timeout=30, check=False)
    assert done.returncode == -9
    [folder] = offline.folders()
    one = fmt.Identity.from_json((folder / "writer.json").read_text())
    assert [row.step for row in read_back(folder, one.writer)] == list(range(1000))
    assert not (folder / "end.json").exists()
