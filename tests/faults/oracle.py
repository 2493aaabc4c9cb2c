"""Judges a run after its faults: what the ranks' own ledgers say was logged must be what each view says, and nothing else may be there.

Every value of `metrics` is compared with what the rank logged, bit for bit, which is stronger than a checksum and says which one is wrong.
"""

from __future__ import annotations

import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.answers import Answers
from tests.faults import known
from tests.faults.job import Job, Rank
from tests.faults.stage import Stage
from tests.summaries import wrong_summaries
from tests.waiting import holds

SETTLE_S = 90.0
_LOOK_S = 0.25
_POINTS = "SELECT rank, writer, name, context, subject, step, value FROM metrics WHERE run_id = {run:UUID}"
_ALERTS = "SELECT rule, writer, count() AS n, uniqExact(seq) AS d FROM alerts WHERE run_id = {run:UUID} GROUP BY rule, writer"
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
BEGUN = 2  # Params that each rank logs, and rules that all of them register.


@dataclass(slots=True)
class Findings:
    """What was counted, and what is wrong; sentences in `troubles`."""

    points_logged: int = 0
    repeats: int = 0
    lost: int = 0
    doubled: int = 0
    invented: int = 0
    summaries_wrong: int = 0
    alerts_expected: int = 0
    alerts_missing: int = 0
    alerts_twice: int = 0
    letters_wrong: int = 0
    dropped: int = 0
    poison: int = 0
    troubles: list[str] = field(default_factory=list[str])

    def blame(self, count: int, sentence: str) -> int:
        """Takes note where a count is not 0; the count."""
        if count:
            self.troubles.append(sentence)
        return count


def settle(answers: Answers, job: Job, limit_s: float = SETTLE_S) -> str:
    """Waits until the account of the run balances and nobody of it runs any more; what is left to say where that does not come."""
    rows: list[dict[str, Any]] = []
    writers = {one.writer for one in job.ranks}

    def is_settled() -> bool:
        nonlocal rows
        rows = answers.rows("SELECT * FROM account WHERE run_id = {run:UUID}", run=job.run_id)
        return {row["writer"] for row in rows if row["kind"] == "rank"} == writers and all(row["state"] != "running" and row["balanced"] for row in rows)

    if holds(is_settled, limit_s, _LOOK_S):
        return ""
    return f"the account does not balance within {limit_s:g} s: {[row for row in rows if row['state'] == 'running' or not row['balanced']] or rows}"


def arrived(answers: Answers, job: Job, limit_s: float = SETTLE_S) -> bool:
    """Waits until points of the run are stored; whether they are."""
    return holds(lambda: answers.count("metrics", job.run_id) > 0, limit_s, _LOOK_S)


def judge(stage: Stage, job: Job, limit_s: float = SETTLE_S) -> Findings:
    """Compares ledgers and views; waits a while for what follows the points: other records, summaries, dead letters, alerts. What must be there once is counted last, when all has come."""
    answers, found = stage.answers, Findings()
    stored = answers.rows(_POINTS, run=job.run_id)
    by_writer: dict[int, list[int]] = {}
    for row in stored:
        if row["name"] == known.METRICS[0]:
            by_writer.setdefault(row["writer"], []).append(row["step"])
    _judge_points(found, job, stored)
    _judge_records(found, answers, job, limit_s)
    steps = {
        one.writer: sorted({*one.kept(), *(step for step in by_writer.get(one.writer, []) if one.broken_off and step == one.next_step)}) for one in job.ranks
    }
    _judge_summaries(found, answers, job.run_id, limit_s)
    _judge_letters(found, stage.answers, stage.letters, limit_s)
    _judge_alerts(found, answers, job.run_id, steps, limit_s)
    _judge_doubles(found, answers, job.run_id)
    before = answers.rows("SELECT count() AS n FROM metric_points WHERE run_id = {run:UUID}", run=job.run_id)[0]["n"]
    found.repeats = int(before) - answers.count("metrics", job.run_id)
    return found


def _point(row: dict[str, Any]) -> tuple[int, int, str]:
    """Writer, step and name of a stored point. What stands in another context, or speaks of another subject, has a name that no rank logs."""
    own = (row["context"], row["subject"]) == ("training", "")
    return row["writer"], row["step"], row["name"] if own else f"{row['name']} in {row['context']!r} of {row['subject']!r}"


def _judge_points(found: Findings, job: Job, stored: list[dict[str, Any]]) -> None:
    seen = Counter(_point(row) for row in stored)
    values = {_point(row): row["value"] for row in stored}
    expected: set[tuple[int, int, str]] = set()
    perhaps: set[tuple[int, int, str]] = set()
    wrong = 0
    for one in job.ranks:
        kept = one.kept()
        found.dropped += (one.next_step - one.first - len(kept)) * len(known.METRICS)
        for step in kept:
            for name, value in known.row(one.rank, step).items():
                expected.add(key := (one.writer, step, name))
                wrong += key in values and _bits(values[key]) != _bits(value)
        if one.broken_off == "whole":
            expected |= {(one.writer, one.next_step, name) for name in known.METRICS}
        if one.broken_off in ("whole", "either"):
            perhaps |= {(one.writer, one.next_step, name) for name in known.METRICS}
            there = [key for key in perhaps & seen.keys() if key[0] == one.writer]
            wrong += len(there) not in (0, len(known.METRICS))
            wrong += sum(_bits(values[key]) != _bits(known.row(one.rank, key[1])[key[2]]) for key in there)
    found.points_logged = len(expected)
    missing = expected - seen.keys()
    found.lost = found.blame(len(missing), f"{len(missing)} points are lost, such as {sorted(missing)[:3]}") + found.blame(
        wrong, f"{wrong} values are not what was logged"
    )
    extra = seen.keys() - expected - perhaps
    found.invented = found.blame(len(extra), f"{len(extra)} points are there that no ledger knows, such as {sorted(extra)[:3]}")
    twice = [key for key, count in seen.items() if count > 1]
    found.doubled += found.blame(len(twice), f"{len(twice)} points are there twice, such as {sorted(twice)[:3]}")


def _judge_doubles(found: Findings, answers: Answers, run_id: str) -> None:
    for view, identity in _IDENTITIES.items():
        row = answers.rows(f"SELECT count() AS n, uniqExact({identity}) AS d FROM {view} WHERE run_id = {{run:UUID}}", run=run_id)[0]
        found.doubled += found.blame(row["n"] - row["d"], f"{view} shows {row['n']} rows of {row['d']} identities")


def _judge_records(found: Findings, answers: Answers, job: Job, limit_s: float) -> None:
    """Records of other kinds that each rank logs: its params, the event before its end, its rules, its state. The account counts points alone, so that these may come behind them."""
    stopped: list[Rank] = [one for one in job.ranks if one.said_stop]
    ended = sum(one.has_ended for one in job.ranks)
    states = Counter({"finished": ended, "crashed": len(job.ranks) - ended})
    events = "SELECT writer AS k, count() AS n FROM events WHERE run_id = {run:UUID} AND name = 'stopped' GROUP BY k"
    params = "SELECT writer AS k, count() AS n FROM params_history WHERE run_id = {run:UUID} AND key IN ('rate', 'first') GROUP BY k"
    asked: tuple[tuple[str, str, Counter[Any]], ...] = (
        ("stopped events by writer", events, Counter(one.writer for one in stopped)),
        ("params by writer", params, Counter({one.writer: BEGUN for one in job.ranks})),
        ("rules", "SELECT 'rules' AS k, uniqExact(rule_id) AS n FROM rules WHERE run_id = {run:String}", Counter({"rules": BEGUN})),
        ("ranks by state", "SELECT state AS k, count() AS n FROM writers WHERE run_id = {run:UUID} AND kind = 'rank' GROUP BY k", +states),
        ("runs", "SELECT 'runs' AS k, count() AS n FROM runs WHERE run_id = {run:UUID}", Counter({"runs": 1})),
    )
    for what, sql, expected in asked:
        is_so: Counter[Any] = Counter()

        def is_there(sql: str = sql, expected: Counter[Any] = expected) -> bool:
            nonlocal is_so
            is_so = Counter({row["k"]: int(row["n"]) for row in answers.rows(sql, run=job.run_id)})
            return not expected - is_so

        holds(is_there, limit_s, _LOOK_S)
        found.lost += found.blame((expected - is_so).total(), f"{what}: expected {dict(expected)}, found {dict(is_so)}")
        found.invented += found.blame((is_so - expected).total(), f"{what}: found {dict(is_so)}, expected {dict(expected)}")


def _judge_alerts(found: Findings, answers: Answers, run_id: str, steps: dict[int, list[int]], limit_s: float) -> None:
    expected = +Counter(
        {(rule, writer): count(kept) for writer, kept in steps.items() for rule, count in (("spike", known.spikes), ("not finite", known.nans))}
    )
    fired: Counter[tuple[str, int]] = Counter()
    opened = 0

    def is_so() -> bool:
        nonlocal fired, opened
        rows = answers.rows(_ALERTS, run=run_id)
        fired, opened = Counter({(row["rule"], row["writer"]): row["n"] for row in rows}), sum(row["d"] for row in rows)
        return fired == expected

    holds(is_so, limit_s, _LOOK_S)
    found.alerts_expected = expected.total()
    missing, extra = expected - fired, fired - expected
    found.alerts_missing = found.blame(missing.total(), f"alerts did not fire: {dict(missing)}")
    found.alerts_twice = found.blame(max(extra.total(), fired.total() - opened), f"alerts fired that should not: {dict(extra)}")


def _judge_summaries(found: Findings, answers: Answers, run_id: str, limit_s: float) -> None:
    wrong: list[Any] = []

    def is_so() -> bool:
        nonlocal wrong
        _, wrong = wrong_summaries(answers, run_id)
        return not wrong

    holds(is_so, limit_s, _LOOK_S)
    found.summaries_wrong = found.blame(len(wrong), f"{len(wrong)} summaries differ from their recomputation, such as {wrong[:2]}")
    extra = answers.rows(_BEYOND, run=run_id)[0]["n"]
    found.invented += found.blame(extra, f"{extra} summaries are of series that have no points")


def _judge_letters(found: Findings, answers: Answers, letters: set[tuple[str, int, int]], limit_s: float) -> None:
    shown: Counter[tuple[str, int, int]] = Counter()

    def is_so() -> bool:
        nonlocal shown
        rows = answers.rows("SELECT topic, partition, offset, reason FROM dead_letters")
        shown = Counter((row["topic"], row["partition"], row["offset"]) for row in rows)
        return shown == Counter(letters)

    holds(is_so, limit_s, _LOOK_S)
    injected = Counter(letters)
    wrong = (shown - injected) + (injected - shown)
    found.letters_wrong = found.blame(
        wrong.total(), f"dead letters: {len(injected - shown)} of those injected are missing, {(shown - injected).total()} are there beyond them: {dict(wrong)}"
    )


def _bits(value: float) -> bytes:
    return b"nan" if value != value else struct.pack("<d", value)
