"""The oracle notices points, alerts, summaries, records and dead letters that are missing, doubled, invented or wrong, in whatever column, drops that nothing excuses, and nothing where all
is well.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from runstream_rules.recompute import recompute
from tests.answers import Answers
from tests.faults import known
from tests.faults.again import Kept, judge_again, judge_strangers
from tests.faults.findings import Findings
from tests.faults.job import Job, Rank
from tests.faults.oracle import _judge_doubles, _judge_summaries, alerts_that_must_be
from tests.faults.points import AFTER_FULL_MS, judge_points, judge_writers
from tests.faults.poison import fits
from tests.faults.rank import AFTER, BEFORE, CALLS, DROPPED_AT, NUMBERS, OF_CALL, STEP, STOP_AFTER, STOP_BEFORE, STOPPED, WRITER
from tests.faults.records import RULES, judge_alerts, judge_letters, judge_records
from tests.faults.trap import RANK_POINTS, Trap
from tests.told import make, teller

KILLED, ENDED = 11, 12
# When the fourth call of the killed one found no room, and when the disk was full.
DROPPED_MS = 5000
FULL = [(DROPPED_MS - 100, DROPPED_MS + 100)]
HOUR_MS = 3_600_000


def at_ms(step: int) -> int:
    """When a row is logged by the clocks of its rank, which was set ahead by hours in between."""
    return 1_790_000_000_000 + 10 * step + (step > 4) * 5 * HOUR_MS


def job_of(folder: Path, killed_steps: int, ended_steps: int) -> Job:
    """A job of two ranks: one was killed after so many calls, of which the fourth found no room; the other ended after its own."""
    made = Job(folder, {}, ranks=2, rate=150.0, journals=folder, environ_of_ranks={})
    for writer, steps, argv in ((KILLED, killed_steps, ["sleep", "60"]), (ENDED, ended_steps, ["true"])):
        process = subprocess.Popen(argv)
        process.kill() if writer == KILLED else None
        process.wait(10)
        make(ledger := folder / str(writer), NUMBERS)
        numbers = teller(ledger)
        numbers[STEP], numbers[WRITER], numbers[STOPPED] = steps, writer, writer == ENDED
        numbers[STOP_BEFORE] = numbers[STOP_AFTER] = at_ms(steps)
        for step in range(steps):
            numbers[CALLS + OF_CALL * step + BEFORE] = numbers[CALLS + OF_CALL * step + AFTER] = at_ms(step)
        numbers[CALLS + OF_CALL * 3 + DROPPED_AT] = DROPPED_MS * (writer == KILLED)
        made.ranks.append(Rank(writer - KILLED, 0, process, ledger, ledger))
    return made


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Ten calls of the one, five of the other."""
    return job_of(tmp_path, 10, 5)


def rows_of(writer: int, steps: range) -> list[dict[str, Any]]:
    """Rows of `metrics` as they should be."""
    return [
        {"writer": writer, "rank": writer - KILLED, "step": step, "name": name, "context": "training", "subject": "", "value": value}
        | {"seq": 8 + step, "ms": at_ms(step)}
        for step in steps
        if (writer, step) != (KILLED, 3)
        for name, value in known.row(writer - KILLED, step).items()
    ]


def judged(job: Job, rows: list[dict[str, Any]], full: list[tuple[int, int]] = FULL) -> Findings:
    """What the oracle finds."""
    found = Findings()
    judge_points(found, job, rows, full)
    return found


def test_what_is_as_it_was_logged_holds(job: Job) -> None:
    """The call in whose middle a rank was killed may be there or not; one that found no room is counted as dropped."""
    for killed_at in (10, 11):
        found = judged(job, rows_of(KILLED, range(killed_at)) + rows_of(ENDED, range(5)))
        assert not found.troubles
        assert (found.points_logged, found.dropped, found.wrong) == (14 * 4, 4, 0)


def test_a_call_that_found_no_room_is_lost_unless_a_disk_was_full(job: Job) -> None:
    """The product's own count of what it dropped excuses nothing: the disk must have been full then, or just before."""
    rows = rows_of(KILLED, range(10)) + rows_of(ENDED, range(5))
    for full, lost in (
        ([(DROPPED_MS - AFTER_FULL_MS, DROPPED_MS - AFTER_FULL_MS)], 0),
        ([], 4),
        ([(DROPPED_MS + 1, DROPPED_MS + 1000)], 4),
        ([(0, DROPPED_MS - AFTER_FULL_MS - 1)], 4),
    ):
        found = judged(job, rows, full)
        assert (found.lost, found.dropped, bool(found.troubles)) == (lost, 4 - lost, bool(lost))


def test_a_row_that_holds_something_else_in_whatever_column_is_found(job: Job) -> None:
    """Another rank, a time that is hours off, a seq that goes back, and points of one row that differ."""
    rows = rows_of(KILLED, range(10)) + rows_of(ENDED, range(5))
    for change in ({"rank": 5}, {"ms": at_ms(9) - 2 * HOUR_MS}, {"ms": at_ms(9) + 2 * HOUR_MS}, {"seq": 9}):
        changed = [row | change if (row["writer"], row["step"]) == (KILLED, 9) else row for row in rows]
        found = judged(job, changed)
        assert (found.wrong, found.lost, found.invented, bool(found.troubles)) == (1, 0, 0, True), change
    assert judged(job, [row | {"rank": row["rank"] + 5} for row in rows]).wrong == 14
    assert judged(job, [rows[0] | {"seq": rows[0]["seq"] - 1}, *rows[1:]]).wrong >= 1


def test_writers_that_tell_of_other_drops_than_their_ledgers_are_found(job: Job) -> None:
    """One that was killed must have told what it dropped before its last row, and one that ended all; by no other reason; rows and writers have the same attempts and starts."""
    starts = [{"writer": writer, "rank": writer - KILLED, "attempt": "a", "began": 7, "side": side} for writer in (KILLED, ENDED) for side in ("row", "state")]

    def found_in(killed: dict[str, int], ended: dict[str, int], changed: dict[str, Any] | None = None) -> tuple[int, int]:
        found = Findings()
        told = [{"writer": KILLED, "dropped": killed}, {"writer": ENDED, "dropped": ended}]
        judge_writers(found, Views(metrics=[starts[0] | (changed or {}), *starts[1:]], writers=told), job)
        assert bool(found.troubles) == bool(found.drops_wrong or found.wrong)
        return found.drops_wrong, found.wrong

    assert found_in({"journal_full": 4}, {}) == found_in({"journal_full": 8}, {}) == (0, 0)
    assert found_in({}, {}) == found_in({"journal_full": 12}, {}) == found_in({"bad_value": 4}, {}) == (1, 0)
    assert found_in({"journal_full": 4}, {"journal_full": 4}) == (1, 0)
    assert found_in({"journal_full": 4}, {}, {"attempt": "b"}) == found_in({"journal_full": 4}, {}, {"began": 8}) == (0, 1)


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


def records_of(job: Job) -> dict[str, list[dict[str, Any]]]:
    """What the views should say besides points."""
    typed = {"rate": ("float", "150.0", None, None, 150.0, None), "first": ("int", "0", None, 0, 0.0, None)}
    typed |= {"data": ("string", '"known"', "known", None, None, None), "begins": ("bool", "true", None, None, None, True)}
    return {
        "events": [
            {"writer": one.writer, "rank": one.rank, "step": one.next_step, "source": "", "subject": "", "metadata": {"first": "0"}, "ms": at_ms(one.next_step)}
            for one in job.ranks
            if one.said_stop
        ],
        "params_history": [
            {
                "writer": one.writer,
                "rank": one.rank,
                "key": key,
                "context": "",
                **dict(zip(("kind", "value", "str", "i64", "f64", "bool"), values, strict=True)),
            }
            for one in job.ranks
            for key, values in typed.items()
        ],
        "rules": [rule | {"writer": KILLED} for rule in RULES.values()],
        "writers": [
            {"writer": one.writer, "rank": one.rank, "state": "finished" if one.has_ended else "crashed", "project": "faults", "world_size": 2}
            | {"points_logged": len(one.kept()) * 4}
            for one in job.ranks
        ],
        "runs": [{"project": "faults", "name": "known data", "points": 56}],
    }


def records_judged(job: Job, views: dict[str, list[dict[str, Any]]]) -> Findings:
    """What the oracle finds."""
    found = Findings()
    judge_records(found, Views(**views), job, 56, 0.0)
    assert bool(found.troubles) == bool(found.lost or found.invented)
    return found


def test_a_rank_that_died_once_its_end_was_written_has_finished(job: Job, tmp_path: Path) -> None:
    """Its event, its state and its rows are those of one that ended; where it died just before, its state is that of one that crashed."""
    for point, state in (("ending", "crashed"), ("ended", "finished")):
        died_at(job, point, tmp_path)
        ledger = teller(job.ranks[0].ledger)
        ledger[STOPPED] = 1
        right = records_of(job)
        assert right["writers"][0]["state"] == state
        assert records_judged(job, right).troubles == []
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


def fired_of(job: Job) -> list[dict[str, Any]]:
    """Rows of `alerts` as they should be: of the killed one two spikes and what is not finite once, of the other a spike that nothing ended."""
    rows = {(writer, step): (8 + step, at_ms(step)) for writer in (KILLED, ENDED) for step in range(450)}
    return alerts_that_must_be(job, rows)


@pytest.fixture
def alerts(tmp_path: Path) -> list[dict[str, Any]]:
    """Of a job that logged long enough for alerts."""
    return fired_of(job_of(tmp_path, 450, 203))


def alerts_judged(stored: list[dict[str, Any]], right: list[dict[str, Any]]) -> tuple[int, int, int]:
    """How many are missing, too many, and wrong."""
    found = Findings()
    judge_alerts(found, Views(alerts=stored), "run", right, 0.0)
    assert found.alerts_expected == len(right) == 4
    assert bool(found.troubles) == bool(found.alerts_missing or found.alerts_twice or found.wrong)
    return found.alerts_missing, found.alerts_twice, found.wrong


def test_alerts_say_what_rows_mean(alerts: list[dict[str, Any]]) -> None:
    """By rule, writer and step, when each resolved, and in words."""
    told = [(row["rule"], row["writer"], row["step"], row["resolved_step"], row["state"]) for row in alerts]
    assert sorted(told, key=str) == [
        ("not finite", KILLED, 350, 351, "resolved"),
        ("spike", KILLED, 200, 205, "resolved"),
        ("spike", KILLED, 400, 405, "resolved"),
        ("spike", ENDED, 200, None, "firing"),
    ]
    assert alerts[0]["text"] == "spike: loss = 100 is > 50 at step 200, rank 0"


def test_alerts_that_are_missing_or_too_many_are_found(alerts: list[dict[str, Any]]) -> None:
    """By rule and writer, so that one too many does not make up for one too few; two of one row, too."""
    spike = next(row for row in alerts if row["rule"] == "spike" and row["writer"] == KILLED)
    rest = [row for row in alerts if row is not spike]
    assert alerts_judged(alerts, alerts) == (0, 0, 0)
    assert alerts_judged(rest, alerts) == (1, 0, 0)
    assert alerts_judged([*alerts, spike | {"seq": 1}], alerts) == (0, 1, 0)
    assert alerts_judged([*alerts, spike | {"rule": "strange"}, spike | {"rule": "strange", "seq": 1}], alerts) == (0, 2, 0)
    assert alerts_judged([*rest, spike | {"writer": ENDED}], alerts) == (1, 1, 0)
    second = next(row for row in rest if row["rule"] == "spike" and row["writer"] == KILLED)
    assert alerts_judged([second if row is spike else row for row in alerts], alerts) == (0, 1, 1)


def test_an_alert_that_says_something_else_or_did_not_resolve_is_found(alerts: list[dict[str, Any]]) -> None:
    """In each of its columns that are known."""
    changes: dict[str, Any] = {
        "value": 1.0,
        "step": 7,
        "seq": 7,
        "rank": 5,
        "text": "?",
        "severity": "info",
        "threshold": 49.0,
        "operator": "<",
        "kind": "change",
    }
    changes |= {"metric": "lr", "context": "", "subject": "a", "project": "", "baseline": 0.0, "opened": 1, "fired": 1}
    unresolved = {"state": "firing", "resolved": None, "resolved_step": None, "resolved_value": None}
    for change in (*({name: value} for name, value in changes.items()), *({name: value} for name, value in unresolved.items()), unresolved):
        assert alerts_judged([alerts[0] | change, *alerts[1:]], alerts) == (0, 0, 1), change


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


def test_a_record_that_is_missing_too_many_or_wrong_is_found(job: Job) -> None:
    """Last events, params, rules, states and the run itself, in each of their columns."""
    right = records_of(job)
    assert records_judged(job, right).troubles == []
    for view, rows in right.items():
        found = records_judged(job, right | {view: rows[1:]})
        assert (found.lost, found.invented) == (1, 0), view
        found = records_judged(job, right | {view: [*rows, rows[0]]})
        assert (found.lost, found.invented) == (0, 1), view
        for column in rows[0]:
            found = records_judged(job, right | {view: [rows[0] | {column: 77}, *rows[1:]]})
            assert (found.lost, found.invented) == (1, 1), (view, column)


def test_a_run_that_changes_after_it_was_judged_is_found() -> None:
    """Rows that come later, that go, that become others, and rows of runs that nobody began."""
    views = ("metrics", "hardware", "events", "params_history", "rules", "alerts", "summaries", "writers", "runs")
    right = {view: [{"n": 7, "c": 70}] for view in views}
    kept = Kept("run", dict.fromkeys(views, (7, 70)))
    assert judge_again(Views(**right), kept).troubles == []
    for view in views:
        for changed, what in (({"n": 8, "c": 1}, (1, 0, 0)), ({"n": 5, "c": 1}, (0, 2, 0)), ({"n": 7, "c": 1}, (0, 0, 1))):
            found = judge_again(Views(**right | {view: [changed]}), kept)
            assert (found.alerts_twice if view == "alerts" else found.doubled, found.lost, found.wrong) == what
            assert view in found.troubles[0]
    none = {view: [{"n": 0}] for view in views}
    assert judge_strangers(Views(**none), ["run"]).troubles == []
    assert judge_strangers(Views(**none | {"alerts": [{"n": 3}]}), ["run"]).invented == 3


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
    """One that is missing, one beyond, one at another offset, one twice, one with other bytes, one whose reason is of something else."""
    injected = {("t", 0, 5): (b"k", b"\xff1"), ("t", 1, 7): (b"l", b"")}
    reason = "expected a record that begins with 00 and a 4-byte schema id, got {} bytes that do not"
    right: list[dict[str, Any]] = [
        {"topic": topic, "partition": partition, "offset": offset, "reason": reason.format(len(value)), "key": key.hex().upper(), "value": value.hex().upper()}
        for (topic, partition, offset), (key, value) in injected.items()
    ]
    for rows, wrong in (
        (right, 0),
        (right[1:], 1),
        ([*right, right[0] | {"offset": 6}], 1),
        ([right[0] | {"offset": 6}, right[1]], 1),
        ([*right, right[0]], 1),
        *(([right[0] | {name: "00"}, right[1]], 1) for name in ("value", "key", "reason")),
    ):
        found = Findings()
        judge_letters(found, Views(dead_letters=rows), injected, 0.0)
        assert (found.letters_wrong, bool(found.troubles)) == (wrong, bool(wrong))


def test_a_reason_speaks_of_its_letter() -> None:
    """Of a schema that nobody knows by its id."""
    unknown = b"\x00\x00\x00\x00\x07" + bytes(40)
    assert fits(unknown, "schema id 7 is not in the catalogue: read the schema topic")
    assert not fits(unknown, "schema id 8 is not in the catalogue")
    assert not fits(unknown, "")


def test_episodes_are_counted_over_the_rows_that_were_kept() -> None:
    """An episode begins once, a value that is not finite neither begins nor ends one, and one whose rows were all dropped is none."""

    def told(rule: str, steps: Iterable[int]) -> list[tuple[int, int | None]]:
        return [(one.step, one.resolved_step) for one in known.episodes(steps) if one.rule == rule]

    assert told("spike", range(1000)) == [(200, 205), (400, 405), (600, 605), (800, 805)]
    assert told("spike", range(200)) == []
    assert told("spike", [*range(200), *range(205, 1000)]) == [(400, 405), (600, 605), (800, 805)]
    assert told("spike", [202, 350, 400]) == [(202, None)]
    assert told("not finite", range(1000)) == [(350, 351), (700, 701)]
    assert told("not finite", [349, 350, 700, 701]) == [(350, 701)]
