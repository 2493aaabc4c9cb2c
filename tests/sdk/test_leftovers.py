"""What is left where a job and its agent died together, and what offline runs leave alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import runstream
from runstream_producers.journal.survey import open_journal
from runstream_producers.paths import offline_folder
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.rank import expected
from tests.sdk.test_shipping import returned, start_rank
from tests.waiting import wait_for

pytestmark = pytest.mark.stack


def die_together(place: Place, counts: Path) -> int:
    """A rank and its agent are killed in the middle of their work, as at the end of a container; returns how many calls had returned."""
    rank = start_rank(place, counts, 10_000_000, 0.0)
    try:
        wait_for(lambda: returned(counts) > 2000, 20, "the rank to log")
        agent = place.wait_for_agent()
        # The rank's SDK would start another agent, so it goes first; frozen, the agent does not ship the rest meanwhile.
        os.kill(agent, signal.SIGSTOP)
    finally:
        rank.kill()
        rank.wait()
        rank.communicate()
    os.kill(agent, signal.SIGKILL)
    wait_for(lambda: place.agent() == 0, 10, "the agent to be gone")
    return returned(counts)


def check_arrived(place: Place, rows: int, writer: int) -> None:
    """Every call that had returned is on the topic, and the writer's last record says crashed with an account that balances."""
    frames = [frame for frame in place.read("metric", MetricFrame) if frame.writer == writer]
    ledger = ledger_of(frames)
    assert rows <= len(ledger) <= rows + 1
    assert ledger == expected(len(ledger), first_seq=1)
    check_account(frames, until=len(ledger) + 1)
    state = place.last_states()[writer]
    assert state.state == "crashed"
    assert state.rows_logged == state.rows_shipped == len(ledger) + 1
    assert state.points_logged == state.points_shipped


def test_the_next_init_ships_what_a_dead_job_left(place: Place, tmp_path: Path) -> None:
    """Rank and agent die together; the next run on that folder, another process, starts an agent that ships the rest."""
    rows = die_together(place, tmp_path / "counts")
    [left] = place.folder.glob("w-*")
    writer = open_journal(left).identity.writer
    script = "import runstream; run = runstream.init('tests', 'next'); run.log({'a': 1.0}); print(run.finish(30).shipped)"
    told = subprocess.run([sys.executable, "-c", script], env=place.environ, capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout.strip() == "True"
    wait_for(lambda: not left.exists(), 20, place.log)
    check_arrived(place, rows, writer)


def test_a_sync_ships_what_a_dead_job_left(place: Place, tmp_path: Path) -> None:
    """Without any further run, `runstream sync` does the same; the writer's last sign of life is before it, not the time of the sync."""
    rows = die_together(place, tmp_path / "counts")
    [left] = place.folder.glob("w-*")
    journal = open_journal(left)
    for path in (*left.glob("*.seg"), left / "ack"):
        os.utime(path, (journal.identity.started_ms / 1000 + 3600, journal.identity.started_ms / 1000 - 5))
    told = subprocess.run([sys.executable, "-m", "runstream.cli", "sync"], env=place.environ, capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert not left.exists()
    check_arrived(place, rows, journal.identity.writer)
    assert place.last_states()[journal.identity.writer].heartbeat_ms == journal.identity.started_ms


def test_an_offline_run_starts_no_agent_and_keeps_everything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In mode offline nothing is shipped, `finish` says where the rows are, and an online run beside it leaves them alone."""
    monkeypatch.setenv("RUNSTREAM_MODE", "offline")
    offline = runstream.init("tests", "offline")
    for step in range(100):
        offline.log({"a": 1.0}, step=step)
    done = offline.finish(timeout=30)
    assert (done.shipped, done.rows_left) == (False, 101)
    assert done.folder is not None
    assert done.folder.parent == offline_folder(place.settings)
    assert place.agent() == 0
    online = runstream.init("tests", "online", mode="online")
    online.log({"a": 1.0})
    assert online.finish(timeout=20).shipped
    assert done.folder.exists()
    assert sum(frame.points for frame in place.read("metric", MetricFrame)) == 1
