"""Judges what a run has besides points by what is known of it: events, params, rules, states, alerts, dead letters. Whole rows are compared, without ids and the clocks of others."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from tests.answers import Answers
from tests.faults import known, poison
from tests.faults.findings import Findings
from tests.faults.job import Job, Rank
from tests.faults.points import Rows
from tests.faults.rank import STOP_AFTER, STOP_BEFORE
from tests.waiting import holds

LOOK_S = 0.25
_CLOCK_MS = 1000
_ALERTS = """
SELECT rule, writer, rank, seq, step, value, state, kind, severity, metric, context, subject, operator, threshold, baseline, text, project,
    toUnixTimestamp64Milli(opened) AS opened, toUnixTimestamp64Milli(fired) AS fired, toUnixTimestamp64Milli(resolved) AS resolved, resolved_step,
    resolved_value
FROM alerts WHERE run_id = {run:UUID}
"""
_EVENTS = """
SELECT writer, rank, step, source, subject, metadata, toUnixTimestamp64Milli(time) AS ms FROM events WHERE run_id = {run:UUID} AND name = 'stopped'
"""
_PARAMS = f"""
SELECT writer, rank, key, context, kind, value, str, i64, f64, bool FROM params_history WHERE run_id = {{run:UUID}} AND key IN {tuple(known.params(1.0, 0))}
"""
_RULES = "SELECT * FROM rules WHERE run_id = {run:String}"
_STATES = "SELECT writer, rank, state, project, world_size, points_logged FROM writers WHERE run_id = {run:UUID} AND kind = 'rank'"
_RUNS = "SELECT project, name, points FROM runs WHERE run_id = {run:UUID}"
_LETTERS = "SELECT topic, partition, offset, reason, hex(key) AS key, hex(value) AS value FROM dead_letters"
# What a rule has where nobody said anything, and what each of the two says.
_PLAIN: dict[str, Any] = {
    **dict.fromkeys(("project", "context", "operator", "text", "aggregate", "measure", "direction", "goal"), ""),
    **dict.fromkeys(("rank", "threshold", "clear"), None),
    **dict.fromkeys(("for_s", "cooldown_s", "window", "window_s", "baseline"), 0),
    "channels": [],
    "states": [],
    "labels": {},
    "deleted": False,
    "version": 1,
    "metric": "loss",
}
RULES: dict[str, dict[str, Any]] = {
    "spike": _PLAIN | {"name": "spike", "kind": "threshold", "operator": ">", "threshold": known.THRESHOLD, "severity": "warning", "ordinal": 1},
    "not finite": _PLAIN | {"name": "not finite", "kind": "non_finite", "severity": "critical", "ordinal": 2},
}
_OF_RULES = ("kind", "severity", "metric", "operator", "threshold")
Fact = tuple[Any, ...]


def judge_records(found: Findings, answers: Answers, job: Job, points: int, limit_s: float) -> None:
    """Records of other kinds that each rank logs: its params, the event before its end, its rules, its state. The account counts points alone, so that these may come behind them."""
    stopped: dict[int, Rank] = {one.writer: one for one in job.ranks if one.said_stop}
    logged = {one.writer: len(one.kept()) * len(known.METRICS) for one in job.ranks}
    broken = {one.writer for one in job.ranks if one.broken_off in ("whole", "either")}

    def event(row: dict[str, Any]) -> Fact:
        one = stopped.get(row["writer"])
        clock = (0, 0) if one is None else sorted((one.numbers[STOP_BEFORE], one.numbers[STOP_AFTER]))
        in_time = clock[0] - _CLOCK_MS <= row["ms"] <= clock[1] + _CLOCK_MS
        return (*(row[name] for name in ("writer", "rank", "step", "source", "subject")), _text(row["metadata"]), in_time)

    def state(row: dict[str, Any]) -> Fact:
        more = row["points_logged"] - logged.get(row["writer"], 0)
        return (
            row["writer"],
            row["rank"],
            row["state"],
            row["project"],
            row["world_size"],
            more if row["writer"] not in broken or more != len(known.METRICS) else 0,
        )

    events = [(one.writer, one.rank, one.next_step, "", "", _text({"first": json.dumps(one.first)}), True) for one in stopped.values()]
    states = [(one.writer, one.rank, "finished" if one.has_ended else "crashed", "faults", job.count, 0) for one in job.ranks]
    asked: tuple[tuple[str, str, Callable[[dict[str, Any]], Fact], list[Fact]], ...] = (
        ("stopped events", _EVENTS, event, [*events]),
        ("params", _PARAMS, lambda row: tuple(row.values()), [param for one in job.ranks for param in _params(one, job.rate)]),
        ("rules", _RULES, lambda row: _rule(row, {one.writer for one in job.ranks}), [_rule(rule | {"writer": 0}, {0}) for rule in RULES.values()]),
        ("states of ranks", _STATES, state, [*states]),
        ("runs", _RUNS, lambda row: tuple(row.values()), [("faults", "known data", points)]),
    )
    for what, sql, fact, facts in asked:
        expected, is_so = Counter(facts), Counter[Fact]()

        def is_there(sql: str = sql, fact: Callable[[dict[str, Any]], Fact] = fact, expected: Counter[Fact] = expected) -> bool:
            nonlocal is_so
            is_so = Counter(fact(row) for row in answers.rows(sql, run=job.run_id))
            return not expected - is_so

        holds(is_there, limit_s, LOOK_S)
        missing, extra = expected - is_so, is_so - expected
        found.lost += found.blame(missing.total(), f"{what}: expected {dict(missing)}, found {dict(extra)} beside what is right")
        found.invented += found.blame(extra.total(), f"{what}: found {dict(extra)}, expected {dict(missing)} beside what is right")


def _params(one: Rank, rate: float) -> list[Fact]:
    """The rows of a rank's params."""
    kinds = {bool: "bool", int: "int", float: "float", str: "string"}
    rows: list[Fact] = []
    for key, value in known.params(rate, one.first).items():
        is_bool, is_text = isinstance(value, bool), isinstance(value, str)
        typed = (
            value if is_text else None,
            value if isinstance(value, int) and not is_bool else None,
            None if is_bool or is_text else float(value),
            value if is_bool else None,
        )
        rows.append((one.writer, one.rank, key, "", kinds[type(value)], json.dumps(value), *typed))
    return rows


def _rule(row: Mapping[str, Any], writers: set[int]) -> Fact:
    """What somebody registered, without when; and whether it was one of those who should."""
    names = sorted({*_PLAIN, "name", "kind", "severity", "ordinal"})
    return (*((name, _text(row[name])) for name in names), row["writer"] in writers)


def alerts_of(one: Rank, steps: list[int], rows: Rows) -> list[dict[str, Any]]:
    """The rows of `alerts` that a writer's rows mean."""
    made: list[dict[str, Any]] = []
    for episode in known.episodes(steps):
        value = known.row(one.rank, episode.step)["loss"]
        relation = f"> {known.THRESHOLD:g}" if episode.rule == "spike" else "not finite"
        seq, fired = rows.get((one.writer, episode.step), (0, 0))
        end = episode.resolved_step
        made.append(
            {"rule": episode.rule, "writer": one.writer, "rank": one.rank, "seq": seq, "step": episode.step, "value": value}
            | {"state": "firing" if end is None else "resolved", "context": "training", "subject": "", "baseline": None, "project": "faults"}
            | {name: RULES[episode.rule][name] for name in _OF_RULES}
            | {"text": f"{episode.rule}: loss = {value:g} is {relation} at step {episode.step}, rank {one.rank}", "opened": fired, "fired": fired}
            | {"resolved": None if end is None else rows.get((one.writer, end), (0, 0))[1], "resolved_step": end}
            | {"resolved_value": None if end is None else known.row(one.rank, end)["loss"]}
        )
    return made


def judge_alerts(found: Findings, answers: Answers, run_id: str, right: list[dict[str, Any]], limit_s: float) -> None:
    """Every episode fired once, resolved where its series went back, and says what it should; nothing fired beside."""
    expected = Counter((row["rule"], row["writer"]) for row in right)
    facts = Counter(map(_fact, right))
    fired: Counter[tuple[str, int]] = Counter()
    stored: Counter[Fact] = Counter()
    opened = 0

    def is_so() -> bool:
        nonlocal fired, opened, stored
        rows = answers.rows(_ALERTS, run=run_id)
        fired, stored = Counter((row["rule"], row["writer"]) for row in rows), Counter(map(_fact, rows))
        opened = len({(row["rule"], row["writer"], row["seq"]) for row in rows})
        return stored == facts

    holds(is_so, limit_s, LOOK_S)
    found.alerts_expected = expected.total()
    missing, extra = expected - fired, fired - expected
    found.alerts_missing = found.blame(missing.total(), f"alerts did not fire: {dict(missing)}")
    found.alerts_twice = found.blame(max(extra.total(), fired.total() - opened), f"alerts fired that should not: {dict(extra)}")
    if not missing and not extra:
        wrong = facts - stored
        found.wrong += found.blame(
            wrong.total(), f"{wrong.total()} alerts are not what they should be: expected {list(wrong)[:2]}, found {list(stored - facts)[:2]}"
        )


def judge_letters(found: Findings, answers: Answers, letters: poison.Letters, limit_s: float) -> None:
    """Dead letters are the poison that was injected: place, key, value, a reason that fits; each once."""
    injected = Counter((*place, key.hex(), value.hex(), True) for place, (key, value) in letters.items())
    shown: Counter[Fact] = Counter()

    def is_so() -> bool:
        nonlocal shown
        rows = answers.rows(_LETTERS)
        shown = Counter(
            (row["topic"], row["partition"], row["offset"], row["key"].lower(), row["value"].lower(), poison.fits(bytes.fromhex(row["value"]), row["reason"]))
            for row in rows
        )
        return shown == injected

    holds(is_so, limit_s, LOOK_S)
    missing, extra = injected - shown, shown - injected
    some = [one[:3] for one in (missing + extra)][:5]
    found.letters_wrong = found.blame(
        max(missing.total(), extra.total()),
        f"dead letters: {missing.total()} of those injected are missing or other than they were, {extra.total()} are there beyond them: {some}",
    )


def _fact(row: Mapping[str, Any]) -> Fact:
    return tuple(sorted((name, str(value)) for name, value in row.items()))


def _text(value: Any) -> str:
    """Of numbers that are equal one text, too."""
    return json.dumps(float(value) if isinstance(value, int) and not isinstance(value, bool) else value, sort_keys=True)
