"""Who starts the agent: one of all that look, again if it is gone, and with one word where it cannot be started."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream._agent import STARTING_NAME, STARTING_S, Watch
from runstream_producers.agent import LOCK_NAME
from runstream_producers.claims import holder
from runstream_producers.paths import agent_folder
from runstream_schemas.records import MetricFrame
from runstream_schemas.settings import load
from tests.producers.cluster import Place
from tests.waiting import wait_for


def nothing() -> None:
    """What a watch does each round, here."""


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The descriptors that each agent would have been given, had it been started."""
    found: list[tuple[int, ...]] = []

    def spawn(_self: Watch, descriptors: tuple[int, ...]) -> int:
        found.append(descriptors)
        return os.getpid()  # Nobody's child: it counts as one that ended at once.

    monkeypatch.setattr(Watch, "_spawn", spawn)
    return found


def test_whoever_comes_second_waits_for_the_first(tmp_path: Path, starts: list[tuple[int, ...]]) -> None:
    """While another process starts the agent none is started here, unless that takes too long; once its try has failed, this one's turn has come."""
    watch = Watch(tmp_path, load(), nothing)
    other = os.open(tmp_path / STARTING_NAME, os.O_RDWR | os.O_CREAT)
    fcntl.flock(other, fcntl.LOCK_EX)
    for now in range(int(STARTING_S) + 1):
        watch.ensure(float(now))
    assert starts == []
    watch.ensure(STARTING_S + 1)
    assert starts == [()], "the other one hangs: the lock stays with it"
    os.close(other)
    watch.ensure(STARTING_S + 2)
    assert len(starts) == 1, "what was started just now is given its time"
    watch.ensure(STARTING_S + 10)
    assert len(starts) == 2
    assert len(starts[1]) == 1


def test_an_agent_that_cannot_be_started_is_one_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """However often it is tried, the reason is told once, with what becomes of the rows."""

    def fail(*_arguments: Any, **_options: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(subprocess, "Popen", fail)
    watch = Watch(tmp_path, load(), nothing)
    for now in range(0, 100, 5):
        watch.ensure(float(now))
    [told] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "Cannot allocate memory" in told
    assert "`runstream sync`" in told
    (tmp_path / "gone").mkdir()
    watch = Watch(tmp_path / "gone", load(), nothing)
    (tmp_path / "gone").rmdir()
    watch.ensure(0.0)
    assert len(caplog.records) == 2


@pytest.mark.stack
def test_other_connection_settings_have_an_agent_of_their_own(place: Place) -> None:
    """Two runs of one process with different options for Kafka lie in folders of their own, each with its agent, and each arrives."""
    options = {"client.id": "other"}
    runs = [runstream.init("tests"), runstream.init("tests", settings={"kafka_options": options})]
    folders = [place.folder, agent_folder(load({"kafka_options": options}))]
    for run in runs:
        run.log({"a": 1.0})
    wait_for(lambda: all(holder(folder / LOCK_NAME) > 0 for folder in folders), 20, place.log)
    agents = {holder(folder / LOCK_NAME) for folder in folders}
    assert len(agents) == len(set(folders)) == 2
    for agent in agents:
        place.note(agent)
    assert all(run.finish(20).shipped for run in runs), place.log()
    assert sorted(frame.run_id for frame in place.read("metric", MetricFrame) if frame.groups) == sorted(run.id for run in runs)
    wait_for(lambda: not any(holder(folder / LOCK_NAME) for folder in folders), 15, "both agents to idle out")
