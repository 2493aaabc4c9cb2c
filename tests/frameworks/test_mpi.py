"""Open MPI's mpiexec itself: its ranks on one machine meet in one run, and those of another start in another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.frameworks.started import Journal, environment, journals, needs, run

MPIEXEC = Path(sys.executable).parent / "mpiexec"

pytestmark = [needs("openmpi", distribution=True), pytest.mark.timeout(300)]


def mpiexec(folder: Path, ranks: int, *before: str) -> list[Journal]:
    """The journals of ranks that mpiexec starts, maybe by another program."""
    folder.mkdir()
    # Slots are counted by cores, of which there may be fewer; root is refused unless this is said.
    options = ["--allow-run-as-root", "--oversubscribe", "-n", str(ranks)]
    done = run([str(MPIEXEC), *options, *before, sys.executable, "-m", "tests.frameworks.mpi_rank"], environment(folder))
    assert done.code == 0, done.err[-4000:]
    return journals(folder)


def test_ranks_of_one_start_meet(tmp_path: Path) -> None:
    """Ranks know who they are and share a run without being told, also where a shell stands between them and mpiexec; another start is another run."""
    one, other = mpiexec(tmp_path / "one", 3), mpiexec(tmp_path / "other", 2, "sh", "-c", '"$0" "$@"; exit $?')
    for found, ranks in ((one, 3), (other, 2)):
        assert [journal.identity.rank for journal in found] == list(range(ranks))
        assert sorted(journal.identity.local_rank for journal in found) == list(range(ranks))  # Open MPI counts these in an order of its own.
        assert {journal.identity.world_size for journal in found} == {ranks}
        assert len({journal.identity.run_id for journal in found}) == 1
        assert [values for journal in found for _, _, values in journal.rows] == [{"rank": float(rank)} for rank in range(ranks)]
        assert [journal.end.state if journal.end is not None else "" for journal in found] == ["finished"] * ranks
    assert one[0].identity.run_id != other[0].identity.run_id
