"""Each question of docs/sql.md, asked of a fleet with known numbers: the answer is the one that people would expect."""

from __future__ import annotations

import math
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.migrations import migrate
from tests.sinks import examples, fleet

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack

PAGE = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
QUESTIONS = {part.partition("\n")[0]: found[1] for part in PAGE.split("\n### ")[1:] if (found := re.search(r"```sql\n(.*?)```", part, re.DOTALL)) is not None}

NOW_MS = time.time_ns() // 1_000_000
NOW = datetime.fromtimestamp(NOW_MS / 1000, UTC).replace(tzinfo=None)
LETTERS = datetime.fromtimestamp(examples.STARTED_MS / 1000, UTC).replace(tzinfo=None)


def ago(**delta: float) -> datetime:
    """A moment of the fleet, as ClickHouse gives it."""
    return NOW - timedelta(**delta)


LIVE = ago(minutes=10)
ANSWERS: dict[str, list[tuple[object, ...]]] = {
    "What has run lately, and how did it end?": [
        ("live", "running", LIVE, None, 1, 151),
        ("hot", "failed", ago(days=1), 40, 1, 40),
        # Its first attempt crashed, but a later one took its place.
        ("wide", "finished", ago(days=2), 660, 2, 112),
        ("baseline", "finished", ago(days=3), 360, 2, 402),
    ],
    "Which runs crashed this week, and why?": [
        ("hot", 0, "host-0", "failed", "ValueError: loss is NaN"),
        ("wide", 0, "host-0", "crashed", "no sign of life"),
    ],
    "How often was a run restarted?": [(1, 1, "crashed", 60), (2, 1, "finished", 60)],
    # Vision: two ranks for 6 minutes, two attempts for 1, 40 seconds, and 10 minutes. Text: one rank for two hours.
    "How many GPU hours has each project used?": [("text", 2.0), ("vision", round((2 * 360 + 2 * 60 + 40 + 600) / 3600, 2))],
    "What does the learning curve of a run look like?": [
        (start, 2.0 - (start + 19) / 100, sum(2.0 - step / 100 for step in range(start, start + 20)) / 20, 2.0 - start / 100) for start in range(0, 100, 20)
    ],
    "And of a metric with a hundred million points?": [(0, 99, 2.0 - 0.99, 2.0 - 0.495, 2.0)],
    "What does it look like smoothed?": [
        (step, 2.0 - step / 100, round(sum(2.0 - one / 100 for one in range(max(0, step - 4), step + 1)) / min(step + 1, 5), 4)) for step in range(100)
    ],
    "How do runs compare at the same step?": [(49, 0.8, 0.7), (99, 0.9, 0.95)],
    "What is the curve of a run that was restarted?": [(step, 3.0 if step < 50 else 1.0, 2 if 50 <= step < 60 else 1) for step in range(100)],
    "When was a metric NaN or infinite for the first time?": [("hot", "loss", 0, 30, 10)],
    "Which run is best by a metric?": [("wide", 0.95, 99), ("baseline", 0.9, 99)],
    "What is the newest value of every metric of a run?": [
        ("accuracy", "validation", 0, 0.9, 99),
        ("loss", "training", 0, 2.0 - 0.99, 99),
        ("loss", "training", 1, 2.0 - 0.99 + 0.099, 99),
        ("step_seconds", "training", 0, 1.0, 99),
        ("step_seconds", "training", 1, 1.5, 99),
    ],
    "Which params went with the best results?": [(0.3, "wide", 0.95), (0.1, "baseline", 0.9)],
    "What changed between two runs' params?": [("optimizer.lr", "0.1", "0.3"), ("width", "", "4")],
    "Which versions of a model are there, which run made each, and who uses it?": [(0, "baseline", 50, ["hot", "wide"]), (1, "baseline", 100, [])],
    # The second attempt counts on from the first one's last step, in the version that holds by then.
    "What does a line look like, and what did it look like before it was replaced?": [(0, [0, 10, 11], [0.5, 0.75, 1.0]), (1, [0, 1, 2], [0.25, 0.5, 1.0])],
    "How many steps a second does each rank make?": [(0, round(99 / 258, 3)), (1, round(99 / 258, 3))],
    "Which rank is the slowest?": [(1, "host-1", 1.5, 2.5), (0, "host-0", 1.0, 2.0)],
    "Where did training pause?": [(50, 62), (1, 2), (2, 2)],
    # 50 steps are left, at 4 seconds each.
    "When will it be done?": [(150, 200, 200.0)],
    "Do the ranks agree?": [(99, 0.099, 1)],
    "Which GPUs idled?": [("baseline", "1", 20.0)],
    # A minute of 600 W, and one of 700 W.
    "How much energy did a run take?": [(round((600 * 60 + 700 * 60) / 3.6e6, 4),)],
    "How long did checkpoints take?": [("baseline", 2, 2.5), ("wide", 1, 1.25)],
    "Which rules fired, how often, and for how long?": [("diverged", "critical", 2, 1, 10.0), ("lost", "warning", 1, 1, None)],
    "How fast were alerts?": [("critical", 2, 200, 200), ("warning", 1, 3000, 3000)],
    "Who was told of alerts, and who could not be?": [("ops", "delivered", "", 2, 800), ("pager", "failed", "it answered 403", 1, 600)],
    "Does the account balance, and what was dropped?": [("baseline", "rank", 1, 200, 200, {"journal_full": 5}, True)],
    "What could not be stored, and why?": [("rs.metric", "not Avro", 3, LETTERS), ("rs.event", "no such schema", 1, LETTERS)],
}


@pytest.fixture(scope="module")
def stored(clickhouse_url: str) -> Iterator[Server]:
    """A database with the fleet, which the questions only read."""
    name = f"t_{uuid.uuid4().hex[:10]}"
    create_database(clickhouse_url, name)
    server = Server(clickhouse_url, name)
    migrate(server)
    fleet.store(server, NOW_MS)
    yield server
    server.command(f"DROP DATABASE `{name}`")
    server.close()


def test_the_page_has_questions_and_the_test_an_answer_to_each() -> None:
    """Twenty at least; none is left out here, and none is gone from the page."""
    assert len(QUESTIONS) >= 20
    assert PAGE.count("```sql") == PAGE.count("\n### ") == len(QUESTIONS)
    assert list(ANSWERS) == list(QUESTIONS)


def same(found: object, expected: object) -> bool:
    """Equal; floats and times nearly."""
    if isinstance(found, float):
        return isinstance(expected, int | float) and math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-9)
    if isinstance(found, datetime) and isinstance(expected, datetime):
        return abs(found.replace(tzinfo=None) - expected) < timedelta(milliseconds=2)
    return found == expected


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer(stored: Server, question: str) -> None:
    """The statement as it stands on the page gives the rows that the fleet was made for."""
    found = stored.query(QUESTIONS[question])
    expected = ANSWERS[question]
    assert len(found) == len(expected), found
    for row, wanted in zip(found, expected, strict=True):
        assert len(row) == len(wanted)
        assert all(same(one, other) for one, other in zip(row, wanted, strict=True)), (row, wanted)
