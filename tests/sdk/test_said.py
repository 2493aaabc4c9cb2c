"""The calls beside metrics: what they record, what wrong input is told, and the test doubles that show it."""

from __future__ import annotations

import datetime as dt
import enum
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import runstream
from runstream import Condition, Event, EventSource, StrictError, _module, testing
from runstream._surroundings import PARTS, captured, packages
from runstream_producers.journal import slow


class Raises(dict[str, Any]):
    """A mapping whose items cannot be had."""

    def items(self) -> Any:
        raise LookupError("odd")


class Odd(enum.Enum):
    """A phase of the user's own."""

    SECOND_HALF = 2


Call = Callable[[runstream.Run], object]
# What is given, and the words that the complaint must have.
WRONG: dict[str, tuple[Call, tuple[str, ...]]] = {
    "a name of a metric that is no text": (lambda run: run.log({1: 2.0}), ("names of metrics", "an int (1)")),  # pyright: ignore[reportArgumentType]
    "a list as a value": (lambda run: run.log({"a": [1]}), ("'a'", "a list")),
    "a step that is a truth value": (lambda run: run.log({"a": 1.0}, step=True), ("step", "True")),
    "one among names that are known": (lambda run: [run.log({"a": 1.0}, step=step) for step in (0, True)], ("step", "True")),
    "a step that is no integer": (lambda run: run.log({"a": 1.0}, step=0.5), ("step", "0.5")),  # pyright: ignore[reportArgumentType]
    "a time in milliseconds": (lambda run: run.log({"a": 1.0}, time=1.7e12), ("time", "milliseconds")),
    "params that are no mapping": (lambda run: run.log_params([1]), ("params of log_params must be a mapping", "a list")),  # pyright: ignore[reportArgumentType]
    "a context of metrics that is none": (lambda run: run.log({"a": 1.0}, context=5), ("context of log", "an int", "'5'")),  # pyright: ignore[reportArgumentType]
    "a subject of metrics that is no text": (lambda run: run.log({"a": 1.0}, subject=5), ("subject of log", "an int", "'5'")),  # pyright: ignore[reportArgumentType]
    "a source of metrics that is no text": (lambda run: run.log({"a": 1.0}, source=5), ("source of log", "an int", "'5'")),  # pyright: ignore[reportArgumentType]
    "an empty name of a metric": (lambda run: run.log({"": 1.0}), ("names of metrics", "''")),
    "a name of a metric with a NUL": (lambda run: run.log({"a\0b": 1.0}), ("names of metrics", "NUL")),
    "a context beyond its size": (lambda run: run.log({"a": 1.0}, context="c" * 100_000), ("context", "10000", "100000")),
    "a name of a metric beyond its size": (lambda run: run.log({"a" * 100_000: 1.0}), ("names", "10000", "100000")),
    "metrics whose mapping raises": (lambda run: run.log(Raises(a=1.0)), ("a call of log", "Raises", "LookupError")),
    "params whose mapping raises": (lambda run: run.log_params(Raises(a=1)), ("log_params", "LookupError: odd")),
    "metadata whose mapping raises": (lambda run: run.log_event("x", metadata=Raises(a=1)), ("log_event", "LookupError: odd")),
    "an empty name of a param": (lambda run: run.log_params({"": 1}), ("''", "1 to 10000")),
    "a name of a param beyond its size": (lambda run: run.log_params({"a" * 100_000: 1}), ("1 to 10000", "100000")),
    "two params of one name": (lambda run: run.log_params({"a": {"b": 1}, "a.b": 2}), ("'a.b'", "two names")),
    "an integer that Python does not write": (lambda run: run.log_params({"x": 10**5000}), ("'x'", "4300 digits")),
    "a context of params that is none": (lambda run: run.log_params({"a": 1}, context=5), ("context of log_params", "an int")),  # pyright: ignore[reportArgumentType]
    "a source of an event that is no text": (lambda run: run.log_event("x", source=5), ("source of the event", "an int")),  # pyright: ignore[reportArgumentType]
    "a source without a text": (lambda run: run.log_event("x", source=EventSource(5)), ("source of the event", "an int")),  # pyright: ignore[reportArgumentType]
    "a subject of an event that is no text": (lambda run: run.log_event("x", subject=5), ("subject of the event", "an int")),  # pyright: ignore[reportArgumentType]
    "metadata that JSON cannot hold": (lambda run: run.log_event("x", metadata={"a": object()}), ("metadata 'a'", "an object")),
    "metadata under a number": (lambda run: run.log_event("x", metadata={1: 2}), ("names of metadata", "an int")),  # pyright: ignore[reportArgumentType]
    "metadata of a run that JSON cannot hold": (lambda run: run.update_metadata("a", object()), ("metadata 'a' of the run", "an object")),
    "a name of a run that is no text": (lambda run: run.change(name=5), ("name of the run", "an int")),
    "a group that is no text": (lambda run: run.change(group=5), ("group of the run", "an int")),
    "a parent that is none": (lambda run: run.change(parent=5), ("parent of the run", "an int")),
    "an alert whose text is none": (lambda run: run.alert("x", text=5), ("text of alert", "an int")),  # pyright: ignore[reportArgumentType]
    "an alert about a number": (lambda run: run.alert("x", subject=5), ("subject of alert", "an int")),  # pyright: ignore[reportArgumentType]
    "labels that are no mapping": (lambda run: run.alert("x", labels=5), ("labels of alert", "an int")),  # pyright: ignore[reportArgumentType]
    "labels of numbers": (lambda run: run.alert("x", labels={"a": 2}), ("labels of alert", "an int")),  # pyright: ignore[reportArgumentType]
    "channels that are no list": (lambda run: run.alert("x", channels=5), ("channels of alert", "an int")),  # pyright: ignore[reportArgumentType]
    "a rule of an operator alone": (lambda run: run.alert_on("a", Condition(">", 3)), ("kind must be one of", "'>'")),  # pyright: ignore[reportArgumentType]
    "a rule on a number": (lambda run: run.alert_on(5, ">", 1), ("metric must be a text", "5")),  # pyright: ignore[reportArgumentType]
    "a rule with a number for a text": (lambda run: run.alert_on("a", ">", 1, text=5), ("text must be a text", "5")),  # pyright: ignore[reportArgumentType]
    "a rule with a number for a name": (lambda run: run.alert_on("a", ">", 1, name=5), ("name must be a text", "5")),  # pyright: ignore[reportArgumentType]
    "a rule in no context": (lambda run: run.alert_on("a", ">", 1, context=5), ("context must be a text", "5")),  # pyright: ignore[reportArgumentType]
    "a threshold that is a truth value": (lambda run: run.alert_on("a", ">", True), ("threshold must be a number", "True")),
    "a unit that is no text": (lambda run: run.define_metric("a", unit=5), ("unit of define_metric", "an int")),  # pyright: ignore[reportArgumentType]
    "a step metric that is no text": (lambda run: run.define_metric("a", step_metric=5), ("step_metric of define_metric", "an int")),  # pyright: ignore[reportArgumentType]
    "a definition beyond its size": (lambda run: run.define_metric("a" * 9_000_000), ("name of define_metric", "9000000")),
    "a summary of a number": (lambda run: run.summary.update(5), ("summary.update", "an int")),
    "a failure that is no text": (lambda run: run.fail(5), ("reason of fail", "an int")),  # pyright: ignore[reportArgumentType]
    "a preemption that is no text": (lambda run: run.mark_preempted(5), ("reason of mark_preempted", "an int")),  # pyright: ignore[reportArgumentType]
    "a child without a name": (lambda run: run.child(""), ("name of child", "''")),
    "a child whose name is no text": (lambda run: run.child(5), ("name of child", "an int")),  # pyright: ignore[reportArgumentType]
    "params of a child that are no mapping": (lambda run: run.child("a", config=5), ("config of child", "an int")),  # pyright: ignore[reportArgumentType]
    "a name of a param that is no text": (lambda run: run.log_params({"a": {3: 4}}), ("names of params", "'a.3'")),
    "a param that is no value": (lambda run: run.log_params({"a": object()}), ("'a'", "an object")),
    "an event without a name": (lambda run: run.log_event(""), ("event name of log_event", "''")),
    "metadata that is no mapping": (lambda run: run.log_event("x", metadata=[1]), ("metadata", "a list")),  # pyright: ignore[reportArgumentType]
    "a timed block without a name": (lambda run: run.timed(""), ("name of timed", "''")),
    "an alert without a title": (lambda run: run.alert(""), ("title of alert", "''")),
    "an alert of no level": (lambda run: run.alert("x", level="high"), ("level of alert", "info, warning, critical", "'high'")),  # pyright: ignore[reportArgumentType]
    "an alert at no step": (lambda run: run.alert("x", step="y"), ("step of alert", "'y'")),  # pyright: ignore[reportArgumentType]
    "a goal that is none": (lambda run: run.define_metric("a", goal="up"), ("goal of define_metric", "min, max", "'up'")),  # pyright: ignore[reportArgumentType]
    "a definition of nothing": (lambda run: run.define_metric(""), ("name of define_metric", "''")),
    "a summary value that is none": (lambda run: run.summary.update(a=object()), ("'a'", "an object")),
    "a summary value without a name": (lambda run: run.summary.update({"": 1}), ("name of summary", "''")),
    "metadata without a key": (lambda run: run.update_metadata("", 1), ("key of update_metadata", "''")),
    "metadata under a name of ours": (lambda run: run.update_metadata("runstream.parent", "x"), ("'runstream.parent'", "taken")),
    "tags that are one text": (lambda run: run.change(tags="abc"), ("tags", "list of texts", "'abc'")),
    "a field that a run has not": (lambda run: run.change(shoe_size=43), ("'shoe_size'", "one of")),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_input_is_told_once_and_raised_in_strict_mode(what: str, caplog: pytest.LogCaptureFixture) -> None:
    """The complaint names the argument, what was expected and what came; the call goes on, and the same mistake is told no second time."""
    call, words = WRONG[what]
    with testing.recorder(strict=False), runstream.init("p") as run:
        call(run)
        call(run)
        run.log({"after": 1.0})
    told = [record.getMessage() for record in caplog.records if record.name == "runstream" and " alert: " not in record.getMessage()]
    assert len(told) == 1, told
    for word in words:
        assert word in told[0]
    with testing.recorder(), runstream.init("p") as run, pytest.raises(StrictError):
        call(run)


@pytest.mark.parametrize("project", ["", None, 5], ids=repr)
def test_a_project_must_have_a_name(project: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A run without one is told, and recorded all the same."""
    with testing.recorder(strict=False):
        assert runstream.init(project).finish().folder is not None
    assert "project of init must be a text" in caplog.text
    with testing.recorder(), pytest.raises(StrictError, match="project"):
        runstream.init(project)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"name": 5}, "name of the run must be a text, got an int"),
        ({"owner": 5}, "owner of the run must be a text"),
        ({"notes": 5}, "notes of the run must be a text"),
        ({"group": 5}, "group of the run must be a text"),
        ({"parent": 5}, "parent of the run must be a text"),
        ({"external_id": 5}, "external_id of the run must be a text"),
        ({"id": 5}, "id of init must be a text"),
        ({"id": ""}, "id and external_id of init must be texts that are not empty"),
        ({"id": "a", "external_id": "b"}, "of id and external_id of init one names the run"),
        ({"strict": "no"}, "strict of init must be True or False, got 'no'"),
        ({"config": 5}, "config of init must be a mapping of names to values, got an int"),
        ({"tags": 5}, "'tags' of the run was not recorded: expected a list of texts"),
    ],
    ids=lambda one: "-".join(one) if isinstance(one, dict) else None,  # pyright: ignore[reportUnknownArgumentType]
)
def test_arguments_of_init_are_checked(given: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each is told by its name, and the run begins all the same; strict mode raises."""
    with testing.recorder(strict=False):
        assert runstream.init("p", **given).finish().folder is not None
    assert words in caplog.text
    options: dict[str, Any] = given | ({"strict": "yes"} if "strict" in given else {})
    with testing.recorder(), pytest.raises(StrictError):
        runstream.init("p", **options)


@pytest.mark.parametrize("call", ["log", "log_params", "log_event", "alert", "alert_on", "define_metric", "timed", "finish"])
def test_calls_without_a_run(call: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told once by its own name, whatever others told before; in strict mode it raises every time. A block that is not timed can be added to."""
    monkeypatch.setattr(_module._Current, "run", None)
    monkeypatch.setattr(_module._Current, "told", {"another"})
    arguments: dict[str, tuple[Any, ...]] = {"log": ({},), "log_params": ({},), "finish": (), "alert_on": ("a", ">", 1)}
    answers: list[Any] = [getattr(runstream, call)(*arguments.get(call, ("a",))) for _ in range(2)]
    assert caplog.text.count(f"{call} was called before runstream.init") == 1
    if call == "timed":
        block: Any
        with answers[0] as block:
            block.metadata["path"] = "x"
    monkeypatch.setattr(_module._Current, "told", set[str]())
    monkeypatch.setenv("RUNSTREAM_STRICT", "1")
    for _ in range(2):
        with pytest.raises(StrictError, match=f"{call} was called before"):
            getattr(runstream, call)(*arguments.get(call, ("a",)))


def test_a_decorator_without_a_project() -> None:
    """Is told where it stands, not where the function is called."""
    with pytest.raises(TypeError, match="needs the project"):

        @runstream.track  # pyright: ignore[reportArgumentType]
        def train() -> None:
            """Trains nothing."""


def test_what_is_too_large_is_refused_whole(caplog: pytest.LogCaptureFixture) -> None:
    """A text, a tensor and a param beyond a message are told with their size, and nothing of them is kept."""
    large = slow.ROW_BYTES_MAX
    with testing.recorder(strict=False) as recorded, runstream.init("p") as run:
        run.log({"loss": 1.0, "text": "x" * large, "tensor": np.zeros(large)}, step=3)
        run.log_params({"param": "x" * large})
        run.summary["large"] = b"x" * large
        assert (recorded.values(), recorded.params(), recorded.summary(), recorded.metric("loss")) == ([], {}, {}, [1.0])
        assert "large" not in run.summary
    told = [record.getMessage() for record in caplog.records if record.name == "runstream"]
    assert len(told) == 4
    assert all("bytes" in one and str(large) in one for one in told)


def test_what_was_not_recorded_is_not_said_to_be(caplog: pytest.LogCaptureFixture) -> None:
    """Calls that record nothing answer so; what they tell is short, however long what they were given."""
    large = "x" * 9_000_000
    with testing.recorder(strict=False), runstream.init("p") as run:
        assert run.alert_on("a", ">", 1, text=large) == ""
        assert run.alert("a", large) == ""
        assert run.log_event("a", metadata={"k": large}) == ""
        assert run.update_metadata("a", large) is run.update_metadata("", 1) is None
        run.finish()
        assert run.update_metadata("a", 1) is None
        assert run.log_event("late") == ""
    assert max(len(record.getMessage()) for record in caplog.records) < 1000
    assert " alert: " not in caplog.text


class NoText:
    """What cannot be told as a text."""

    def __str__(self) -> str:
        raise LookupError("odd")

    __repr__ = __str__


def test_a_context_that_is_none_is_told_among_calls_that_are_known() -> None:
    """Where the same names were logged in that context by its text, a number in its place is told all the same, and its row and count of steps are that context's."""
    with testing.recorder() as recorded, runstream.init("p") as run:
        for _ in range(3):
            run.log({"a": 1.0}, context="5", subject="7")
        for odd in ({"context": 5, "subject": "7"}, {"context": "5", "subject": 7}):
            with pytest.raises(StrictError, match="of log must be a text"):
                run.log({"a": 1.0}, **odd)  # pyright: ignore[reportArgumentType]
    with testing.recorder(strict=False) as recorded, runstream.init("p") as run:
        run.log({"a": 1.0}, context="5")
        run.log({"a": 2.0}, context=5)  # pyright: ignore[reportArgumentType]
        run.log({"a": 3.0}, context="5")
    assert [(row.context, row.step, row.values["a"]) for row in recorded.rows()] == [("5", 0, 1.0), ("5", 1, 2.0), ("5", 2, 3.0)]


def test_each_kind_of_mistake_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """An argument that is empty and one that is no text are two mistakes, as are two things that are no mapping; the same mistake again is not told."""
    with testing.recorder(strict=False), runstream.init("p") as run:
        for _ in range(2):
            for odd in ("", 5):
                run.define_metric(odd, goal="min")  # pyright: ignore[reportArgumentType]
            for odd in (None, 5):
                run.log(odd)  # pyright: ignore[reportArgumentType]
    told = [record.getMessage() for record in caplog.records]
    assert [
        sum(word in one for one in told) for word in ("not empty, got ''", "name of define_metric must be a text, got an int", "got None", "got an int (")
    ] == [1] * 4


@pytest.mark.parametrize("name", ["fail", "mark_preempted", "log_event", "define_metric", "alert", "update_metadata", "alert_on", "change", "summary", "log"])
def test_what_cannot_be_told_ends_no_training(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """A value whose text cannot be had is told in every place, and the run goes on."""
    calls: dict[str, Callable[[runstream.Run, Any], object]] = {
        "define_metric": lambda run, odd: run.define_metric("a", unit=odd),
        "alert": lambda run, odd: run.alert("a", odd, labels={odd: odd}),
        "update_metadata": lambda run, odd: run.update_metadata("a", odd),
        "alert_on": lambda run, odd: run.alert_on("a", ">", odd, text=odd),
        "change": lambda run, odd: run.change(tags=[odd], name=odd),
        "summary": lambda run, odd: run.summary.update({odd: odd}),
        "log": lambda run, odd: run.log({odd: 1.0}, step=odd, context=odd, subject=odd),
    }
    call: Callable[[runstream.Run, Any], object] = calls.get(name) or (lambda run, odd: getattr(run, name)(odd))
    with testing.recorder(strict=False) as recorded, runstream.init("p") as run:
        call(run, NoText())
        run.log({"after": 1.0})
    assert recorded.metric("after") == [1.0]
    assert "NoText" in caplog.text or "LookupError" in caplog.text
    with testing.recorder(), runstream.init("p") as run, pytest.raises(StrictError):
        call(run, NoText())


def test_a_block_without_a_name_writes_no_events() -> None:
    """It is told, and what is inside of it goes on; so it does where its metadata was replaced."""
    with testing.recorder(strict=False) as recorded, runstream.init("p") as run:
        with run.timed("") as block:
            block.metadata["a"] = 1
        with run.timed("x") as block:
            block.metadata = 5  # pyright: ignore[reportAttributeAccessIssue]
    assert [one["name"] for one in recorded.events()] == ["x_started", "x_finished"]


def test_metadata_that_stands_for_what_json_knows() -> None:
    """Numbers of numpy, paths and moments are told by nobody."""
    with testing.recorder() as recorded, runstream.init("p") as run:
        run.log_event("x", metadata={"n": np.float32(0.5), "path": Path("a"), "day": dt.date(2026, 1, 2), "set": {1}})
    assert recorded.events()[0]["metadata"] == {"n": 0.5, "path": "a", "day": "2026-01-02", "set": ["1"]}


def test_values_of_every_type() -> None:
    """Numbers are points; texts, bytes and arrays are values of the same call, at the same step and moment; contexts of any Enum are its names in lower case."""
    array = np.arange(4, dtype=">i2").reshape(2, 2)
    with testing.fixed_clock(1_750_000_000.0), testing.recorder() as recorded, runstream.init("p") as run:
        run.log({"loss": 0.5, "n": 3, "on": True, "text": "ü", "raw": b"\x00", "deep": {"array": array}}, step=7, context=Odd.SECOND_HALF, subject="model/a/1")
        run.log({"only": "text"})
        run.log({"only": 1.0})
    [row, counted] = recorded.rows()
    assert (row.values, row.step, row.context, row.subject, row.time_s) == ({"loss": 0.5, "n": 3.0, "on": 1.0}, 7, "second_half", "model/a/1", 1_750_000_000.0)
    assert counted.step == 1, "a call of texts alone counts as one"
    values = {one["name"]: one for one in recorded.values()}
    assert {name: (one["kind"], one["value"], one["step"], one["context"], one["subject"], one["time_ms"]) for name, one in values.items()} == {
        "text": ("string", "ü", 7, "second_half", "model/a/1", 1_750_000_000_000),
        "raw": ("bytes", b"\x00", 7, "second_half", "model/a/1", 1_750_000_000_000),
        "deep/array": ("tensor", array.tobytes(), 7, "second_half", "model/a/1", 1_750_000_000_000),
        "only": ("string", "text", 0, "", "", 1_750_000_000_000),
    }
    assert (values["deep/array"]["dtype"], values["deep/array"]["shape"]) == (">i2", [2, 2])


class OnADevice:
    """What a tensor of several elements looks like that lies elsewhere."""

    shape = (2, 2)
    dtype = "float32"
    device = type("Device", (), {"type": "cuda"})()


def test_a_tensor_on_a_device_is_not_waited_for() -> None:
    """It is refused with what to do, and nothing of it is read."""
    with testing.recorder(), runstream.init("p") as run, pytest.raises(StrictError, match=r"\.cpu\(\)"):
        run.log({"weights": OnADevice()})


def sources(recorded: testing.Recorder) -> dict[str, str]:
    """The library that each metric is said to come from."""
    import json

    return {name: one["name"] for one in recorded._records("value", None) if one["role"] == "source" for name in json.loads(one["value"])}


def test_where_values_come_from() -> None:
    """As the caller says; else the framework that calls; else the library whose numbers they are; nothing of plain numbers. It is written once a metric."""
    framework: dict[str, Any] = {"__name__": "lightning.pytorch.loggers"}
    exec("def report(run, values):\n    run.log(values)", framework)
    with testing.recorder() as recorded, runstream.init("p") as run:
        for _ in range(3):
            run.log({"plain": 1.0})
            run.log({"scalar": np.float32(1.0)})
            framework["report"](run, {"reported": 1.0})
            run.log({"said": 1.0}, source="xgboost")
        run.log({"plain": 2.0}, source="tests")
    assert sources(recorded) == {"plain": "tests", "scalar": "numpy", "reported": "lightning", "said": "xgboost"}
    assert sum(1 for one in recorded._records("value", None) if one["role"] == "source") == 4


def test_events_and_timed_blocks() -> None:
    """A block is a pair with what was known before and after, and says how it failed; an exception goes on its way."""
    with testing.recorder() as recorded, runstream.init("p") as run:
        with run.timed("save", source="trainer", subject="checkpoint/1", step=4, size=3) as block:
            block.metadata["path"] = "x"
        with pytest.raises(KeyError), run.timed("load"):
            raise KeyError("no")
        run.log_event(Event("pushed", time=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)))
    started, finished, _, failed, pushed = recorded.events()
    assert (started["name"], started["metadata"]) == ("save_started", {"size": 3})
    assert (finished["name"], finished["source"], finished["subject"], finished["step"]) == ("save_finished", "trainer", "checkpoint/1", 4)
    assert finished["metadata"] == {"size": 3, "path": "x", "seconds": block.seconds}
    assert (failed["name"], failed["metadata"]["reason"]) == ("load_failed", "KeyError: 'no'")
    assert pushed["time_ms"] == 1_767_225_600_000


def test_events_without_a_run() -> None:
    """They belong to a client and need a subject; a new client begins where the last one has ended."""
    with testing.recorder() as recorded:
        with pytest.raises(StrictError, match="subject of the event"):
            runstream.emit_event("x", subject=5)  # pyright: ignore[reportArgumentType]
        first = runstream.emit_event("deployed", subject="model/a/1", metadata={"n": 1})
        recorded.finish()
        second = runstream.emit_event(Event("scaled", subject="model/a/1"))
        assert len({one["event_id"] for one in recorded.events()} & {first, second}) == 2
        with pytest.raises(StrictError, match="subject"):
            runstream.emit_event("lost")


def test_an_alert_is_told_here_where_nobody_else_hears_it(caplog: pytest.LogCaptureFixture) -> None:
    """Offline each one is a line, also in strict mode."""
    with testing.recorder() as recorded, runstream.init("p") as run:
        run.alert("first", "text", "info", labels={"team": "x"}, channels="ops")
        run.alert("first", "text")
    assert [(one["rule_name"], one["severity"], one["channels"], one["labels"]) for one in recorded.alerts()] == [
        ("first", "info", ["ops"], {"team": "x"}),
        ("first", "warning", [], {}),
    ]
    assert [record.getMessage() for record in caplog.records if "alert" in record.getMessage()] == [
        "runstream: info alert: first: text",
        "runstream: warning alert: first: text",
    ]


def test_the_life_of_a_run_by_hand() -> None:
    """`register`, `start` and `stop` are steps of their own; start is told once; the same name is the same run."""
    with testing.recorder() as recorded:
        run = runstream.register(project="p", external_id="x")
        assert run.start() is run.start() is run
        assert run.stop().folder is not None
        assert runstream.init("p", id="x").id == run.id
        assert [one["name"] for one in recorded.events()] == ["run_started"]


def test_children_and_groups() -> None:
    """A child is known by its parent and name, says whose it is, leaves module-level calls to the parent, and one of an ended run records nothing."""
    with testing.recorder(strict=False) as recorded, runstream.init("p", group="g") as run:
        with run.child("a", config={"fold": 1}, tags=["t"]) as child, run.child("a") as same, run.child("b") as other:
            assert child.id == same.id != other.id
            runstream.log({"whose": 1.0})
        assert [one.run_id for one in recorded.rows()] == [run.id]
        assert recorded.params(child) == {"fold": 1}
        told = [one["metadata"] for one in recorded.changes()]
        assert {"runstream.group": '"g"'} in told
        assert told.count({"runstream.parent": f'"{run.id}"'}) == 3
        run.finish()
        late = run.child("c")
        late.log({"x": 1.0})
        assert recorded.rows(late) == []


def test_a_function_as_a_run() -> None:
    """Each call is a run by the function's name, which gets it if it asks; an exception fails it and goes on."""

    @runstream.track("p", config={"k": 1})
    def train(lr: float, run: runstream.Run | None = None) -> tuple[float, str]:
        assert run is not None
        if lr < 0:
            raise ValueError("lr")
        return lr, run.id

    with testing.recorder() as recorded:
        value, run_id = train(0.1)
        assert value == 0.1
        with pytest.raises(ValueError, match="lr"):
            train(-1.0)
        assert sorted(one.get("name", "") for one in recorded.changes()) == ["train", "train"]
        assert recorded.params() == {"k": 1}
        assert runstream.init("p").id != run_id


def test_update_metadata_says_when() -> None:
    """The answer is the time of the change."""
    with testing.fixed_clock(1_750_000_000.0) as clock, testing.recorder() as recorded, runstream.init("p") as run:
        clock.advance(1.5)
        assert run.update_metadata("k", {"n": [1]}) == dt.datetime.fromtimestamp(1_750_000_001.5, dt.UTC)
        assert recorded.changes()[-1] == {"time_ms": 1_750_000_001_500, "metadata": {"k": '{"n": [1]}'}}


def test_a_url_where_there_is_a_console(monkeypatch: pytest.MonkeyPatch) -> None:
    """The address of the run's page, or nothing."""
    with testing.recorder(), runstream.init("p") as run:
        assert run.url == ""
        monkeypatch.setenv("RUNSTREAM_CONSOLE_URL", "https://console.example/")
        with runstream.init("p") as other:
            assert other.url == f"https://console.example/runs/{other.id}"


def test_nobody_can_be_asked_offline(caplog: pytest.LogCaptureFixture) -> None:
    """Whether a run existed is not known, and `resume` is taken as allow."""
    with testing.recorder(strict=False):
        run = runstream.init("p", id="x", resume="must")
        assert run.existed is None
    assert "resume='must' was taken as allow" in caplog.text


def test_surroundings_can_be_turned_off_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is captured is what was asked for; secrets in variables are hidden; git is the first rank's to tell, and packages stand in params."""
    monkeypatch.setenv("HF_TOKEN", "abc")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("UNRELATED", "x")
    everything = captured(frozenset(PARTS), first_of_node=True)
    assert (everything["env.HF_TOKEN"], everything["env.OMP_NUM_THREADS"]) == ("[hidden]", "2")
    assert "env.UNRELATED" not in everything
    assert any(one.startswith("numpy==") for one in packages())
    assert captured(frozenset(), first_of_node=True) == {}
    others = captured(frozenset(PARTS), first_of_node=False)
    assert not any(name.startswith("git.") for name in others)
    assert "packages" not in everything, "they would go along with each heartbeat"
    monkeypatch.chdir(tmp_path)
    assert not any(name.startswith("git.") for name in captured(frozenset({"git"}), first_of_node=True)), "no repository"


def test_what_git_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commit, branch, and whether a tracked file was changed."""
    place = tmp_path / "repository"
    place.mkdir()
    settings = ["-c", "user.name=ada", "-c", "user.email=ada@example.org", "-c", "init.defaultBranch=trunk"]

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *settings, *words], cwd=place, check=True, capture_output=True, text=True, env=os.environ | {"GIT_CONFIG_GLOBAL": "/dev/null"}
        ).stdout

    git("init", "-q")
    (place / "a.py").write_text("1")
    git("add", "a.py")
    git("commit", "-qm", "first")
    monkeypatch.chdir(place)
    from runstream import _surroundings

    found = captured(frozenset({"git"}), first_of_node=True)
    assert found == {"git.commit": git("rev-parse", "HEAD").strip(), "git.branch": "trunk", "git.dirty": "false"}
    (place / "a.py").write_text("2")
    (place / "untracked").write_text("")
    _surroundings._git.cache_clear()
    assert captured(frozenset({"git"}), first_of_node=True)["git.dirty"] == "true"
