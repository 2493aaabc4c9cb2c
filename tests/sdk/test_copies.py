"""Runs that are copied, as parts of models, data sets and closures: one in a process, and another writer of the same run in another."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import runstream
from runstream_producers.journal import format as fmt
from tests.producers.journals import bits
from tests.sdk.conftest import Offline

SPAWNS = """
import multiprocessing as mp
import sys
import runstream


class Data:
    def __init__(self, run):
        self.run = run


def work(data, number):
    data.run.log({f"child-{number}": 1.0}, step=number)
    assert runstream.current() is data.run
    runstream.log({f"child-{number}": 2.0}, step=number)


if __name__ == "__main__":
    run = runstream.init("p")
    run.log({"parent": 1.0})
    context = mp.get_context(sys.argv[1])
    children = [context.Process(target=work, args=(Data(run), number)) for number in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0, child.exitcode
    run.log({"parent": 2.0})
"""


def test_a_copy_in_a_process_is_the_run_itself(offline: Offline) -> None:
    """A model that holds its run is copied and pickled within a process without another journal."""
    run = runstream.init("p")
    assert copy.copy(run) is copy.deepcopy({"model": run})["model"] is pickle.loads(pickle.dumps(run)) is run
    run.finish(0)
    assert copy.deepcopy(run) is run
    assert len(offline.folders()) == 1


def test_a_finished_run_that_is_unpickled_records_nothing(offline: Offline) -> None:
    """What a checkpoint holds of a run that is over begins no journal and changes nothing of the run of the process."""
    old = runstream.init("p")
    raw = pickle.dumps(old)
    old.finish(0)
    gone = pickle.dumps(old)
    run = runstream.init("p")
    restored: runstream.Run = pickle.loads(gone)
    restored.log({"loss": 1.0})
    assert (restored.id, restored.points_logged) == (old.id, 0)
    restored.finish(0)
    assert runstream.current() is run
    assert len(offline.folders()) == 2
    again: runstream.Run = pickle.loads(raw)  # Pickled while it was open, it goes on.
    again.log({"loss": 2.0})
    again.finish(0)
    assert again.id == old.id
    assert [row.values for row in offline.rows(again)] == [{"loss": bits(2.0)}]
    assert runstream.current() is run


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_run_that_is_sent_to_children(offline: Offline, tmp_path: Path, method: str) -> None:
    """In a child the run that came with its data is another writer of the same run, what module-level calls go to, and ends well with the child."""
    script = tmp_path / "spawns.py"
    script.write_text(SPAWNS)
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), method], env=offline.place.environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    folders = offline.folders()
    identities = [fmt.Identity.from_json((folder / "writer.json").read_text()) for folder in folders]
    assert len({one.run_id for one in identities}) == 1
    assert len({one.writer for one in identities}) == len({one.pid for one in identities}) == 3
    found = sorted(sorted({name for row in offline.rows_at(folder) for name in row.values}) for folder in folders)
    assert found == [["child-0"], ["child-1"], ["parent"]]
    assert all(len(offline.rows_at(folder)) == 2 for folder in folders)
    assert {fmt.End.from_json((folder / "end.json").read_text()).state for folder in folders} == {"finished"}
