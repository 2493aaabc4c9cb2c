"""Two ranks log a known data set through the whole pipeline, and every stored row is compared with it."""

from __future__ import annotations

import json
import math
import os
import struct
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.ids import new_uuid
from runstream_sinks.clickhouse import Server
from runstream_sinks.commands.verify import summaries_text
from runstream_sinks.verify_summaries import verify_summaries
from tests.answers import Answers
from tests.integration import spine_rank as data
from tests.summaries import check_summaries
from tests.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Spine:
    """The run, and how many points each rank said that it logged."""

    run_id: str
    answers: Answers
    logged: dict[int, int]

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of an answer about this run."""
        return self.answers.rows(sql, run=self.run_id)


@pytest.fixture(scope="module")
def held() -> dict[str, Spine]:
    """The run of this module, made by the first test that asks."""
    return {}


@pytest.fixture
def spine(held: dict[str, Spine], environment: dict[str, str], answers: Answers) -> Spine:
    """The run of two ranks, stored to the last point."""
    if "spine" in held:
        return held["spine"]
    run_id = new_uuid()
    base = os.environ | environment | {"RUNSTREAM_RUN_ID": run_id, "WORLD_SIZE": "2", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.integration.spine_rank"]
    ranks = [
        subprocess.Popen(command, env=base | {"RANK": str(rank)}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for rank in range(2)
    ]
    logged: dict[int, int] = {}
    for rank, process in enumerate(ranks):
        out, err = process.communicate(timeout=90)
        assert process.returncode == 0, err
        assert err.count("val/bad") == 1, "one warning names the key that was refused"
        logged[rank] = int(out)
    made = Spine(run_id, answers, logged)

    def stored() -> bool:
        rows = made.rows("SELECT * FROM account WHERE run_id = {run:UUID}")
        return len(rows) >= 3 and all(row["state"] == "finished" and row["balanced"] for row in rows)

    wait_for(stored, 60, "the account to balance")
    held["spine"] = made
    return made


def test_every_point_is_stored_once_with_its_value(spine: Spine) -> None:
    """Names, contexts, subjects, steps, times and values of all points are what the ranks logged: nothing more, nothing less."""
    rows = spine.rows("SELECT rank, name, context, subject, step, toUnixTimestamp64Milli(time) AS ms, value FROM metrics WHERE run_id = {run:UUID}")
    expected: Counter[tuple[Any, ...]] = Counter()
    for rank in range(2):
        for step in range(data.STEPS):
            for name in data.NAMES:
                expected[rank, name, "training", "", step, round((1_790_000_000.0 + step + 0.125) * 1000), struct.pack("<d", data.value(rank, name, step))] += 2
    training = Counter(
        (row["rank"], row["name"], row["context"], row["subject"], row["step"], row["ms"], struct.pack("<d", row["value"]))
        for row in rows
        if row["context"] == "training"
    )
    assert training == expected
    others = sorted((row["rank"], row["name"], row["context"], row["subject"], row["step"], row["value"]) for row in rows if row["context"] != "training")
    validation = [(rank, "val/loss", "validation", "", phase, 1.0 / (phase + 1)) for rank in range(2) for phase in range(data.PHASES)]
    scores = [(rank, "score", "", "model/net/1", 2**62 + phase, float(phase)) for rank in range(2) for phase in range(data.PHASES)]
    assert others == sorted(validation + scores)


def test_the_account_balances_to_the_last_point(spine: Spine) -> None:
    """What each rank's process counted is what was shipped and what is stored; what it refused is counted by reason."""
    rows = {row["rank"]: row for row in spine.rows("SELECT * FROM account WHERE run_id = {run:UUID} AND kind = 'rank'")}
    for rank in range(2):
        assert spine.logged[rank] == rows[rank]["points_logged"] == rows[rank]["points_shipped"] == rows[rank]["points_stored"]
        assert rows[rank]["points_dropped"] == {"bad_value": data.PHASES}
    hardware = spine.rows("SELECT name, value FROM hardware WHERE run_id = {run:UUID}")
    assert {"memory.total_bytes", "cpu.load_1m"} <= {row["name"] for row in hardware}
    assert all(row["value"] >= 0.0 for row in hardware)


def test_summaries_equal_their_recomputation(spine: Spine) -> None:
    """Each series' summary is, bit for bit, what its stored points come to; `runstream verify --summaries` computes the same, of hardware readings too."""
    check_summaries(spine.answers, spine.run_id)
    server = Server(spine.answers.url, spine.answers.database)
    report = verify_summaries(server, frozenset((spine.run_id,)))
    server.close()
    assert report.equal, summaries_text(report)
    assert report.runs[0].compared > 0


def test_alerts_fire_and_resolve_once_each(spine: Spine) -> None:
    """Both rules fire on both ranks where the data says, and resolve where it says."""

    def alerts() -> list[dict[str, Any]]:
        return spine.rows(
            "SELECT rule, rank, state, step, value, severity, resolved_step, text, late FROM alerts WHERE run_id = {run:UUID} ORDER BY rule, rank, step DESC"
        )

    # Steps run backwards: the loss is over 15 from the first row on and falls below once, and "special" is not finite at three steps apart.
    wait_for(lambda: len(alerts()) == 8 and all(row["state"] == "resolved" for row in alerts()), 30, lambda: f"eight resolved alerts, got {alerts()}")
    for rank in range(2):
        high = [row for row in alerts() if row["rule"] == "high" and row["rank"] == rank]
        first_below = next(step for step in reversed(range(data.STEPS)) if data.value(rank, "loss", step) < 15.0)
        assert [(row["step"], row["resolved_step"], row["late"]) for row in high] == [(data.STEPS - 1, first_below, True)], "rows of two months ago page nobody"
        assert f"on rank {rank}, step {data.STEPS - 1}" in high[0]["text"]
        odd = [row for row in alerts() if row["rule"] == "odd" and row["rank"] == rank]
        assert [(row["step"], row["resolved_step"], row["severity"]) for row in odd] == [(step, step - 1, "critical") for step in (111, 73, 37)]


def test_runs_params_and_events_read_as_they_were_said(spine: Spine) -> None:
    """Whatever else was logged is there with its types, its history and its subject."""
    run = spine.rows("SELECT * FROM runs WHERE run_id = {run:UUID}")[0]
    assert (run["project"], run["name"], run["owner"], run["framework"], run["task"], run["notes"], run["tags"]) == (
        "spine",
        "known",
        "ada",
        "numpy",
        "test",
        "two ranks",
        ["a", "b"],
    )
    assert run["state"] == "finished"
    assert run["writers"] == 2
    assert json.loads(run["metadata"]["k"]) == [1, {"x": None}]
    params = {(row["rank"], row["key"]): row for row in spine.rows("SELECT * FROM params WHERE run_id = {run:UUID}")}
    kinds = {"float": "float", "nan": "float", "bool": "bool", "text": "string", "none": "null", "list": "list", "int": "int"}
    for rank in range(2):
        assert {key: params[rank, key]["kind"] for key in kinds} == kinds
        assert params[rank, "int"]["i64"] == 7, "the later value holds"
        assert math.isnan(json.loads(params[rank, "nan"]["value"]))
        assert json.loads(params[rank, "text"]["value"]) == "ü" == params[rank, "text"]["str"]
        assert json.loads(params[rank, "list"]["value"]) == [1, "two", 3.5]
        assert params[rank, "nested.rank"]["i64"] == rank
    history = spine.rows("SELECT i64 FROM params_history WHERE run_id = {run:UUID} AND key = 'int' AND rank = 0 ORDER BY seq")
    assert [row["i64"] for row in history] == [2**40, 7]
    events = spine.rows("SELECT *, toUnixTimestamp64Milli(time) AS ms FROM events WHERE run_id = {run:UUID} ORDER BY rank, name")
    assert [row["name"] for row in events] == ["checkpoint_finished", "checkpoint_started"] * 2
    started = events[1]
    assert (started["source"], started["subject"], started["step"], started["ms"]) == ("trainer", "checkpoint/1", 5, 1_790_000_001_500)
    assert {key: json.loads(text) for key, text in started["metadata"].items()} == {"size": 123, "why": "test"}
