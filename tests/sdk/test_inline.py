"""Mode inline: the agent as a thread of the training process, under the same lock and with the same promises."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import runstream
from runstream_producers import inline
from runstream_producers.agent import LOCK_NAME
from runstream_producers.claims import holder
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.rank import expected, row
from tests.sdk.test_shipping import returned, start_rank
from tests.waiting import wait_for

pytestmark = pytest.mark.stack


@pytest.fixture
def inlined(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A place whose runs ship by themselves."""
    monkeypatch.setenv("RUNSTREAM_MODE", "inline")
    place.environ["RUNSTREAM_MODE"] = "inline"
    return place


def test_a_run_ships_itself(inlined: Place) -> None:
    """Everything arrives without a second process, finish ends the thread, and the journal goes."""
    run = runstream.init("tests", "inline", config={"lr": 0.1})
    for number in range(2000):
        run.log(row(number), step=number)
    wait_for(lambda: run.rows_shipped > 0, 20, "rows to be shipped while the run goes on")
    done = run.finish(20)
    assert (done.shipped, done.rows_left, done.trouble) == (True, 0, "")
    assert not (inlined.folder / "agent.log").exists()
    assert not [thread for thread in threading.enumerate() if thread.name == "runstream-inline"]
    assert not list(inlined.folder.glob("w-*"))
    frames = inlined.read("metric", MetricFrame)
    check_account(frames, until=2002)
    assert ledger_of(frames) == expected(2000, first_seq=2)
    [state] = inlined.last_states().values()
    assert (state.state, state.rows_shipped) == ("finished", 2002)


def test_runs_of_a_process_share_the_thread(inlined: Place) -> None:
    """A second run neither starts another thread nor reads as crashed while its process lives; the thread ends with the last of them."""
    first = runstream.init("tests", "one")
    wait_for(lambda: first.rows_shipped > 0, 20, "the first run to be shipped")
    runs = [runstream.init("tests", f"run {number}") for number in range(5)]
    for run in runs:
        run.log({"a": 1.0})
    wait_for(lambda: all(run.rows_shipped == 2 for run in runs), 20, "the others to be shipped")
    time.sleep(0.6)  # Two looks at the locks.
    assert {one.state for one in inlined.last_states().values()} == {"running"}
    assert len([thread for thread in threading.enumerate() if thread.name == "runstream-inline"]) == 1
    assert first.finish(20).shipped
    assert inline.runs_here(inlined.folder)
    assert all(run.finish(20).shipped for run in runs)
    assert not inline.runs_here(inlined.folder)
    assert {one.state for one in inlined.last_states().values()} == {"finished"}


def test_ranks_on_a_node_take_over(inlined: Place, tmp_path: Path) -> None:
    """Of two ranks one ships for both; when it is killed the other goes on, and ships what was left of the first as crashed."""
    counts = [tmp_path / f"counts-{number}" for number in range(2)]
    ranks = {child.pid: child for child in (start_rank(inlined, path, 10_000_000, 0.001) for path in counts)}
    try:
        wait_for(lambda: holder(inlined.folder / LOCK_NAME) in ranks, 20, "one of the ranks to ship")
        wait_for(lambda: len(inlined.last_states()) == 2 and all(returned(path) > 300 for path in counts), 20, "both ranks to be heard of")
        first = holder(inlined.folder / LOCK_NAME)
        ranks[first].kill()
        ranks[first].wait()
        wait_for(lambda: holder(inlined.folder / LOCK_NAME) == (set(ranks) - {first}).pop(), 20, "the other rank to take over")
        wait_for(lambda: "crashed" in {one.state for one in inlined.last_states().values()}, 20, "the first to read as crashed")
        other = ranks[(set(ranks) - {first}).pop()]
        other.send_signal(signal.SIGTERM)
        assert other.wait(20) == -signal.SIGTERM
    finally:
        for child in ranks.values():
            child.kill()
            child.wait()
            child.communicate()
    states = inlined.last_states()
    assert sorted(one.state for one in states.values()) == ["crashed", "killed"]
    frames = inlined.read("metric", MetricFrame)
    for writer, state in states.items():
        ledger = ledger_of(frames, writer)
        assert ledger == expected(len(ledger), first_seq=1)
        assert state.rows_logged == len(ledger) + 1
    assert sum(len(ledger_of(frames, writer)) for writer in states) >= sum(map(returned, counts))


def test_what_inline_left_is_shipped_by_the_next(inlined: Place, tmp_path: Path) -> None:
    """With Kafka out of reach finish keeps its time and says why; whichever run comes next on the folder ships it, by an agent or by itself."""
    script = "import runstream\nrun = runstream.init('tests')\nrun.log({'a': 1.0})\nprint(run.finish(1.5))"
    began = time.monotonic()
    # Another address of the same folder: the connection's digest names the folder, so it is linked.
    blocked = inlined.environ | {"RUNSTREAM_KAFKA_OPTIONS": "broker.address.family=v6"}
    done = subprocess.run([sys.executable, "-c", script], env=blocked, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 8
    assert "shipped=False" in done.stdout
    assert "Kafka cannot be reached" in done.stderr
    [left] = (folder for folder in inlined.journals.glob("v*") if list(folder.glob("w-*")))
    left.rename(inlined.folder)
    run = runstream.init("tests", mode="online")
    run.finish(20)
    wait_for(lambda: len(inlined.last_states()) == 2, 20, inlined.log)
    wait_for(lambda: not list(inlined.folder.glob("w-*")), 10, "the journals to go")


FORKS = """
import multiprocessing as mp, os, sys, time, runstream
run = runstream.init("tests")
run.log({"parent": 1.0}, step=0)
time.sleep(1.0)

def work(number):
    run.log({"child": float(number)}, step=number)

children = [mp.get_context("fork").Process(target=work, args=(number,)) for number in range(3)]
for child in children: child.start()
for child in children: child.join(20)
assert [child.exitcode for child in children] == [0, 0, 0]
pid = os.fork()
if pid == 0:
    work(3)
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
time.sleep(0.5)
print(run.finish(20).shipped)
"""


def test_forked_children_are_shipped_by_their_parent(inlined: Place) -> None:
    """Children leave shipping to the parent's thread, end without a hang though librdkafka was loaded before the fork, and arrive as finished."""
    done = subprocess.run([sys.executable, "-c", FORKS], env=inlined.environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n"
    states = inlined.last_states()
    assert sorted(one.state for one in states.values()) == ["finished"] * 5
    frames = inlined.read("metric", MetricFrame)
    steps = sorted(step for frame in frames for group in frame.groups if group.keys == ("child",) for step in group.steps.tolist())
    assert steps == [0, 1, 2, 3]


def test_an_online_run_beside_it_rides_along(inlined: Place) -> None:
    """A run of mode online in the same process sees that its folder is shipped, starts no agent, and does not take the lock away by looking."""
    one = runstream.init("tests")
    wait_for(lambda: one.rows_shipped > 0, 20, "the first run to be shipped")
    other = runstream.init("tests", mode="online")
    time.sleep(1.5)
    child = os.fork()
    if child == 0:  # A process may not ask about its own lock.
        os._exit(0 if holder(inlined.folder / LOCK_NAME) == os.getppid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert other.finish(20).shipped
    assert one.finish(20).shipped
    assert not (inlined.folder / "agent.log").exists()
