"""Objects whose own code raises, given to calls that begin a run or have none: each is told, and nothing is raised into the program."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

import runstream
from runstream import StrictError, testing
from runstream._init import PARENT
from runstream_schemas.ids import run_id_of


class Odd:
    """What cannot be told as a text, compared or taken for true or false."""

    def __str__(self) -> str:
        raise LookupError("odd")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise LookupError("odd")

    __hash__ = object.__hash__

    def __bool__(self) -> bool:
        raise LookupError("odd")


@pytest.mark.parametrize("argument", ["project", "name", "id", "external_id", "owner", "tags", "group", "parent", "config", "metadata", "resume"])
def test_a_run_begins_whatever_it_is_given(argument: str, caplog: pytest.LogCaptureFixture) -> None:
    """Each argument of init says what is wrong with it, and the run records; in strict mode it raises. A thing without a text names no run, or all runs with one would be the same."""
    odd: Any = [Odd()] if argument == "tags" else {Odd(): Odd()} if argument in ("config", "metadata") else Odd()
    given: dict[str, Any] = {"project": "p", argument: odd}
    with testing.recorder(strict=False) as recorded, runstream.init(**given) as run:
        run.log({"after": 1.0})
    assert recorded.metric("after") == [1.0]
    assert "Odd" in caplog.text or "LookupError" in caplog.text
    assert run.id != run_id_of("p", "an Odd")
    with testing.recorder(), pytest.raises(StrictError):
        runstream.init(**given)


@pytest.mark.parametrize("argument", ["event", "subject", "metadata", "source", "time", "step"])
def test_events_without_a_run_take_whatever_comes(argument: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is odd is told, and the rest of the event is kept where it still has a subject and can be read."""
    given: dict[str, Any] = {"event": "deployed", "subject": "model/a/1", argument: Odd()}
    with testing.recorder(strict=False) as recorded:
        answer = runstream.emit_event(**given)
        assert [one["event_id"] for one in recorded.events()] == [answer] * bool(answer)
    assert bool(answer) == (argument != "subject")
    assert "Odd" in caplog.text or "LookupError" in caplog.text


def test_a_child_begins_whatever_it_is_given(caplog: pytest.LogCaptureFixture) -> None:
    """Its name may be anything, as may what is said of it."""
    odd: Any = Odd()
    with testing.recorder(strict=False) as recorded, runstream.init("p") as run:
        with run.child(odd, config=odd, notes=odd, unknown=odd) as part:
            part.log({"after": 1.0})
        with run.child("fold", tags=[odd]) as fold:
            fold.log({"after": 2.0})
    assert recorded.metric("after", part) + recorded.metric("after", fold) == [1.0, 2.0]
    assert "name of child must be a text, got an Odd" in caplog.text


def test_joining_a_run_that_is_told_wrongly_records_nothing(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the environment of a child process may be anybody's: settings that do not fit are a warning, as no run is."""
    with testing.recorder(strict=False):
        for told in ("nonsense", "[]", json.dumps({"run_id": "x", "project": "p", "given": {"mode": "sideways"}}), json.dumps({"run_id": 5})):
            monkeypatch.setitem(os.environ, PARENT, told)
            caplog.clear()
            run = runstream.attach()
            run.log({"a": 1.0})
            run.finish()
            assert "attach found no run to join" in caplog.text
