"""`runstream simulate` through the whole stack: what the simulation logged is what the views say."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from runstream_local.simulate.signals import Fleet
from tests.answers import Answers
from tests.waiting import wait_for

pytestmark = pytest.mark.stack

RUNSTREAM = Path(sys.executable).with_name("runstream")
RANKS, METRICS, STEPS = 16, 12, 90


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the command in the environment of this test."""
    return subprocess.run([RUNSTREAM, "simulate", *arguments], capture_output=True, text=True, timeout=90, check=False)


def test_a_fleet_is_stored_as_it_was_simulated(environment: dict[str, str], answers: Answers) -> None:
    """Every rank's every value is there once, those of both attempts; the lost node's ranks read as crashed, the others as failed, and the account balances."""
    done = simulate("--ranks", str(RANKS), "--metrics", str(METRICS), "--rate", "1", "--hours", str(STEPS / 3600), "--seed", "7", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    fleet = Fleet(RANKS, METRICS, STEPS, 1.0, 7)
    attempts = fleet.attempts()
    assert len(attempts) == 2
    assert said["points"] == sum(one.end - one.first for one in attempts) * RANKS * METRICS
    assert (said["writers"], said["dropped"], said["shipped"]) == (2 * RANKS, 0, True)
    run = said["run_id"]

    def settled() -> bool:
        found = answers.rows("SELECT balanced, state FROM account WHERE run_id = {run:UUID} AND kind = 'rank'", run=run)
        return len(found) == 2 * RANKS + 1 and all(row["balanced"] and row["state"] != "running" for row in found)

    wait_for(settled, 60, "the account to balance")
    stored = answers.rows("SELECT attempt, rank, step, name, value FROM metrics WHERE run_id = {run:UUID}", run=run)
    expected = {
        (f"{run}-{one.number}", rank, step, name): value
        for one in attempts
        for rank in range(RANKS)
        for step in range(one.first, one.end)
        for name, value in fleet.row(rank, step, one.number).items()
    }
    found = {(row["attempt"], int(row["rank"]), int(row["step"]), row["name"]): row["value"] for row in stored}
    assert len(stored) == len(found) == len(expected)
    different = [place for place, value in expected.items() if not (math.isnan(value) or found[place] == value)]
    assert not different, different[:3]
    states = answers.rows("SELECT state, count() AS ranks FROM writers WHERE run_id = {run:UUID} AND kind = 'rank' GROUP BY state", run=run)
    assert {row["state"]: int(row["ranks"]) for row in states} == {"crashed": 8, "failed": 8, "finished": RANKS + 1}


def test_what_cannot_be_simulated(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, exit code 2, no run."""
    for arguments, words in ((("--ranks", "0"), "1 to 100,000"), (("--rate", "-1"), "above 0"), (("--hours", "nan"), "above 0")):
        done = simulate(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
    monkeypatch.setenv("RUNSTREAM_MODE", "offline")
    done = simulate("--ranks", "2")
    assert done.returncode == 2
    assert "mode is offline" in done.stderr
    assert "Traceback" not in done.stderr
