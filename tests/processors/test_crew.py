"""Several workers under one process: who is started again and when, and that nobody is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from runstream_processors.commands import process
from runstream_processors.crew import Patience, Seat, own_settings
from runstream_schemas.settings import Settings, SettingsError
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = Patience(first_s=1.0, most_s=8.0, stable_s=30.0, hung_s=10.0)
# A worker that says that it is ready, and renews that until it is asked to end.
WORKER = """
import os, pathlib, signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
while not asked:
    pathlib.Path(os.environ["RUNSTREAM_READY_FILE"]).write_text("ready")
    time.sleep(0.02)
pathlib.Path(sys.argv[1], str(os.getpid())).touch()
"""
CREW = """
import sys
from pathlib import Path
from runstream_processors.crew import Crew
from runstream_schemas.settings import Settings
folder = sys.argv[1]
settings = Settings(ready_file=Path(folder) / "ready", home=Path(folder))
sys.exit(Crew(settings, 2, [sys.executable, "-c", sys.argv[2], folder]).run())
"""


def test_pauses_double_and_a_long_life_begins_anew() -> None:
    """Deaths in a row are waited for twice as long each, up to a bound; a worker that was up for long is started again as fast as at first."""
    seat, now_s, pauses = Seat(), 0.0, list[float]()
    for _ in range(5):
        seat.begun(now_s)
        now_s += 1.0
        pauses.append(seat.died(now_s, PATIENCE))
        assert seat.due_s == now_s + pauses[-1]
    assert pauses == [1.0, 2.0, 4.0, 8.0, 8.0]
    seat.begun(now_s)
    assert seat.died(now_s + 30.0, PATIENCE) == 1.0


def test_a_worker_hangs_when_it_renewed_its_file_and_stopped() -> None:
    """One that is not ready yet may take its time, and so may one that never renewed its file."""
    seat = Seat()
    seat.begun(0.0)
    assert not seat.hangs(None, 100.0, PATIENCE)
    assert not seat.hangs(5, 101.0, PATIENCE)
    assert not seat.hangs(5, 200.0, PATIENCE)
    assert not seat.hangs(6, 201.0, PATIENCE)
    assert not seat.hangs(6, 211.0, PATIENCE)
    assert seat.hangs(6, 211.1, PATIENCE)
    seat.begun(212.0)
    assert not seat.hangs(6, 400.0, PATIENCE)


def test_each_worker_has_a_page_of_its_own() -> None:
    """The ports of their figures follow one another; without a port none is served."""
    assert own_settings(Settings(metrics_port=9200), 2, Path("/x"))["RUNSTREAM_METRICS_PORT"] == "9202"
    assert "RUNSTREAM_METRICS_PORT" not in own_settings(Settings(), 2, Path("/x"))


@pytest.mark.parametrize("workers", ["0", "257"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(workers: str) -> None:
    """In one sentence, before anything is started."""
    import argparse

    parser = argparse.ArgumentParser()
    process.configure(parser)
    with pytest.raises(SettingsError, match="--workers must be from 1 to 256"):
        process.run(parser.parse_args(["--workers", workers]))


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Two workers under one process, all of them ready."""
    with subprocess.Popen([sys.executable, "-c", CREW, str(tmp_path), WORKER]) as found:
        try:
            wait_for((tmp_path / "ready").exists, 60, "two workers that are ready")
            yield found
        finally:
            for one in psutil.Process(found.pid).children() if found.poll() is None else []:
                one.kill()
            found.kill()


def test_a_worker_that_dies_is_started_again_and_sigterm_ends_all(crew: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """The other one goes on meanwhile; asked to end, both end by themselves, and then the process with 0."""
    parent = psutil.Process(crew.pid)
    killed, other = parent.children()
    killed.kill()
    wait_for(lambda: len({one.pid for one in parent.children()} - {killed.pid, other.pid}) == 1, 60, "a worker in the place of the one that died")
    assert other.is_running()
    workers = parent.children()
    crew.send_signal(signal.SIGTERM)
    assert crew.wait(60) == 0
    assert not any(one.is_running() for one in workers)
    assert (tmp_path / str(other.pid)).exists()


def test_no_worker_outlives_a_process_that_was_killed_hard(crew: subprocess.Popen[bytes], tmp_path: Path) -> None:
    """They are asked to end, as by a SIGTERM."""
    workers = psutil.Process(crew.pid).children()
    crew.kill()
    wait_for(lambda: all((tmp_path / str(one.pid)).exists() for one in workers), 60, "the end of both workers")
