"""What reading calls say of arguments that are not what they should be, and of an address that nobody named. No server is there to be asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream import read, testing

RUN: Any = "00000000-0000-0000-0000-000000000001"
FIVE: Any = 5
WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "run": (lambda: read.run(FIVE), "run must be a run, its id"),
    "run of metrics": (lambda: read.metrics(None), "run must be a run, its id"),  # pyright: ignore[reportArgumentType]
    "parent": (lambda: read.runs(parent=FIVE), "parent must be a run, its id"),
    "project": (lambda: read.runs(FIVE), "project must be a text, got 5"),
    "names": (lambda: read.metrics(RUN, FIVE), "names must be a text or a list of texts, got 5"),
    "a name": (lambda: read.values(RUN, ["a", FIVE]), "names must be a text or a list of texts"),
    "limit": (lambda: read.runs(limit="x"), "limit must be an integer from 0, got 'x'"),  # pyright: ignore[reportArgumentType]
    "limit of events": (lambda: read.events(limit=-1), "limit must be an integer from 0, got -1"),
    "state of runs": (lambda: read.runs(state="bogus"), "state must be one of running, finished, failed, killed, preempted, crashed, got 'bogus'"),
    "state of alerts": (lambda: read.alerts(state="x"), "state must be one of firing, resolved, got 'x'"),
    "context": (lambda: read.metrics(RUN, context=FIVE), "context must be a text, got 5"),
    "context of params": (lambda: read.params(RUN, context=FIVE), "context must be a text, got 5"),
    "rank": (lambda: read.metrics(RUN, rank=-1), "rank must be an integer from 0, got -1"),
    "subject": (lambda: read.events(subject=FIVE), "subject must be a text, got 5"),
    "key": (lambda: read.param_history(RUN, FIVE), "key must be a text, got 5"),
}


@pytest.mark.parametrize("argument", WRONG)
def test_wrong_arguments_are_named(argument: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a ReadError with what was expected and what came, before anybody is asked."""
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", "http://127.0.0.1:9")
    call, words = WRONG[argument]
    with pytest.raises(read.ReadError) as told:
        call()
    assert words in str(told.value)


def test_nobody_is_asked_where_no_address_is_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's events say so as `read` does, and whether it existed is not known: who lives at the default address may be a stranger."""
    monkeypatch.delenv("RUNSTREAM_CLICKHOUSE_URL", raising=False)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    with testing.recorder(), runstream.init("p") as run:
        with pytest.raises(read.ReadError, match="no ClickHouse is named"):
            run.events()
        assert run.existed is None
