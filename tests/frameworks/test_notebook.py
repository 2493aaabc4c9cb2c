"""A real kernel of notebooks: cells that run again, programs run from a cell, threads and children that log, interruptions, and kernels that are started again."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests.frameworks.started import Journal, environment, journals, needs, run_module

pytestmark = [needs("ipykernel"), pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Session:
    """What cells wrote, by their names, and the journals of the session."""

    cells: dict[str, dict[str, str]]
    found: list[Journal]

    def run_id(self, cell: str) -> str:
        """The run that a cell printed."""
        return self.cells[cell]["stdout"].strip()

    def of(self, run_id: str) -> list[Journal]:
        """The journals of a run, in the order in which they were begun."""
        return [one for one in self.found if one.identity.run_id == run_id]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A session that is over."""
    folder = tmp_path_factory.mktemp("notebook")
    run_module("notebook", str(folder), environ=environment(folder))
    return Session(json.loads((folder / "cells.json").read_text()), journals(folder))


def states(found: list[Journal]) -> list[str]:
    """How journals ended; nothing for those whose process died without a word."""
    return ["" if one.end is None else one.end.state for one in found]


def test_a_cell_that_runs_again_begins_anew(session: Session) -> None:
    """The run before is finished, which the cell says, and another one begins."""
    first, again = session.run_id("first"), session.run_id("again")
    assert first != again
    assert session.cells["first"]["stderr"] == ""
    assert f"run {first} was still open" in session.cells["again"]["stderr"]
    [journal] = session.of(first)
    assert [values for _, _, values in journal.rows] == [{"cell": 1.0}]
    assert states([journal]) == ["finished"]


def test_errors_interruptions_and_exits_of_cells_end_no_run(session: Session) -> None:
    """A cell that raises, is interrupted or calls sys.exit does not end the kernel, and the run goes on."""
    assert [session.cells[name]["error"] for name in ("error", "interrupted", "exit")] == ["ValueError", "KeyboardInterrupt", "SystemExit"]
    parent = session.of(session.run_id("again"))[0]
    assert [values["cell"] for _, _, values in parent.rows if "cell" in values] == [1.0, 2.0, 3.0]
    assert states([parent]) == ["finished"]


def test_threads_children_and_coroutines_of_cells_log(session: Session) -> None:
    """A thread goes on after its cell; forked children are writers of the same run; coroutines share the cell's writer."""
    assert session.cells["fork"] == {"stdout": "6\n", "stderr": "", "error": ""}
    parent, *children = session.of(session.run_id("again"))
    counts = [values["thread"] for _, _, values in parent.rows if "thread" in values]
    assert counts == [float(count) for count in range(len(counts))]
    assert len(counts) > 10
    assert 1 <= len(children) <= 2
    assert sorted(values["forked"] for one in children for _, _, values in one.rows) == [0.0, 1.0, 2.0, 3.0]
    assert set(states(children)) == {"finished"}
    for name in ("async-a", "async-b"):
        assert [values[name] for _, _, values in parent.rows if name in values] == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_a_program_run_from_a_cell_is_a_run_of_its_own(session: Session) -> None:
    """With %run a program's run follows on that of the cells, and the next cell's follows on it, though the program called sys.exit."""
    assert session.cells["script"]["error"] == "SystemExit"
    assert session.run_id("again") in session.cells["script"]["stderr"]
    script = session.of(session.run_id("script"))
    assert [values for one in script for _, _, values in one.rows] == [{"script": 1.0}]
    assert session.run_id("script") in session.cells["named"]["stderr"]


def test_a_kernel_that_starts_again_goes_on_with_a_named_run(session: Session) -> None:
    """The same id is the same run after a restart, as another attempt; a kernel that was ended well says so, one that was killed does not, and loses nothing."""
    assert session.run_id("named") == session.run_id("restarted") == session.run_id("killed")
    found = session.of(session.run_id("named"))
    assert len({one.identity.pid for one in found}) == len({one.identity.attempt for one in found}) == 3
    assert states(found) == ["finished", "", "finished"]
    assert [values for one in found for _, _, values in one.rows] == [{"named": 1.0}] * 3
