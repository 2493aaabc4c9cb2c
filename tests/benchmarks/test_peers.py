"""The table of other clients is made from what was measured, and our own row from what our journal holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.__main__ import CLIENTS, PAGE, RESULTS, WORK
from benchmarks.peers.page import page


def test_the_page_says_what_was_measured() -> None:
    """Page and JSON agree to the letter, and every client is in both; our pipeline's row once it was measured."""
    results = json.loads(RESULTS.read_text())
    assert PAGE.read_text() == page(results)
    assert [one["package"] for one in results["clients"]] in (list(CLIENTS), [name for name in CLIENTS if name != "pipeline"])
    assert all(one["durable_left"] == one["durable_points"] for one in results["clients"])


def test_a_row_of_the_pipeline_comes_with_what_it_is() -> None:
    """Where the whole pipeline was measured, the page says what its row includes, and how calls were taken; where it was not, neither."""
    results = json.loads(RESULTS.read_text())
    journal = next(one for one in results["clients"] if one["package"] == "runstream")
    others = [one for one in results["clients"] if one["package"] != "pipeline"]
    row = journal | {"package": "pipeline", "client": CLIENTS["pipeline"], "durable_points": 100_000, "durable_s": 2.0}
    told = page(results | {"clients": [*others, row]})
    assert f"| {CLIENTS['pipeline']} | {row['version']} |" in told
    assert "| 50,000 | 100,000 of 100,000 |" in told
    assert "view\n`metrics`" in told
    assert "by turns" in told
    without = page(results | {"clients": others})
    assert CLIENTS["pipeline"] not in without
    assert "by turns" not in without


def test_our_own_row_counts_what_the_journal_holds(tmp_path: Path) -> None:
    """What a killed process had logged, and numbers that are none, are read back."""

    def done(task: str, folder: str) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        ended = subprocess.run([sys.executable, WORK, "runstream", task, tmp_path / folder], capture_output=True, text=True, timeout=60, check=False)
        return next(line for line in reversed(ended.stdout.splitlines()) if line.startswith("{"))

    assert json.loads(done("kill", "a")) == {"logged": 10_000}
    assert json.loads(done("read", "a"))["points"] == 10_000
    done("odd", "b")
    assert json.loads(done("read", "b")) == {"points": 0, "same": ["nan", "inf", "minus_inf", "smallest", "last_digit"]}
