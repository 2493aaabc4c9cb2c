"""Summaries as ClickHouse has them against a recomputation from the stored points."""

from __future__ import annotations

from runstream_rules.recompute import Summary, recompute
from tests.answers import Answers
from tests.waiting import wait_for

_COLUMNS = "count, non_finite, sum, mean, m2, min, min_step, max, max_step, first, first_step, last, last_step"
_NAMES = (*_COLUMNS.split(", "), "first_time", "last_time")
_STORED = f"""
SELECT writer, name, context, subject, {_COLUMNS}, toUnixTimestamp64Milli(first_time) AS first_time, toUnixTimestamp64Milli(last_time) AS last_time
FROM summaries WHERE run_id = {{run:UUID}}
"""
_POINTS = """
SELECT writer, name, context, subject, step, toUnixTimestamp64Milli(time) AS ms, value FROM metrics WHERE run_id = {run:UUID} ORDER BY writer, seq
"""

Key = tuple[int, str, str, str]


def wrong_summaries(answers: Answers, run_id: str) -> tuple[int, list[tuple[Key, Summary | None, Summary]]]:
    """How many series the run's metrics have, and those whose summary is not, bit for bit, one computed anew from their stored points: what is stored, what it should be."""
    points: dict[Key, list[tuple[int, int, float]]] = {}
    for row in answers.rows(_POINTS, run=run_id):
        points.setdefault((row["writer"], row["name"], row["context"], row["subject"]), []).append((row["step"], row["ms"], row["value"]))
    expected = {key: recompute(values) for key, values in points.items()}
    rows = answers.rows(_STORED, run=run_id)
    found = {(row["writer"], row["name"], row["context"], row["subject"]): Summary(**{name: row[name] for name in _NAMES}) for row in rows}
    return len(expected), [(key, found.get(key), one) for key, one in expected.items() if key not in found or not found[key].same_as(one)]


def check_summaries(answers: Answers, run_id: str, limit_s: float = 60.0) -> None:
    """Waits until every series of the run's metrics has a summary that equals one computed anew from its stored points; fails where that does not come."""
    series, wrong = 0, list[tuple[Key, Summary | None, Summary]]()

    def right() -> bool:
        nonlocal series, wrong
        series, wrong = wrong_summaries(answers, run_id)
        return not wrong

    wait_for(right, limit_s, lambda: f"summaries to equal their recomputation: {wrong[:3]}")
    assert series
