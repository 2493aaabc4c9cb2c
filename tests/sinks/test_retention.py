"""Retention: from words to statements, rows that it takes, rows that it leaves, and an account that knows."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import pytest

from runstream_sinks import retention, upkeep
from runstream_sinks.account import read_account
from runstream_sinks.layout import Cluster
from runstream_sinks.retention import Keep
from tests.sinks import examples
from tests.sinks.test_tables import insert, one
from tests.sinks.workers import wait_for

if TYPE_CHECKING:
    from runstream_sinks.clickhouse import Server

NOW_MS = time.time_ns() // 1_000_000


@pytest.mark.parametrize(
    ("text", "keep"),
    [("metrics=90d", Keep("metrics", 90)), ("hardware=12w", Keep("hardware", 84)), ("params=2y", Keep("params", 730)), ("events=off", Keep("events", 0))],
)
def test_a_retention_is_read(text: str, keep: Keep) -> None:
    """Days, weeks and years, or off."""
    assert retention.parse(text) == keep


@pytest.mark.parametrize(
    "text", ["metrics", "metrics=", "metrics=0d", "metrics=90", "metrics=-1d", "metrics=1h", "metrics=101y", "metric_points=9d", "runs=9d", "=9d"]
)
def test_what_is_none_is_refused(text: str) -> None:
    """The sentence says what was expected."""
    with pytest.raises(ValueError, match="expected"):
        retention.parse(text)


def test_the_account_errs_on_the_side_of_retired() -> None:
    """Cut off between two statements, rows may be thought retired that are there, never the other way round."""

    def order(wanted: int, now: int) -> list[str]:
        [change] = retention.changes([Keep("metrics", wanted)], {"metrics": now}, None)
        return [statement.split()[0] for statement in change.statements]

    assert order(30, 0) == order(30, 60) == ["INSERT", "ALTER"]
    assert order(60, 30) == order(0, 30) == ["ALTER", "INSERT"]
    assert retention.changes([Keep("metrics", 30)], {"metrics": 30}, None) == []
    [change] = retention.changes([Keep("metrics", 30)], {}, Cluster("main", "rs"))
    assert change.statements[1] == "ALTER TABLE metric_points_local ON CLUSTER `main` MODIFY TTL started + INTERVAL 30 DAY"


def keep(url: str, database: str, *keeps: Keep) -> None:
    """What `runstream migrate --retain` does."""
    upkeep.apply(url, database, upkeep.todo(url, database, upkeep.Wishes(keeps=keeps)))


@pytest.mark.stack
def test_old_points_are_retired_and_the_account_still_balances(server: Server, clickhouse_url: str, database: str) -> None:
    """Points go with the start of their writer, whatever their own times say; what was retired and what was lost are told apart; switching it off brings nothing into disorder."""
    run_id = str(uuid.uuid4())
    old_ms = NOW_MS - 40 * 86_400_000
    old, young = 1, 2
    frames = {
        writer: examples.frame(examples.group(["loss", "x"], 0, 5), run_id=run_id, writer=writer, rank=writer, started=started)
        for writer, started in ((old, old_ms), (young, NOW_MS))
    }
    readings = examples.frame(examples.group(["gpu"], 0, 3), run_id=run_id, writer=3, started=old_ms)
    insert(server, "metric_points", *frames.values())
    insert(server, "hardware_points", readings)
    insert(server, "writer_states", examples.writer(run_id, writer=old, started_ms=old_ms, points_logged=10, points_shipped=10))
    insert(server, "writer_states", examples.writer(run_id, writer=young, started_ms=NOW_MS, points_logged=10, points_shipped=10))
    insert(server, "writer_states", examples.writer(run_id, writer=3, kind="hardware", started_ms=old_ms, points_logged=3, points_shipped=3))
    accounts = "SELECT writer, points_stored, points_retired, balanced FROM account ORDER BY writer"
    whole = [(1, 10, 0, True), (2, 10, 0, True), (3, 3, 0, True)]
    assert server.query(accounts) == whole
    keep(clickhouse_url, database, Keep("metrics", 30))
    assert dict(upkeep.kept(server)) == {"metrics": 30}

    def retired() -> bool:
        server.command("OPTIMIZE TABLE metric_points FINAL")
        return server.query("SELECT DISTINCT writer FROM metric_points") == [(young,)]

    wait_for(retired, "the old points to be retired")
    after = [(1, 0, 10, True), (2, 10, 0, True), (3, 3, 0, True)]
    assert server.query(accounts) == after
    assert read_account(server, run_id).balanced
    server.command("ALTER TABLE metric_points DELETE WHERE writer = 2 AND seq = 3 SETTINGS mutations_sync = 1")
    assert server.query(accounts) == [(1, 0, 10, True), (2, 8, 0, False), (3, 3, 0, True)]
    assert not read_account(server, run_id).balanced
    insert(server, "metric_points", frames[young])
    keep(clickhouse_url, database, Keep("metrics", 0))
    assert server.query(accounts) == after
    insert(server, "metric_points", frames[old])
    server.command("OPTIMIZE TABLE metric_points FINAL")
    assert server.query(accounts) == whole


@pytest.mark.stack
def test_other_rows_are_retired_by_receipt(server: Server, clickhouse_url: str, database: str) -> None:
    """An old time of the user's takes nothing away; what was stored longer ago than asked for goes. A repeat counts from when it came again."""
    insert(server, "events_log", examples.event("", seq=1, time_ms=0))
    insert(server, "events_log", examples.event("", seq=2))
    server.command(
        "INSERT INTO events_log (event_id, run_id, writer, seq, time, name, received) SELECT event_id, run_id, writer, seq + 2, time, name, now() - INTERVAL 3 DAY"
        " FROM events_log SETTINGS insert_allow_materialized_columns = 1"
    )
    assert one(server, "SELECT count() FROM events") == (4,)
    keep(clickhouse_url, database, Keep("events", 2))

    def retired() -> bool:
        server.command("OPTIMIZE TABLE events_log FINAL")
        return server.query("SELECT seq FROM events ORDER BY seq") == [(1,), (2,)]

    wait_for(retired, "the events to be retired")


@pytest.mark.stack
def test_every_view_with_a_retention_takes_one_and_gives_it_up(server: Server, clickhouse_url: str, database: str) -> None:
    """The engine takes each table's TTL, changes it, and removes it; a longer past retention stays in the horizon."""
    names = list(retention.RETAINED)
    keep(clickhouse_url, database, *(Keep(name, 30) for name in names))
    keep(clickhouse_url, database, *(Keep(name, 60) for name in names))
    tables = "SELECT count() FROM system.tables WHERE database = currentDatabase() AND engine_full LIKE '% TTL %'"
    assert one(server, tables) == (len(names),)
    assert server.query("SELECT days, dateDiff('day', horizon, now64(3)), count() FROM retention GROUP BY ALL") == [(60, 30, len(names))]
    keep(clickhouse_url, database, *(Keep(name, 0) for name in names))
    assert one(server, tables) == (0,)
    assert dict(upkeep.kept(server)) == {}
