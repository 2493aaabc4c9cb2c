"""One journal, shipped twice at once with frames of different cuts, through the whole pipeline: every table reads as if it had been shipped once."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import runstream
from runstream_local.stack import Stack
from runstream_schemas.records import MetricFrame
from tests.answers import Answers
from tests.producers.cluster import Place
from tests.producers.ledger import check_account
from tests.summaries import check_summaries
from tests.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

ROWS = 2000
PARAMS = 5  # Two of the config, and three of the packages.


def test_a_journal_and_its_copy_read_as_one(stack: Stack, answers: Answers, environment: dict[str, str], tmp_path: Path) -> None:
    """Each point, event, param and alert is in its view once, summaries equal their recomputation, and the account balances, though both copies came whole."""
    run = runstream.init("copies", mode="offline", config={"lr": 0.1, "layers": [1, 2]})
    run.alert_on("loss", ">", 90.0, name="high")
    for step in range(ROWS):
        run.log({"loss": float(step * 37 % 101), "odd": (1.0, math.nan, math.inf)[step % 3]}, step=step, time=1.79e9 + step)
    run.log_event("saved", step=7)
    folder = run.finish().folder
    assert folder is not None
    bases = [folder.parent, tmp_path / "copy"]
    shutil.copytree(bases[0], bases[1])
    syncs = [
        subprocess.Popen(
            [sys.executable, "-m", "runstream.cli", "sync", str(base / folder.name)],
            env=os.environ | {"RUNSTREAM_BATCH_SIZE": str(size)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for base, size in zip(bases, (1500, 7000), strict=True)
    ]
    for sync in syncs:
        said, _ = sync.communicate(timeout=60)
        assert (sync.returncode, f"1 journals shipped with {ROWS + 3 + PARAMS:,} rows" in said) == (0, True), said

    def account() -> list[dict[str, object]]:
        return answers.rows("SELECT * FROM account WHERE run_id = {run:UUID}", run=run.id)

    wait_for(lambda: [row["balanced"] for row in account()] == [True], 60, lambda: f"the account to balance: {account()}")
    check_summaries(answers, run.id)
    high = sum(step * 37 % 101 > 90 and (step == 0 or (step - 1) * 37 % 101 <= 90) for step in range(ROWS))
    wait_for(lambda: answers.count("alerts", run.id) == high, 30, lambda: f"{high} alerts, got {answers.count('alerts', run.id)}")
    points = answers.rows("SELECT name, step, value FROM metrics WHERE run_id = {run:UUID} AND name = 'loss'", run=run.id)
    assert sorted((row["step"], row["value"]) for row in points) == [(step, float(step * 37 % 101)) for step in range(ROWS)]
    assert [answers.count(view, run.id) for view in ("metrics", "events", "params", "writers", "runs")] == [2 * ROWS, 1, PARAMS, 1, 1]

    frames = [frame for frame in Place(stack.kafka, "runstream", folder.parent, environment).read("metric", MetricFrame) if frame.run_id == run.id]
    check_account(frames, until=run.next_seq)
    assert sum(frame.next_seq - frame.first_seq for frame in frames) == 2 * run.next_seq, "both came whole"
    assert len({(frame.first_seq, frame.next_seq) for frame in frames}) == len(frames), "with cuts of their own"
