"""The oracle notices: a point that is lost, doubled, invented or not what was logged, and nothing where all is well."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.faults import known
from tests.faults.job import Job, Rank
from tests.faults.oracle import Findings, _judge_points
from tests.faults.rank import DROPPED, STEP, WRITER
from tests.told import make, teller

KILLED, ENDED = 11, 12


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A job of two ranks: one was killed after ten calls, of which the fourth found no room; the other ended after five."""
    made = Job(tmp_path, {}, ranks=2, rate=1.0, journals=tmp_path, environ_of_ranks={})
    for writer, steps, argv in ((KILLED, 10, ["sleep", "60"]), (ENDED, 5, ["true"])):
        process = subprocess.Popen(argv)
        process.kill() if writer == KILLED else None
        process.wait(10)
        make(ledger := tmp_path / str(writer), DROPPED + 100)
        numbers = teller(ledger)
        numbers[STEP], numbers[WRITER] = steps, writer
        numbers[DROPPED + 3] = writer == KILLED
        made.ranks.append(Rank(writer - KILLED, 0, process, ledger, ledger))
    return made


def rows_of(writer: int, steps: range) -> list[dict[str, Any]]:
    """Rows of `metrics` as they should be."""
    return [
        {"writer": writer, "rank": writer - KILLED, "step": step, "name": name, "value": value}
        for step in steps
        if (writer, step) != (KILLED, 3)
        for name, value in known.row(writer - KILLED, step).items()
    ]


def judged(job: Job, rows: list[dict[str, Any]]) -> Findings:
    """What the oracle finds."""
    found = Findings()
    _judge_points(found, job, rows)
    return found


def test_what_is_as_it_was_logged_holds(job: Job) -> None:
    """The call in whose middle a rank was killed may be there or not; one that found no room is counted as dropped."""
    for killed_at in (10, 11):
        found = judged(job, rows_of(KILLED, range(killed_at)) + rows_of(ENDED, range(5)))
        assert not found.troubles
        assert (found.points_logged, found.dropped) == (14 * 4, 4)


def test_what_is_not_as_it_was_logged_is_found(job: Job) -> None:
    """One point less, one more, one twice, one with another value, one call too many of a rank that was not killed, half a row of one that was."""
    rows = rows_of(KILLED, range(10)) + rows_of(ENDED, range(5))
    assert judged(job, rows[1:]).lost == 1
    assert judged(job, [*rows, rows[7]]).doubled == 1
    assert judged(job, [*rows, rows[0] | {"step": 50}]).invented == 1
    assert judged(job, [*rows, *rows_of(ENDED, range(5, 6))]).invented == 4
    assert judged(job, [*rows, rows[0] | {"step": 3}]).invented == 1
    assert judged(job, [rows[0] | {"value": math.nextafter(rows[0]["value"], 1e9)}, *rows[1:]]).lost == 1
    assert judged(job, [*rows, *rows_of(KILLED, range(10, 11))[:2]]).lost == 1


def test_episodes_are_counted_over_the_rows_that_were_kept() -> None:
    """An episode begins once, a value that is not finite neither begins nor ends one, and one whose rows were all dropped is none."""
    assert known.spikes(range(1000)) == 4
    assert known.spikes(range(200)) == 0
    assert known.spikes([*range(200), *range(205, 1000)]) == 3
    assert known.spikes([202, 350, 400]) == 1
    assert known.nans(range(1000)) == 2
    assert known.nans([349, 350, 700, 701]) == 1
