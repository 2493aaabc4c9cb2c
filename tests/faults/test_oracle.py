"""The oracle notices points, alerts, summaries, records and dead letters that are missing, doubled, invented or wrong, and nothing where all is well."""

from __future__ import annotations

import math
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runstream_rules.recompute import recompute
from tests.answers import Answers
from tests.faults import known
from tests.faults.job import Job, Rank
from tests.faults.oracle import Findings, _judge_alerts, _judge_doubles, _judge_letters, _judge_points, _judge_records, _judge_summaries
from tests.faults.rank import DROPPED, STEP, STOPPED, WRITER
from tests.faults.trap import RANK_POINTS, Trap
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
        numbers[STEP], numbers[WRITER], numbers[STOPPED] = steps, writer, writer == ENDED
        numbers[DROPPED + 3] = writer == KILLED
        made.ranks.append(Rank(writer - KILLED, 0, process, ledger, ledger))
    return made


def rows_of(writer: int, steps: range) -> list[dict[str, Any]]:
    """Rows of `metrics` as they should be."""
    return [
        {"writer": writer, "rank": writer - KILLED, "step": step, "name": name, "context": "training", "subject": "", "value": value}
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


def survived(_pid: int, _number: int) -> None:
    """Takes the place of a kill."""


def died_at(job: Job, point: str, tmp_path: Path) -> None:
    """Has the rank that was killed have died at a named point."""
    traps = Trap(tmp_path / point, RANK_POINTS)
    traps.arm(point)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "kill", survived)
        with pytest.raises(AssertionError):
            traps.here(point)
    job.ranks[0].trap = traps


@pytest.mark.parametrize(("point", "with_row", "without"), [("torn", 4, 0), ("published", 0, 4), ("rotated", 0, 0)])
def test_at_a_named_point_it_is_known_what_became_of_the_call(job: Job, tmp_path: Path, point: str, with_row: int, without: int) -> None:
    """A row that was torn must not be there, one that was published must, wholly; where the writer died beside its rows either holds."""
    died_at(job, point, tmp_path)
    found = judged(job, rows_of(KILLED, range(11)) + rows_of(ENDED, range(5)))
    assert (found.lost, found.invented) == (0, with_row)
    found = judged(job, rows_of(KILLED, range(10)) + rows_of(ENDED, range(5)))
    assert (found.lost, found.invented) == (without, 0)


def test_a_rank_that_died_once_its_end_was_written_has_finished(job: Job, tmp_path: Path) -> None:
    """Its event, its state and its rows are those of one that ended; where it died just before, its state is that of one that crashed."""
    for point, states in (("ending", {"finished": 1, "crashed": 1}), ("ended", {"finished": 2})):
        died_at(job, point, tmp_path)
        ledger = teller(job.ranks[0].ledger)
        ledger[STOPPED] = 1
        right: dict[str, list[dict[str, Any]]] = {
            "events": [{"k": KILLED, "n": 1}, {"k": ENDED, "n": 1}],
            "params_history": [{"k": KILLED, "n": 2}, {"k": ENDED, "n": 2}],
            "rules": [{"k": "rules", "n": 2}],
            "writers": [{"k": state, "n": count} for state, count in states.items()],
            "runs": [{"k": "runs", "n": 1}],
        }
        found = Findings()
        _judge_records(found, Views(**right), job, 0.0)
        assert found.troubles == []
        assert judged(job, rows_of(KILLED, range(11)) + rows_of(ENDED, range(5))).invented == 4


def test_what_is_not_as_it_was_logged_is_found(job: Job) -> None:
    """One point less, one more, one twice, one with another value, one call too many of a rank that was not killed, half a row of one that was."""
    rows = rows_of(KILLED, range(10)) + rows_of(ENDED, range(5))
    assert judged(job, rows[1:]).lost == 1
    assert judged(job, [*rows, rows[7]]).doubled == 1
    assert judged(job, [*rows, rows[0] | {"step": 50}]).invented == 1
    assert judged(job, [*rows, rows[0] | {"context": "validation"}]).invented == 1
    assert judged(job, [*rows, rows[0] | {"subject": "model/a/1"}]).invented == 1
    assert judged(job, [*rows, *rows_of(ENDED, range(5, 6))]).invented == 4
    assert judged(job, [*rows, rows[0] | {"step": 3}]).invented == 1
    assert judged(job, [rows[0] | {"value": math.nextafter(rows[0]["value"], 1e9)}, *rows[1:]]).lost == 1
    assert judged(job, [*rows, *rows_of(KILLED, range(10, 11))[:2]]).lost == 1


class Views(Answers):
    """A ClickHouse that answers what a test put in, by a word of the question."""

    def __init__(self, **answers: list[dict[str, Any]]) -> None:
        super().__init__("")
        self.answers = answers

    def rows(self, sql: str, **_: Any) -> list[dict[str, Any]]:
        """What was put in for the view that is asked."""
        return self.answers["beyond" if "EXCEPT" in sql else sql.split("FROM ")[1].split()[0]]


FIRED = {("spike", KILLED): 2, ("spike", ENDED): 1, ("not finite", KILLED): 1}
STEPS = {KILLED: list(range(450)), ENDED: list(range(300))}


def alerts_of(fired: dict[tuple[str, int], int]) -> list[dict[str, Any]]:
    """What `alerts` says of so many."""
    return [{"rule": rule, "writer": writer, "n": count, "d": count} for (rule, writer), count in fired.items()]


@pytest.mark.parametrize(
    ("change", "missing", "twice"),
    [
        ({}, 0, 0),
        ({("spike", ENDED): 0}, 1, 0),
        ({("spike", KILLED): 3}, 0, 1),
        ({("strange", ENDED): 2}, 0, 2),
        ({("spike", KILLED): 1, ("spike", ENDED): 2}, 1, 1),
    ],
    ids=["as it must be", "one missing", "one twice", "of no rule", "at the wrong writer"],
)
def test_alerts_that_are_missing_or_too_many_are_found(change: dict[tuple[str, int], int], missing: int, twice: int) -> None:
    """By rule and writer, so that one too many does not make up for one too few."""
    found = Findings()
    _judge_alerts(found, Views(alerts=alerts_of(FIRED | change)), "run", STEPS, 0.0)
    assert (found.alerts_expected, found.alerts_missing, found.alerts_twice) == (4, missing, twice)
    assert bool(found.troubles) == bool(missing or twice)


def test_one_episode_that_fired_under_two_names_is_found() -> None:
    """Two alerts of one row, in the place of one that is missing."""
    rows = alerts_of(FIRED)
    found = Findings()
    _judge_alerts(found, Views(alerts=[rows[0] | {"d": 1}, *rows[1:]]), "run", STEPS, 0.0)
    assert (found.alerts_missing, found.alerts_twice) == (0, 1)
    assert found.troubles


def test_a_view_that_shows_an_identity_twice_is_found() -> None:
    """In each of the views."""
    views = ("metrics", "hardware", "events", "params_history", "alerts", "summaries", "writers", "runs")
    right = {view: [{"n": 7, "d": 7}] for view in views}
    found = Findings()
    _judge_doubles(found, Views(**right), "run")
    assert (found.doubled, found.troubles) == (0, [])
    for view in views:
        found = Findings()
        _judge_doubles(found, Views(**right | {view: [{"n": 8, "d": 7}]}), "run")
        assert found.doubled == 1
        assert view in found.troubles[0]


def test_a_record_that_is_missing_or_too_many_is_found(job: Job) -> None:
    """Last events, params, rules, states and the run itself."""
    right: dict[str, list[dict[str, Any]]] = {
        "events": [{"k": ENDED, "n": 1}],
        "params_history": [{"k": KILLED, "n": 2}, {"k": ENDED, "n": 2}],
        "rules": [{"k": "rules", "n": 2}],
        "writers": [{"k": "finished", "n": 1}, {"k": "crashed", "n": 1}],
        "runs": [{"k": "runs", "n": 1}],
    }
    found = Findings()
    _judge_records(found, Views(**right), job, 0.0)
    assert (found.lost, found.invented, found.troubles) == (0, 0, [])
    for view, rows in right.items():
        for change, figures in ((-1, (1, 0)), (1, (0, 1))):
            found = Findings()
            _judge_records(found, Views(**right | {view: [rows[0] | {"n": rows[0]["n"] + change}, *rows[1:]]}), job, 0.0)
            assert (found.lost, found.invented) == figures, view
    found = Findings()
    _judge_records(found, Views(**right | {"writers": [{"k": "finished", "n": 2}]}), job, 0.0)
    assert (found.lost, found.invented) == (1, 1)


def test_a_summary_that_is_wrong_missing_or_of_no_series_is_found() -> None:
    """One whose sum is off by its last bit, one that is not there, one more than there are series."""
    series = {"writer": ENDED, "name": "loss", "context": "training", "subject": ""}
    points = [(step, 1000 + step, 0.1 * step) for step in range(9)]
    metrics = [series | {"step": step, "ms": ms, "value": value} for step, ms, value in points]
    right: dict[str, Any] = series | {field: getattr(recompute(points), field) for field in recompute(points).__slots__}

    def found_in(*rows: dict[str, Any], beyond: int = 0) -> tuple[int, int, bool]:
        found = Findings()
        _judge_summaries(found, Views(metrics=metrics, summaries=list(rows), beyond=[{"n": beyond}]), "run", 0.0)
        return found.summaries_wrong, found.invented, bool(found.troubles)

    assert found_in(right) == (0, 0, False)
    assert found_in(right | {"sum": math.nextafter(right["sum"], 1e9)}) == (1, 0, True)
    assert found_in() == (1, 0, True)
    assert found_in(right, beyond=1) == (0, 1, True)


def test_dead_letters_are_the_poison_and_nothing_else() -> None:
    """One that is missing, one beyond, one at another offset, one twice."""
    injected = {("t", 0, 5), ("t", 1, 7)}
    right = [{"topic": topic, "partition": partition, "offset": offset, "reason": ""} for topic, partition, offset in sorted(injected)]
    for rows, wrong in (
        (right, 0),
        (right[1:], 1),
        ([*right, right[0] | {"offset": 6}], 1),
        ([right[0] | {"offset": 6}, right[1]], 2),
        ([*right, right[0]], 1),
    ):
        found = Findings()
        _judge_letters(found, Views(dead_letters=rows), injected, 0.0)
        assert (found.letters_wrong, bool(found.troubles)) == (wrong, bool(wrong))


def test_episodes_are_counted_over_the_rows_that_were_kept() -> None:
    """An episode begins once, a value that is not finite neither begins nor ends one, and one whose rows were all dropped is none."""
    assert known.spikes(range(1000)) == 4
    assert known.spikes(range(200)) == 0
    assert known.spikes([*range(200), *range(205, 1000)]) == 3
    assert known.spikes([202, 350, 400]) == 1
    assert known.nans(range(1000)) == 2
    assert known.nans([349, 350, 700, 701]) == 1
