"""Runs and forked children: each process has its own journal, its own account and its own end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runstream_producers.journal import format as fmt
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.journals import read_back
from tests.producers.ledger import ledger_of
from tests.sdk.conftest import Offline

CHILD_LOGS = """
import os, sys, runstream
run = runstream.init("p")
run.log({"parent": 1.0}, step=1)
pid = os.fork()
if pid == 0:
    assert run.points_logged == 0
    for n in range(100): run.log({"child": float(n)}, step=n)
    assert run.points_logged == 100
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
run.log({"parent": 2.0}, step=2)
"""

CHILD_IS_SILENT = """
import os, sys, time, runstream
run = runstream.init("p")
run.log({"parent": 1.0}, step=1)
pid = os.fork()
if pid == 0:
    began = time.monotonic()
    done = run.finish(20)
    assert done.shipped and done.rows_left == 0 and done.folder is None, done
    assert time.monotonic() - began < 1
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
run.log({"parent": 2.0}, step=2)
"""

# Whatever lock of ours a thread of the parent holds at the fork, no child has the thread that would let go of it.
FORKS_AMID_CALLS = """
import os, signal, sys, threading, runstream
sys.setswitchinterval(1e-5)
run = runstream.init("p")
stop = threading.Event()
def work(thread):
    number = 0
    while not stop.is_set():
        run.log({f"thread-{thread}": float(number), f"bad-{number}": "no number"}, step=number)
        if number % 5 == 0:
            run.log_event("e", metadata={"number": number})
            run.log_params({"p": number})
            run.alert_on("a", ">", number)
        number += 1
threads = [threading.Thread(target=work, args=(thread,), daemon=True) for thread in range(4)]
for one in threads: one.start()
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        for step in range(50): run.log({"child": float(step), "bad": None}, step=step)
        run.log_event("e")
        run.finish()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
for one in threads: one.join()
run.finish()
"""


def run_script(script: str, environ: dict[str, str]) -> float:
    """Runs a script that must succeed; returns the seconds it took."""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return time.monotonic() - began


def ends_of(folders: list[Path]) -> dict[str, fmt.End]:
    """How each journal ended, by the name of its metric."""
    out: dict[str, fmt.End] = {}
    for folder in folders:
        one = fmt.Identity.from_json((folder / "writer.json").read_text())
        [name] = {name for row in read_back(folder, one.writer) for name in row.values}
        out[name] = fmt.End.from_json((folder / "end.json").read_text())
    return out


def test_a_child_that_logs_has_its_own_journal(offline: Offline) -> None:
    """The child's rows have seqs from 0 in a journal of another writer of the same run, and both end as finished."""
    run_script(CHILD_LOGS, offline.place.environ)
    folders = offline.folders()
    identities = [fmt.Identity.from_json((folder / "writer.json").read_text()) for folder in folders]
    assert len({one.writer for one in identities}) == len({one.pid for one in identities}) == 2
    assert len({one.run_id for one in identities}) == 1
    assert sorted(one.environment.get("forked", "") for one in identities) == ["", "true"], "the child is known for one"
    ends = ends_of(folders)
    # The parent's first record is what init says of the run; the child says nothing of it.
    assert (ends["parent"].next_seq, ends["parent"].points, ends["parent"].state) == (3, 2, "finished")
    assert (ends["child"].next_seq, ends["child"].points, ends["child"].state) == (100, 100, "finished")


def test_a_fork_amid_calls_of_other_threads(offline: Offline) -> None:
    """While threads log rows, records and warnings, forked children log at once: none hangs on a lock that was held at the fork, and each has all of its own rows."""
    done = subprocess.run([sys.executable, "-c", FORKS_AMID_CALLS], env=offline.place.environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    folders = offline.folders()
    ends = [fmt.End.from_json((folder / "end.json").read_text()) for folder in folders]
    children = [folder for folder, end in zip(folders, ends, strict=True) if end.next_seq == 51]
    assert (len(folders), len(children)) == (13, 12)
    for folder in children:
        assert [(row.seq, row.step, set(row.values)) for row in offline.rows_at(folder)] == [(step, step, {"child"}) for step in range(50)]
    assert {end.state for end in ends} == {"finished"}


def test_a_child_that_logs_nothing_ends_at_once(offline: Offline) -> None:
    """A forked child that never logs leaves no journal, waits for nothing at its end, and leaves its parent's run open."""
    run_script(CHILD_IS_SILENT, offline.place.environ)
    [folder] = offline.folders()
    end = fmt.End.from_json((folder / "end.json").read_text())
    assert (end.next_seq, end.points) == (3, 2)


@pytest.mark.stack
@pytest.mark.parametrize("script", [CHILD_LOGS, CHILD_IS_SILENT], ids=["logs", "silent"])
def test_parent_and_child_are_shipped(place: Place, script: str) -> None:
    """With an agent, each process waits for its own rows alone, and all of them arrive."""
    assert run_script(script, place.environ) < 20
    frames = place.read("metric", MetricFrame)
    children = {name for frame in frames for group in frame.groups for name in group.keys} - {"parent"}
    states = place.last_states()
    assert {state.state for state in states.values()} == {"finished"}
    assert len(states) == 1 + len(children)
    points = sorted(sum(len(row) for row in ledger_of(frames, writer).values()) for writer in states)
    assert points == ([2, 100] if children else [2])
    assert os.getpid() not in {state.pid for state in states.values()}
