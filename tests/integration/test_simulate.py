"""`runstream simulate` through the whole stack: what the simulation logged is what the views say."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from runstream_local.simulate.signals import Fleet
from tests.answers import Answers
from tests.waiting import wait_for

pytestmark = pytest.mark.stack

RUNSTREAM = Path(sys.executable).with_name("runstream")
RANKS, METRICS, STEPS = 16, 12, 90
ONE = "WHERE run_id = {run:UUID}"


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
    # The attempt that came through is what became of the run.
    [(state, ended_s)] = [(row["state"], row["ended_s"]) for row in answers.rows(f"SELECT state, toUnixTimestamp(ended) AS ended_s FROM runs {ONE}", run=run)]
    assert state == "finished"
    times = answers.rows(f"SELECT toUnixTimestamp(min(time)) AS first, toUnixTimestamp(max(time)) AS last FROM metrics {ONE}", run=run)
    assert times[0]["first"] + fleet.starts_s()[-1] - 2 <= times[0]["last"] + 2 <= ended_s + 3
    assert said["troubles"] == {key: value and list(value) for key, value in asdict(fleet.troubles()).items()}
    odd = answers.rows(f"SELECT rank, step FROM metrics {ONE} AND isNaN(value)", run=run)
    assert [[int(row["rank"]), int(row["step"])] for row in odd] == [said["troubles"]["nan"]]


def test_a_simulation_that_is_interrupted(environment: dict[str, str], answers: Answers) -> None:
    """Ctrl-C ends it at once with exit code 130; what it says was logged is stored, and its ranks and its run read as killed."""
    asked = ["--ranks", "8", "--metrics", "10", "--hours", "10", "--points-s", "2000", "--json"]
    with subprocess.Popen([RUNSTREAM, "simulate", *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as going:
        try:
            journals = Path(environment["RUNSTREAM_JOURNAL_DIR"])
            wait_for(lambda: len(list(journals.glob("v*/w-*/ack"))) > 8, 30, "the ranks to ship")
            going.send_signal(signal.SIGINT)
            out, errors = going.communicate(timeout=30)
        finally:
            going.kill()
    assert going.returncode == 130, errors
    assert "Traceback" not in errors
    said = json.loads(out)
    assert said["stopped"]
    assert 0 < said["points"] < 10 * 36_000 * 8

    def settled() -> bool:
        found = answers.rows(f"SELECT balanced, state, points_stored FROM account {ONE} AND kind = 'rank'", run=said["run_id"])
        return (
            len(found) == 9
            and {(row["balanced"], row["state"]) for row in found} == {(True, "killed")}
            and sum(row["points_stored"] for row in found) == said["points"]
        )

    wait_for(settled, 60, "the account of what was logged")
    assert answers.rows(f"SELECT state FROM runs {ONE}", run=said["run_id"]) == [{"state": "killed"}]


def test_what_cannot_be_simulated(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, exit code 2, no run."""
    for arguments, settings, words in (
        (("--hours", "1e-9"), {}, "must come to 1 to 1,000,000,000 log calls of a rank"),
        (("--ranks", "100000", "--metrics", "100000"), {}, "ask for fewer --ranks or --metrics"),
        (("--ranks", "2"), {"RUNSTREAM_KAFKA": "127.0.0.1:1"}, "`runstream up` starts a stack here"),
        (("--ranks", "2"), {"RUNSTREAM_MODE": "offline"}, "mode is offline"),
    ):
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        done = simulate(*arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr
    assert not list(Path(environment["RUNSTREAM_JOURNAL_DIR"]).glob("*/w-*"))
