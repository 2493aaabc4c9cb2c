"""The scripts of examples/ run as they stand, and what they log is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runstream_producers.journal.export import rows_of
from runstream_producers.journal.survey import journals_in, open_journal

FOLDER = Path(__file__).parents[2] / "examples"
# By script: runs, writers, and how many rows of each kind.
LOGGED = {
    "plain_loop": (1, 1, {"metrics": 202, "event": 6, "rule": 2}),
    "scikit_learn": (7, 7, {"metrics": 14, "event": 13}),
    "multi_process": (1, 4, {"metrics": 151, "event": 3}),
    "offline": (1, 1, {"run": 1}),
}


def test_every_example_is_run() -> None:
    """None is left out here, and each is at most about a page."""
    scripts = {path.stem: path for path in FOLDER.glob("*.py")}
    assert set(scripts) == set(LOGGED)
    assert all(len(path.read_text(encoding="utf-8").splitlines()) <= 70 for path in scripts.values())


@pytest.mark.parametrize("name", LOGGED)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    """It ends well, warns of nothing, and its journals hold what it says."""
    if name == "scikit_learn":
        pytest.importorskip("sklearn")
    environ = os.environ | {
        "RUNSTREAM_MODE": "offline",
        "RUNSTREAM_JOURNAL_DIR": str(tmp_path / "journals"),
        "RUNSTREAM_STRICT": "1",
        "RUNSTREAM_HOME": str(tmp_path),
    }
    done = subprocess.run([sys.executable, str(FOLDER / f"{name}.py")], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "runstream: " not in done.stderr.replace("runstream: info alert: warm", "")
    journals = [open_journal(folder) for folder in journals_in(tmp_path / "journals" / "offline")]
    runs, writers, wanted = LOGGED[name]
    assert len({one.identity.run_id for one in journals}) == runs
    assert len(journals) == writers
    assert {one.state for one in journals} == {"finished"}
    kinds = [row.kind for one in journals for row in rows_of(one)]
    assert {kind: kinds.count(kind) for kind in wanted} == wanted
