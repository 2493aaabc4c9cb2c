"""Many processes of one run that begin at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runstream_schemas.ids import run_id_of
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.rank import expected
from tests.told import told

RANKS = 64
ROWS = 50


@pytest.mark.stack
def test_sixty_four_ranks_begin_at_once(place: Place, tmp_path: Path) -> None:
    """One agent comes of it, every point of every rank arrives, and no rank waits for another, not even for one that hangs."""
    folder = tmp_path / "told"
    folder.mkdir()
    argv = [sys.executable, "-m", "tests.sdk.crowd", str(folder), str(RANKS), str(ROWS)]
    environ = place.environ | {"RUNSTREAM_RUN_ID": "crowd", "WORLD_SIZE": str(RANKS)}
    ended = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert (ended.returncode, ended.stderr) == (0, ""), place.log()
    starts, shipped = zip(*(told(folder / str(rank)) for rank in range(RANKS)), strict=True)
    assert (sum(starts), sum(shipped)) == (1, RANKS)
    assert (place.folder / "agent.log").read_text().count("agent begins") == 1

    frames = place.read("metric", MetricFrame)
    states = place.last_states()
    assert sorted((one.rank, one.state, one.rows_shipped) for one in states.values()) == [(rank, "finished", ROWS + 1) for rank in range(RANKS)]
    assert {one.run_id for one in states.values()} == {run_id_of("tests", "crowd")}
    for writer in states:
        mine = [frame for frame in frames if frame.writer == writer]
        assert check_account(mine, until=ROWS + 1) == 0
        assert ledger_of(mine) == expected(ROWS, first_seq=1)
