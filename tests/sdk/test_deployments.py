"""Where the agent lives, and what dies with what: kept beside the ranks, in a container's process tree, resumed after a preemption."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import runstream
from runstream_producers.agent import LOCK_NAME
from runstream_producers.claims import holder
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.rank import expected
from tests.sdk.test_shipping import returned, start_rank
from tests.told import make
from tests.waiting import wait_for

pytestmark = pytest.mark.stack

# The first process of the namespace is the job; with its end, or with that of `unshare`, every other process in it is killed.
IN_A_NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
# An agent that is gone by then has not ended by itself.
NEVER_IDLE = {"RUNSTREAM_AGENT_IDLE_TIMEOUT": "600"}


def can_unshare() -> bool:
    """Whether this user may make PID namespaces."""
    try:
        return subprocess.run([*IN_A_NAMESPACE, "true"], capture_output=True, timeout=10, check=False).returncode == 0
    except OSError:
        return False


needs_namespaces = pytest.mark.skipif(not can_unshare(), reason="this user may not make PID namespaces")


def test_a_kept_agent_serves_one_job_after_the_other(place: Place) -> None:
    """With an agent kept beside them runs start none of their own; it stays when nothing is left, takes over from one that was there first, and ends at SIGTERM."""
    first = runstream.init("tests", "before")
    begun = place.wait_for_agent()
    with subprocess.Popen([sys.executable, "-m", "runstream_producers.agent", "--keep"], env=place.environ, stderr=subprocess.DEVNULL) as kept:
        place.note(kept.pid)
        assert first.finish(20).shipped
        wait_for(lambda: place.agent() == kept.pid, 20, "the kept agent to take over from the one that idles out")
        assert begun != kept.pid
        for number in range(2):
            run = runstream.init("tests", f"job {number}")
            run.log({"a": float(number)})
            assert run.finish(20).shipped, place.log()
            time.sleep(1.0)  # Twice the time after which an agent that is not kept ends.
            assert place.agent() == kept.pid
        began = time.monotonic()
        kept.send_signal(signal.SIGTERM)
        assert kept.wait(20) == 0
        assert time.monotonic() - began < 8
    assert {one.state for one in place.last_states().values()} == {"finished"}


@needs_namespaces
def test_a_job_whose_end_ends_the_agent_waits_for_it(place: Place, tmp_path: Path) -> None:
    """In a PID namespace the agent is killed at the job's end; everything has arrived by then, since finish waited for it."""
    counts = tmp_path / "counts"
    make(counts)
    done = subprocess.run(
        [*IN_A_NAMESPACE, sys.executable, "-m", "tests.sdk.rank", str(counts), "2000", "0"],
        env=place.environ | NEVER_IDLE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "shipped=True" in done.stdout
    wait_for(lambda: holder(place.folder / LOCK_NAME) == 0, 5, "the agent to be gone with its namespace")
    assert "agent begins" in place.log()
    assert "agent ends" not in place.log()
    assert ledger_of(place.read("metric", MetricFrame)) == expected(2000, first_seq=1)
    [state] = place.last_states().values()
    assert (state.state, state.rows_logged, state.rows_shipped) == ("finished", 2001, 2001)


def next_run(place: Place) -> None:
    """Another run on the folder, which finds what the one before has left."""
    run = runstream.init("tests", "next")
    assert run.finish(20).shipped
    wait_for(lambda: not list(place.folder.glob("w-*")), 20, place.log)


def sync(place: Place) -> None:
    """`runstream sync`, where no run comes after."""
    done = subprocess.run([sys.executable, "-m", "runstream.cli", "sync"], env=place.environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_namespaces
@pytest.mark.parametrize("ship", [next_run, sync])
def test_what_a_killed_container_left_is_shipped(place: Place, tmp_path: Path, ship: Callable[[Place], None]) -> None:
    """A namespace killed with its job and agent leaves the journal; the next init on the folder ships it, or a sync, as crashed, to the last call that returned."""
    counts = tmp_path / "counts"
    make(counts)
    argv = [*IN_A_NAMESPACE, sys.executable, "-m", "tests.sdk.rank", str(counts), "1000000", "0.0005"]
    with subprocess.Popen(argv, env=place.environ | NEVER_IDLE, stdout=subprocess.DEVNULL) as outer:
        wait_for(lambda: returned(counts) > 500 and "journal taken up" in place.log(), 20, "the job to log, and its agent to ship")
        outer.kill()
    wait_for(lambda: holder(place.folder / LOCK_NAME) == 0, 5, "the agent to be gone with its namespace")
    assert "agent ends" not in place.log()
    rows = returned(counts)
    [left] = place.folder.glob("w-*")
    ship(place)
    assert not left.exists()
    states = place.last_states()
    assert sorted(one.state for one in states.values()) == ["crashed", "finished"][: len(states)]
    [crashed] = (writer for writer, one in states.items() if one.state == "crashed")
    frames = [frame for frame in place.read("metric", MetricFrame) if frame.writer == crashed]
    check_account(frames, until=states[crashed].next_seq)
    ledger = ledger_of(frames)
    assert rows <= len(ledger) <= rows + 1, states[crashed]
    assert ledger == expected(len(ledger), first_seq=1)
    assert states[crashed].rows_logged == states[crashed].rows_shipped == len(ledger) + 1


def test_a_preempted_run_goes_on_as_another_attempt(place: Place, tmp_path: Path) -> None:
    """A rank that SIGUSR1 preempts reads as preempted, with the rest of its rows; requeued, it is the same run and another attempt."""
    place.environ |= {
        "RUNSTREAM_PREEMPTION_SIGNALS": "SIGUSR1",
        "SLURM_JOB_ID": "7",
        "SLURM_STEP_ID": "0",
        "SLURM_CLUSTER_NAME": "c",
        "SLURM_PROCID": "0",
        "SLURM_NTASKS": "1",
    }
    counts = tmp_path / "counts"
    first = start_rank(place, counts, 1_000_000, 0.001)
    wait_for(lambda: returned(counts) > 100, 20, "the rank to log")
    first.send_signal(signal.SIGUSR1)
    first.communicate(timeout=20)
    assert first.returncode == -signal.SIGUSR1
    place.environ["SLURM_RESTART_COUNT"] = "1"
    second = start_rank(place, counts, 100, 0.0)
    second.communicate(timeout=60)
    assert second.returncode == 0
    wait_for(lambda: "running" not in {one.state for one in place.last_states().values()}, 20, place.log)
    states = sorted(place.last_states().values(), key=lambda one: one.started_ms)
    assert [(one.state, one.exit_reason) for one in states] == [("preempted", "SIGUSR1"), ("finished", "")]
    assert [one.attempt for one in states] == ["slurm-7-0-0", "slurm-7-1-0"]
    assert len({one.run_id for one in states}) == 1
    assert os.getpid() not in {one.pid for one in states}
