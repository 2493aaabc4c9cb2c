"""Offline runs and the account, to the end of the pipe: what is synced later reads as if it had been online, and the account balances only where every point is stored."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream import cli
from runstream._account import WriterAccount
from runstream.commands import account
from runstream_local.clickhouse.health import is_serving
from runstream_producers.journal.writer import JournalWriter
from runstream_producers.paths import offline_folder
from runstream_producers.topics import ensure_topics
from tests.answers import Answers
from tests.producers.cluster import Place, settle
from tests.producers.journals import Reports, identity
from tests.sinks.workers import Pipe
from tests.waiting import wait_for


@dataclass
class Stored:
    """Topics, journals and tables of one test, and a sink worker between them."""

    place: Place
    answers: Answers
    pipe: Pipe

    def account(self, run: str, capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
        """What `runstream account` says, checked for its exit code."""
        capsys.readouterr()
        assert cli.main(["account", run, "--json"]) == code, self.pipe.log()
        return json.loads(capsys.readouterr().out)

    def wait(self, run_id: str, writers: int = 1) -> None:
        """Waits until the run's account knows as many writers and balances."""

        def balanced() -> bool:
            known = self.answers.rows("SELECT count() AS n FROM writers WHERE toString(run_id) = {run:String}", run=run_id)[0]["n"]
            return known >= writers and cli.main(["account", run_id, "--json"]) == 0

        wait_for(balanced, 40, lambda: f"the account of {run_id}: {self.pipe.log()}")


@pytest.fixture
def stored(kafka: str, clickhouse_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stored]:
    """Everything real but the network."""
    database = f"t_{uuid.uuid4().hex[:10]}"
    place = settle(kafka, tmp_path, monkeypatch, clickhouse_url=clickhouse_url, clickhouse_database=database, sink_interval="0.2")
    ensure_topics(place.settings)
    subprocess.run([sys.executable, "-m", "runstream_sinks", "migrate"], env=os.environ, check=True, timeout=60, stdout=subprocess.DEVNULL)
    pipe = Pipe(place.settings, tmp_path)
    answers = Answers(clickhouse_url, database)
    try:
        pipe.start()
        yield Stored(place, answers, pipe)
    finally:
        pipe.close()
        place.end()
        answers.command(f"DROP DATABASE `{database}`")


def work(mode: str) -> runstream.Run:
    """One training, in some mode."""
    assert mode in ("online", "offline")
    run = runstream.init("tests", mode, mode="offline" if mode == "offline" else "online", config={"lr": 0.1, "layers": [1, 2]}, tags=["x"])
    for step in range(500):
        run.log({"loss": 1.0 / (step + 1), "odd": (math.nan, math.inf, 1.0)[step % 3]}, step=step, time=1.7e9 + step)
    run.log({"acc": 0.5, "bad": None}, step=500, time=1.7e9, context="validation", subject="model/a/1")
    run.log_event("saved", metadata={"bytes": 5}, step=500)
    run.alert_on("loss", ">", 1e9)
    run.finish(timeout=30)
    return run


@pytest.mark.stack
def test_an_offline_run_synced_later_equals_the_online_one(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """Points, params, events, what is said of the run, its state and its account are the same from either mode; nothing is stored before the sync."""
    online, offline = work("online"), work("offline")
    told = stored.account(offline.id, capsys, 1)
    assert told["writers"] == []
    assert [one["rows"] for one in told["waiting_here"]] == [offline._rows.seq]
    done = subprocess.run([sys.executable, "-m", "runstream.cli", "sync"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    for run in (online, offline):
        stored.wait(run.id)
    columns = {
        "metrics": "name, context, subject, rank, step, time, seq, reinterpretAsUInt64(value) AS bits",
        "params": "key, context, kind, value, seq",
        "events": "name, source, subject, step, metadata, seq",
        "rules": "name, metric, operator, threshold, severity, ordinal",
        "writers": "kind, rank, state, exit_reason, rows_logged, rows_shipped, points_logged, points_shipped, points_dropped, next_seq",
        "runs": "project, tags, state, points",
    }
    for view, names in columns.items():
        both = [
            stored.answers.rows(f"SELECT {names} FROM {view} WHERE toString(run_id) = {{run:String}} ORDER BY ALL", run=run.id) for run in (online, offline)
        ]
        assert both[0] == both[1] != [], view
    by_name = stored.account("tests/offline", capsys, 0)
    assert by_name["run_id"] == offline.id
    [writer] = by_name["writers"]
    assert (writer["points_logged"], writer["points_shipped"], writer["points_stored"], writer["points_dropped"]) == (1001, 1001, 1001, {"bad_value": 1})
    assert writer["rows_logged"] == writer["rows_shipped"] == 506


@pytest.mark.stack
@pytest.mark.parametrize("crashed_first", [True, False])
def test_a_synced_restart_counts_as_the_later_attempt(stored: Stored, crashed_first: bool) -> None:
    """An attempt that crashed offline and the one that finished after it, synced long afterwards in whichever order: the run reads as finished."""
    base = offline_folder(stored.place.settings)
    run_id = str(uuid.uuid4())
    now_ms = time.time_ns() // 1_000_000
    journals: list[Path] = []
    for started_ms, end in ((now_ms - 7_200_000, ""), (now_ms - 3_600_000, "finished")):
        one = replace(identity(run_id=run_id), started_ms=started_ms)
        writer = JournalWriter(base, lambda one=one: one, segment_bytes=1 << 16, bytes_max=1 << 20, report=Reports())
        writer.log({"a": 1.0}, step=1)
        if end:
            writer.close(end, "")
        else:
            writer.folder.close()
        for path in writer.folder.path.iterdir():
            os.utime(path, (started_ms / 1000 + 600, started_ms / 1000 + 600))
        journals.append(writer.folder.path)
    for folder in journals if crashed_first else reversed(journals):
        subprocess.run([sys.executable, "-m", "runstream.cli", "sync", str(folder)], check=True, timeout=60, stdout=subprocess.DEVNULL)
    stored.wait(run_id, writers=2)
    [run] = stored.answers.rows("SELECT state, ended FROM runs WHERE run_id = {run:UUID}", run=run_id)
    assert run["state"] == "finished"
    assert abs(run["ended"].timestamp() * 1000 - (now_ms - 3_000_000)) < 2000


@pytest.mark.stack
def test_the_account_tells_what_is_missing(stored: Stored, capsys: pytest.CaptureFixture[str]) -> None:
    """It balances while everything is stored; with a row deleted from ClickHouse it does not, says where and how many, and exits with 1. A prefix names a run while it is unique."""
    first = work("online")
    stored.wait(first.id)
    assert cli.main(["account", first.id[:13]]) == 0
    assert "the account balances" in capsys.readouterr().out
    stored.answers.command(f"DELETE FROM metric_points WHERE run_id = '{first.id}' AND name = 'loss' AND step = 7 SETTINGS mutations_sync = 2")
    told = stored.account(first.id, capsys, 1)
    assert not told["balanced"]
    [writer] = told["writers"]
    assert (writer["points_shipped"], writer["points_stored"], writer["troubles"]) == (1001, 1000, ["1 points shipped and not stored"])
    assert cli.main(["account", first.id]) == 1
    out = capsys.readouterr().out
    assert "rank 0 (writer" in out
    assert "1 points shipped and not stored" in out
    assert "the account does not balance" in out
    assert cli.main(["account", "tests/nothing"]) == 2
    assert "no run is 'tests/nothing'" in capsys.readouterr().err


def test_without_clickhouse_a_sentence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Unset and without a stack the sentence names the variable and `runstream up`; set to nobody, it names the address. Exit code 2 in both cases."""
    settle("127.0.0.1:9", tmp_path, monkeypatch, clickhouse_url="http://user:secret@127.0.0.1:9")
    assert cli.main(["account", "12345678"]) == 2
    err = capsys.readouterr().err
    assert "127.0.0.1:9" in err
    assert "secret" not in err
    assert err.count("\n") == 1
    monkeypatch.delenv("RUNSTREAM_CLICKHOUSE_URL")
    if not is_serving("http://127.0.0.1:8123"):  # Somebody may have a ClickHouse of their own at the default address.
        assert cli.main(["account", "12345678"]) == 2
        assert "RUNSTREAM_CLICKHOUSE_URL is unset and no stack runs here" in capsys.readouterr().err
    assert cli.main(["account", "123"]) == 2
    assert "at least its first 4 characters" in capsys.readouterr().err


WHOLE = WriterAccount(1, "rank", 0, "finished", 10, 10, 10, 20, 20, 20, {"bad_value": 3})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, []),
        ({"rows_stored": 8, "rules_max": 2}, []),
        ({"rows_stored": 7, "rules_max": 2}, ["3 rows shipped and not stored"]),
        ({"points_stored": 19}, ["1 points shipped and not stored"]),
        ({"points_stored": 21}, ["1 more points stored than shipped"]),
        ({"points_shipped": 15, "points_stored": 15}, ["5 points logged and not shipped"]),
        ({"points_shipped": 15, "points_stored": 15, "points_dropped": {"set_aside": 5}}, ["5 points were refused by Kafka and set aside on the node"]),
        ({"rows_shipped": 9, "rows_stored": 9}, ["1 rows logged and not shipped"]),
        ({"rows_stored": 11}, ["1 more rows stored than shipped"]),
        ({"state": "running"}, []),
        ({"state": "running", "points_stored": 30}, ["it is still running, and what it says is a heartbeat old: 10 more points are stored by now"]),
        (
            {"state": "running", "points_shipped": 15, "points_stored": 10},
            [
                "5 points logged and not shipped",
                "5 points shipped and not stored",
                "it is still running, and what it says is a heartbeat old",
            ],
        ),
        ({"state": ""}, ["20 points are stored of a writer that never told its state"]),
    ],
)
def test_an_account_balances_or_says_where_it_does_not(change: dict[str, Any], words: list[str]) -> None:
    """Every way in which counts can differ has its words; what was dropped and never accepted is no difference."""
    assert replace(WHOLE, **change).troubles == words
    assert replace(WHOLE, **change).to_json()["balanced"] == (not words)


def test_rows_that_were_given_up_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside points by reason the account names the rows and records that were dropped whole, which may have had no points at all."""
    account._print("run", [replace(WHOLE, rows_dropped=3, kind="hardware", rank=2)], [], balanced=True)
    out = capsys.readouterr().out
    assert "hardware of rank 2 (writer 1) dropped 3 points: bad_value\n" in out
    assert "hardware of rank 2 (writer 1) gave up 3 rows whole, whose seqs are missing\n" in out
