"""Judges a run after its faults: what the ranks' own ledgers say was logged must be what each view says, and nothing else may be there.

Whole rows are compared with what each rank logged, bit for bit, which is stronger than a checksum and says which one is wrong: `points` and `records` do it.
"""

from __future__ import annotations

from typing import Any

from tests.answers import Answers
from tests.faults.findings import Findings
from tests.faults.job import Job
from tests.faults.points import POINTS, Rows, Windows, judge_points, judge_writers
from tests.faults.records import LOOK_S, alerts_of, judge_alerts, judge_letters, judge_records
from tests.faults.stage import Stage
from tests.summaries import wrong_summaries
from tests.waiting import holds

SETTLE_S = 90.0
_SERIES = "SELECT writer, name, context, subject FROM {view} WHERE run_id = {{run:UUID}}"
_BEYOND = f"SELECT count() AS n FROM ({_SERIES.format(view='summaries')} EXCEPT ({_SERIES.format(view='metrics')} UNION ALL {_SERIES.format(view='hardware')}))"
_IDENTITIES = {
    "metrics": "writer, seq, name, context, subject",
    "hardware": "writer, seq, name, context, subject",
    "events": "writer, seq",
    "params_history": "writer, seq, key",
    "alerts": "alert_id",
    "summaries": "writer, name, context, subject",
    "writers": "writer",
    "runs": "run_id",
}


def settle(answers: Answers, job: Job, limit_s: float = SETTLE_S) -> str:
    """Waits until the account of the run balances and nobody of it runs any more; what is left to say where that does not come."""
    rows: list[dict[str, Any]] = []
    writers = {one.writer for one in job.ranks}

    def is_settled() -> bool:
        nonlocal rows
        rows = answers.rows("SELECT * FROM account WHERE run_id = {run:UUID}", run=job.run_id)
        return {row["writer"] for row in rows if row["kind"] == "rank"} == writers and all(row["state"] != "running" and row["balanced"] for row in rows)

    if holds(is_settled, limit_s, LOOK_S):
        return ""
    return f"the account does not balance within {limit_s:g} s: {[row for row in rows if row['state'] == 'running' or not row['balanced']] or rows}"


def arrived(answers: Answers, job: Job, limit_s: float = SETTLE_S) -> bool:
    """Waits until points of the run are stored; whether they are."""
    return holds(lambda: answers.count("metrics", job.run_id) > 0, limit_s, LOOK_S)


def judge(stage: Stage, job: Job, full: Windows, limit_s: float = SETTLE_S) -> Findings:
    """Compares ledgers and views; waits a while for what follows the points: other records, summaries, dead letters, alerts. What must be there once is counted last, when all has come.

    Args:
        stage: where the run was.
        job: what logged.
        full: when the journals' disk was full, which alone excuses a call that found no room.
        limit_s: how long is waited for each of what follows.
    """
    answers, found = stage.answers, Findings()
    stored = answers.rows(POINTS, run=job.run_id)
    rows = judge_points(found, job, stored, full)
    judge_records(found, answers, job, len(stored), limit_s)
    judge_writers(found, answers, job)
    _judge_summaries(found, answers, job.run_id, limit_s)
    judge_letters(found, stage.answers, stage.letters, limit_s)
    judge_alerts(found, answers, job.run_id, alerts_that_must_be(job, rows), limit_s)
    _judge_doubles(found, answers, job.run_id)
    before = answers.rows("SELECT count() AS n FROM metric_points WHERE run_id = {run:UUID}", run=job.run_id)[0]["n"]
    found.repeats = int(before) - answers.count("metrics", job.run_id)
    return found


def alerts_that_must_be(job: Job, rows: Rows) -> list[dict[str, Any]]:
    """Those that the ranks' rows mean: all whose calls returned and found room, and one that was broken off where it is stored."""
    right: list[dict[str, Any]] = []
    for one in job.ranks:
        last = [one.next_step] if one.broken_off and (one.writer, one.next_step) in rows else []
        right += alerts_of(one, one.kept() + last, rows)
    return right


def _judge_doubles(found: Findings, answers: Answers, run_id: str) -> None:
    for view, identity in _IDENTITIES.items():
        row = answers.rows(f"SELECT count() AS n, uniqExact({identity}) AS d FROM {view} WHERE run_id = {{run:UUID}}", run=run_id)[0]
        found.doubled += found.blame(row["n"] - row["d"], f"{view} shows {row['n']} rows of {row['d']} identities")


def _judge_summaries(found: Findings, answers: Answers, run_id: str, limit_s: float) -> None:
    wrong: list[Any] = []

    def is_so() -> bool:
        nonlocal wrong
        _, wrong = wrong_summaries(answers, run_id)
        return not wrong

    holds(is_so, limit_s, LOOK_S)
    found.summaries_wrong = found.blame(len(wrong), f"{len(wrong)} summaries differ from their recomputation, such as {wrong[:2]}")
    extra = answers.rows(_BEYOND, run=run_id)[0]["n"]
    found.invented += found.blame(extra, f"{extra} summaries are of series that have no points")
