"""The real engine: tables and views, and that a point stored twice reads as once."""

from __future__ import annotations

import random
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from runstream_local.ports import HOST, choose_port
from runstream_sinks import migrations
from runstream_sinks.account import account, read_account
from runstream_sinks.bounds import STARTED_S_MAX, STARTED_S_MIN
from runstream_sinks.clickhouse import Server
from runstream_sinks.errors import MigrationMismatch, ServerBusy, ServerRefused
from runstream_sinks.pipeline import rows_of
from runstream_sinks.tables import TABLES, Name
from tests.sinks import examples

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_schemas import records as rec

pytestmark = pytest.mark.stack

STARTED = datetime.fromtimestamp(examples.STARTED_MS / 1000, UTC)


def insert(server: Server, name: Name, *records: rec.Record) -> None:
    """Inserts records as one chunk."""
    rows = rows_of(name)
    for one in records:
        rows.add(one)
    server.insert(name, rows.table())


def one(server: Server, sql: str, **parameters: object) -> tuple[Any, ...]:
    """The one row of a query."""
    [row] = server.query(sql, parameters)
    return row


def new_run() -> str:
    """A run of its own."""
    return str(uuid.uuid4())


def stored_points(server: Server, run_id: str, view: str = "metrics") -> list[examples.Point]:
    """The points of a run as the view shows them."""
    return [
        (row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7])
        for row in server.query(
            f"SELECT name, context, subject, rank, step, seq, toUnixTimestamp64Milli(time), value FROM {view} WHERE run_id = {{run_id:UUID}}",
            {"run_id": run_id},
        )
    ]


def test_tables_have_the_columns_that_are_written(server: Server) -> None:
    """The SQL and the mapping name the same columns in the same order; computed ones aside."""
    for name, table in TABLES.items():
        found = server.query(
            "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String} AND default_kind = '' ORDER BY position",
            {"table": name},
        )
        assert [column for (column,) in found] == list(table.columns), name


def test_every_table_view_and_column_says_what_it_is(server: Server) -> None:
    """People find their way with DESCRIBE and in the trees of their tools: names alone would not do."""
    silent = "SELECT name FROM system.tables WHERE database = currentDatabase() AND comment = ''"
    assert server.query(silent) == []
    silent = "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND comment = ''"
    assert server.query(silent) == []
    # A view says of a column what its table says.
    differs = """
        SELECT one.table, one.name FROM system.columns AS one INNER JOIN system.columns AS other ON one.name = other.name
        WHERE one.database = currentDatabase() AND other.database = currentDatabase()
        AND (one.table, other.table) IN (('metrics', 'metric_points'), ('events', 'events_log')) AND (one.comment != other.comment OR one.type != other.type)
    """
    assert server.query(differs) == []


@pytest.mark.parametrize(
    ("view", "tables"),
    [
        ("metrics", {"metric_points"}),
        ("hardware", {"hardware_points"}),
        ("writers", {"writer_states"}),
        ("runs", {"run_changes", "writer_states"}),
        ("account", {"writer_states", "metric_points", "hardware_points"}),
        ("params", {"params_log"}),
        ("params_history", {"params_log"}),
        ("param_conflicts", {"params_log"}),
        ("metric_values", {"values_log"}),
        ("run_summary", {"values_log"}),
        ("metric_definitions", {"values_log"}),
        ("media", {"media_log"}),
        ("media_points", {"media_log"}),
        ("artifacts", {"artifacts_log"}),
        ("models", {"artifacts_log"}),
        ("datasets", {"artifacts_log"}),
        ("events", {"events_log"}),
        ("alerts", {"alerts_log"}),
        ("deliveries", {"deliveries_log"}),
        ("summaries", {"summary_series"}),
        ("summaries_best", {"summary_series", "values_log"}),
    ],
)
def test_a_question_about_one_run_reads_that_run_alone(server: Server, view: str, tables: set[str]) -> None:
    """The condition reaches the primary key of every table under the view: no answer about one run gets slower as others are recorded."""
    run_id = new_run()
    records: dict[Name, rec.Record] = {
        "metric_points": examples.frame(examples.group(["loss"], 0, 1), run_id=run_id, writer=1),
        "hardware_points": examples.frame(examples.group(["gpu"], 0, 1), run_id=run_id, writer=1),
        "writer_states": examples.writer(run_id),
        "run_changes": examples.run(run_id),
        "params_log": examples.param(run_id, "lr", "float", "1.0"),
        "events_log": examples.event(run_id),
        "values_log": examples.value(run_id),
        "media_log": examples.media(run_id),
        "artifacts_log": examples.artifact(run_id),
        "alerts_log": examples.alert(run_id),
        "deliveries_log": examples.delivery(run_id),
        "summary_series": examples.summary(run_id),
    }
    for table, record in records.items():
        insert(server, table, record)
    plan = "\n".join(line for (line,) in server.query(f"EXPLAIN indexes = 1 SELECT * FROM {view} WHERE run_id = {{run_id:UUID}}", {"run_id": new_run()}))
    read = {part.partition(")")[0].partition(".")[2]: part for part in plan.split("ReadFromMergeTree (")[1:]}
    assert set(read) - {"retention_log"} == tables
    for table in tables:
        assert "(run_id in [" in read[table], plan


def test_the_best_of_a_series_is_what_the_goal_says(server: Server) -> None:
    """The least or the greatest with its step, by the metric's own name before a pattern, by a longer pattern before a shorter one; not shown without a goal, nor for other runs."""
    run_id, other = new_run(), new_run()
    names = ("loss", "val/acc", "val/loss", "val_acc", "val/x")
    column: dict[str, object] = {"contexts": ("",) * 5, "subjects": ("",) * 5, "names": names}
    for field, value in (
        ("counts", 3),
        ("non_finites", 0),
        ("sums", 6.0),
        ("means", 2.0),
        ("m2s", 2.0),
        ("mins", 1.0),
        ("min_steps", 10),
        ("maxs", 3.0),
        ("max_steps", 30),
    ):
        column[field] = (value,) * 5
    for field in ("firsts", "first_steps", "lasts", "last_steps", "first_times", "last_times"):
        column[field] = (2,) * 5
    for run in (run_id, other):
        insert(server, "summary_series", examples.summary(run, **column))
    for seq, (patterns, goal) in enumerate(
        (('["val/*"]', "max"), ('["loss"]', "max"), ('["*"]', "none"), ('["val/l*"]', "max"), ('["val/loss"]', "min"), ('["loss"]', "min"))
    ):
        insert(server, "values_log", examples.value(run_id, seq=seq, time_ms=examples.STARTED_MS + seq, role="goal", name=goal, kind="list", value=patterns))
    found = server.query("SELECT toString(run_id), name, goal, best, best_step FROM summaries_best ORDER BY name")
    assert found == [
        (run_id, "loss", "min", 1.0, 10),
        (run_id, "val/acc", "max", 3.0, 30),
        (run_id, "val/loss", "min", 1.0, 10),
        (run_id, "val/x", "max", 3.0, 30),
    ]


def test_an_old_database_is_brought_up_to_date_once(server: Server) -> None:
    """Migrating again does nothing, also after one was cut off before it was noted down."""
    assert migrations.migrate(server) == []
    server.command("TRUNCATE TABLE schema_migrations")
    assert [one.number for one in migrations.migrate(server)] == [one.number for one in migrations.bundled()]
    assert migrations.migrate(server) == []


def test_a_changed_migration_is_refused(server: Server) -> None:
    """The ledger remembers what a file said when it was applied."""
    server.command("ALTER TABLE schema_migrations UPDATE checksum = 'another' WHERE number = 2 SETTINGS mutations_sync = 1")
    with pytest.raises(MigrationMismatch, match="migration 2"):
        migrations.migrate(server)


def test_each_point_reads_once_however_it_was_shipped(server: Server) -> None:
    """Rows of two writers, shipped twice in other frames, chunks and orders, are the same points in the view."""
    run_id = new_run()
    keys = ["loss", "accuracy", "grad/norm"]
    groups = [examples.group(keys, seq, 1, first_value=seq) for seq in range(60)]
    frames = [examples.frame(*groups[:30], run_id=run_id, writer=1), examples.frame(*groups[30:], run_id=run_id, writer=2, rank=1)]
    expected = sorted(examples.points_of(frames))
    insert(server, "metric_points", *frames)
    insert(server, "metric_points", frames[0], frames[0])
    # The same rows, three to a group, in any order.
    shuffled = list(range(30))
    random.Random(5).shuffle(shuffled)
    whole = examples.group(keys, 0, 30)
    for start in range(0, 30, 3):
        rows = np.array(shuffled[start : start + 3])
        part = whole._replace(
            seqs=whole.seqs[rows],
            steps=whole.steps[rows],
            times=whole.times[rows],
            values=np.vstack([groups[row].values for row in shuffled[start : start + 3]]),
        )
        insert(server, "metric_points", examples.frame(part, run_id=run_id, writer=1))
    assert sorted(stored_points(server, run_id)) == expected
    assert one(server, "SELECT count() FROM metric_points")[0] > len(expected)
    server.command("OPTIMIZE TABLE metric_points FINAL")
    assert one(server, "SELECT count() FROM metric_points") == (len(expected),)
    assert sorted(stored_points(server, run_id)) == expected


def test_repeats_collapse_within_one_chunk(server: Server) -> None:
    """A replay may put a row twice into one insert."""
    run_id = new_run()
    frame = examples.frame(examples.group(["loss"], 0, 5), run_id=run_id, writer=1)
    insert(server, "metric_points", frame, frame, frame)
    assert sorted(stored_points(server, run_id)) == sorted(examples.points_of([frame]))


def test_values_and_times_arrive_exactly(server: Server) -> None:
    """Non-finite values, extreme steps, the writer's 63 bits and milliseconds come back as they were."""
    run_id = new_run()
    group = examples.group(["x"], 0, 4)
    group.values[:, 0] = (np.nan, np.inf, -np.inf, 5e-324)
    group.steps[:] = (-(1 << 63), (1 << 63) - 1, 0, -1)
    insert(server, "hardware_points", examples.frame(group, run_id=run_id, writer=(1 << 63) - 1, rank=7))
    rows = server.query("SELECT run_id, writer, rank, step, time, attempt, started, isNaN(value), value FROM hardware ORDER BY seq")
    assert [row[3] for row in rows] == group.steps.tolist()
    assert {(str(row[0]), row[1], row[2], row[5]) for row in rows} == {(run_id, (1 << 63) - 1, 7, "attempt-1")}
    assert [int(row[4].timestamp() * 1000 + 0.5) for row in rows] == group.times.tolist()
    assert {row[6].replace(tzinfo=UTC) for row in rows} == {STARTED.replace(microsecond=0)}
    assert [row[7] for row in rows] == [1, 0, 0, 0]
    assert [row[8] for row in rows[1:]] == [np.inf, -np.inf, 5e-324]


def test_a_chunk_of_hostile_starts_is_stored(server: Server) -> None:
    """More months than ClickHouse takes in one insert unless told otherwise."""
    run_id = new_run()
    step = (STARTED_S_MAX - STARTED_S_MIN) * 1000 // 300
    frames = [
        examples.frame(examples.group(["loss"], number, 1), run_id=run_id, writer=1, started=STARTED_S_MIN * 1000 + (number - 5) * step)
        for number in range(310)
    ]
    insert(server, "metric_points", *frames)
    assert one(server, "SELECT count(), uniq(toYYYYMM(started)) > 250 FROM metrics") == (310, 1)


@pytest.mark.parametrize("clock_ms", [-(1 << 63), 0, (1 << 63) - 1])
def test_hostile_clocks_are_stored(server: Server, clock_ms: int) -> None:
    """A broken clock spoils neither its chunk nor the choice of the row that is kept."""
    run_id = new_run()
    insert(server, "events_log", examples.event(run_id, time_ms=clock_ms))
    insert(server, "writer_states", examples.writer(run_id, started_ms=clock_ms, heartbeat_ms=clock_ms))
    insert(server, "alerts_log", examples.alert(run_id, time_ms=clock_ms, decided_ms=clock_ms))
    insert(server, "alerts_log", examples.alert(run_id, time_ms=clock_ms, decided_ms=clock_ms))
    for view in ("events", "writers", "alerts", "runs"):
        assert one(server, f"SELECT count() FROM {view}") == (1,)
    [(text,)] = server.query("SELECT toString(time) FROM events")
    assert text.startswith(("1900-01-01", "1970-01-01", "2299-12-31"))


def test_events_and_dead_letters_read_once(server: Server) -> None:
    """Everything that is written is collapsed by what the client named it."""
    run_id = new_run()
    event = examples.event(run_id)
    insert(server, "events_log", event, examples.event("", step=None))
    insert(server, "events_log", event)
    assert one(server, "SELECT name, source, step, metadata FROM events WHERE run_id = {run_id:UUID}", run_id=run_id) == (
        "checkpoint.finished",
        "trainer",
        12,
        {"bytes": "1024"},
    )
    assert one(server, "SELECT count() FROM events") == (2,)
    insert(server, "dead_letters_log", examples.dead_letter(key=b"\xfe"), examples.dead_letter(offset=18))
    insert(server, "dead_letters_log", examples.dead_letter(set_aside_ms=examples.STARTED_MS + 99_999, key=b"\xfe"))
    assert server.query("SELECT offset, hex(value), hex(key), toUnixTimestamp64Milli(set_aside) FROM dead_letters ORDER BY offset") == [
        (17, b"\xff\x00poison".hex().upper(), "FE", examples.STARTED_MS + 5),
        (18, b"\xff\x00poison".hex().upper(), None, examples.STARTED_MS + 5),
    ]


def test_params_show_the_latest_value_and_keep_the_history(server: Server) -> None:
    """The latest by time holds, for each key, rank and context."""
    run_id = new_run()
    insert(
        server,
        "params_log",
        examples.param(run_id, "lr", "float", "0.1", seq=1),
        examples.param(run_id, "lr", "float", "0.01", seq=9, time_ms=examples.STARTED_MS + 10),
        examples.param(run_id, "lr", "float", "0.5", seq=2, rank=1),
        examples.param(run_id, "name", "string", '"adam"', seq=3),
        examples.param(run_id, "big", "int", str(1 << 62), seq=4),
        examples.param(run_id, "on", "bool", "false", seq=5),
    )
    rows = server.query("SELECT key, rank, str, i64, f64, bool FROM params ORDER BY key, rank")
    assert rows == [
        ("big", 0, None, 1 << 62, float(1 << 62), None),
        ("lr", 0, None, None, 0.01, None),
        ("lr", 1, None, None, 0.5, None),
        ("name", 0, "adam", None, None, None),
        ("on", 0, None, None, None, False),
    ]
    assert one(server, "SELECT count() FROM params_history WHERE key = 'lr'") == (3,)


def test_rules_show_their_newest_version(server: Server) -> None:
    """A withdrawn rule says so."""
    insert(server, "rules_log", examples.rule("a"), examples.rule("a", version=2, threshold=7.0), examples.rule("b", rank=3))
    insert(server, "rules_log", examples.rule("b", version=2, deleted=True))
    rows = server.query("SELECT rule_id, version, threshold, rank, deleted, channels FROM rules ORDER BY rule_id")
    assert rows == [("a", 2, 7.0, None, False, ["ops"]), ("b", 2, 5.0, None, True, ["ops"])]


def test_an_alert_is_one_row_with_both_transitions(server: Server) -> None:
    """Firing and resolved meet in one row; a replay that decides again later changes no latency."""
    run_id = new_run()
    at = examples.STARTED_MS
    resolved = examples.alert(run_id, version=1, state="resolved", step=40, time_ms=at + 5000, value=1.5, decided_ms=at + 5400)
    insert(server, "alerts_log", resolved)
    insert(server, "alerts_log", examples.alert(run_id), examples.alert(run_id, alert_id="alert-2", severity="info"))
    insert(server, "alerts_log", examples.alert(run_id, decided_ms=at + 900_000))
    rows = server.query(
        "SELECT alert_id, state, severity, rule, metric, rank, step, value, toUnixTimestamp64Milli(assumeNotNull(fired)), fired_latency_ms,"
        " resolved_step, resolved_value, resolved_latency_ms, open_ms FROM alerts WHERE run_id = {run_id:UUID} ORDER BY alert_id",
        {"run_id": run_id},
    )
    assert rows == [
        ("alert-1", "resolved", "critical", "diverged", "loss", 1, 10, 9.5, at, 250, 40, 1.5, 400, 5000),
        ("alert-2", "firing", "info", "diverged", "loss", 1, 10, 9.5, at, 250, None, None, None, None),
    ]


def test_a_delivery_is_one_row_and_holds_over_a_failure(server: Server) -> None:
    """Of several outcomes on one channel a delivery holds, else the first; each channel has a row of its own."""
    run_id = new_run()
    at = examples.STARTED_MS
    failed: dict[str, object] = {"outcome": "failed", "reason": "it answered 503"}
    insert(server, "deliveries_log", examples.delivery(run_id, **failed), examples.delivery(run_id, channel="pager", **failed))
    insert(server, "deliveries_log", examples.delivery(run_id, done_ms=at + 5000), examples.delivery(run_id, channel="pager", done_ms=at + 7000, **failed))
    insert(server, "deliveries_log", examples.delivery(run_id, done_ms=at + 9000))
    rows = server.query("SELECT channel, outcome, reason, latency_ms FROM deliveries WHERE run_id = {run_id:UUID} ORDER BY channel", {"run_id": run_id})
    assert rows == [("ops", "delivered", "", 5000), ("pager", "failed", "it answered 503", 900)]


def test_a_summary_is_replaced_by_what_has_seen_more(server: Server) -> None:
    """The greatest next_seq holds, whatever came last."""
    run_id = new_run()
    insert(server, "summary_series", examples.summary(run_id, next_seq=200, counts=(7, 2)))
    insert(server, "summary_series", examples.summary(run_id))
    rows = server.query("SELECT name, context, count, non_finite, mean, stddev, min, max, last_step FROM summaries ORDER BY name DESC")
    assert rows[0] == ("loss", "training", 7, 1, 2.5, pytest.approx((5 / 6) ** 0.5), 1.0, 4.0, 4)
    assert rows[1][:4] == ("accuracy", "validation", 2, 1)


def writers_of(run_id: str, *states: Sequence[Any]) -> list[rec.Writer]:
    """Rank writers: rank, state, seconds of start and of the last sign of life; and `forked`, where it is a helper."""
    return [
        examples.writer(
            run_id,
            rank=rank,
            state=state,
            started_ms=examples.STARTED_MS + 1000 * began,
            heartbeat_ms=examples.STARTED_MS + 1000 * seen,
            points_logged=10,
            environment=dict.fromkeys(what, "true"),
        )
        for rank, state, began, seen, *what in states
    ]


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([(0, "finished", 0, 10), (1, "finished", 0, 12)], "finished"),
        ([(0, "finished", 0, 10), (1, "running", 0, 12)], "running"),
        ([(0, "finished", 0, 10), (1, "crashed", 0, 12)], "crashed"),
        ([(0, "killed", 0, 10), (1, "failed", 0, 12)], "failed"),
        # A second attempt took over: what became of the first does not count any more.
        ([(0, "crashed", 0, 10), (0, "finished", 20, 30)], "finished"),
        ([(0, "running", 0, 10), (0, "preempted", 20, 30)], "preempted"),
        # A forked child lives beside its parent and does not replace it.
        ([(0, "failed", 0, 10), (0, "finished", 5, 8)], "failed"),
        # Nor does its death decide; that of a process of its own does, and so does a failure that a child tells.
        ([(0, "finished", 0, 10), (0, "crashed", 5, 12, "forked")], "finished"),
        ([(0, "finished", 0, 10), (0, "killed", 15, 22, "forked")], "finished"),
        ([(0, "running", 0, 10), (0, "crashed", 5, 12, "forked")], "running"),
        ([(0, "finished", 0, 10), (0, "failed", 5, 12, "forked")], "failed"),
        ([(0, "finished", 0, 10), (0, "crashed", 5, 12)], "crashed"),
    ],
)
def test_the_state_of_a_run_comes_from_its_ranks(server: Server, states: list[Sequence[Any]], expected: str) -> None:
    """Running while any rank runs, else what went wrong, else finished; hardware writers do not count."""
    run_id = new_run()
    insert(server, "writer_states", *writers_of(run_id, *states), examples.writer(run_id, kind="hardware", state="running"))
    insert(server, "run_changes", examples.run(run_id, name="n"))
    state, writers, points, ended = one(
        server, "SELECT state, writers, points, toUnixTimestamp64Milli(ended) FROM runs WHERE run_id = {run_id:UUID}", run_id=run_id
    )
    assert (state, writers, points) == (expected, len(states), 10 * len(states))
    assert ended == (None if expected == "running" else examples.STARTED_MS + 1000 * max(seen for _, _, _, seen, *_ in states))


def test_a_run_holds_the_latest_of_each_field(server: Server) -> None:
    """Changes may come late and repeated; each field, the tags and each key of the metadata hold their latest value."""
    run_id = new_run()
    at = examples.STARTED_MS
    changes = [
        examples.run(run_id, seq=0, time_ms=at, name="first", owner="ada", tags=("a",), metadata={"k": "1", "j": "true"}),
        examples.run(run_id, seq=1, time_ms=at + 1, name="second", metadata={"k": "2"}),
        examples.run(run_id, seq=2, time_ms=at + 2, notes="fine", tags=()),
    ]
    insert(server, "run_changes", changes[2])
    insert(server, "run_changes", changes[1], changes[0], changes[1])
    sql = "SELECT project, name, owner, notes, framework, tags, metadata, state, writers FROM runs WHERE run_id = {run_id:UUID}"
    assert one(server, sql, run_id=run_id) == ("digits", "second", "ada", "fine", "", [], {"j": "true", "k": "2"}, "", 0)


def test_a_run_that_only_its_writers_speak_of_is_shown(server: Server) -> None:
    """The topics are read apart, so either may come first."""
    run_id = new_run()
    insert(server, "writer_states", *writers_of(run_id, (0, "running", 0, 5)))
    row = one(server, "SELECT project, name, state, toUnixTimestamp64Milli(assumeNotNull(started)) FROM runs WHERE run_id = {run_id:UUID}", run_id=run_id)
    assert row == ("digits", "", "running", examples.STARTED_MS)


def test_the_account_balances_to_the_last_point(server: Server, clickhouse_url: str, database: str) -> None:
    """Logged, shipped and stored agree, repeats do not count, and one missing point shows."""
    run_id = new_run()
    frame = examples.frame(examples.group(["loss", "x"], 0, 5), run_id=run_id, writer=11)
    hardware = examples.frame(examples.group(["gpu"], 0, 3), run_id=run_id, writer=12)
    insert(server, "metric_points", frame, frame)
    insert(server, "hardware_points", hardware)
    states = [
        examples.writer(run_id, writer=11, points_logged=10, points_shipped=10, points_dropped={"journal_full": 2}),
        examples.writer(run_id, writer=12, kind="hardware", points_logged=3, points_shipped=3),
    ]
    insert(server, "writer_states", *states)
    found = account(clickhouse_url, database, run_id)
    assert found.balanced
    assert (found.points_logged, found.points_shipped, found.points_stored, found.repeats) == (13, 13, 13, 10)
    assert {one.writer: (one.kind, one.points_dropped) for one in found.writers} == {11: ("rank", {"journal_full": 2}), 12: ("hardware", {})}
    rows = server.query(
        "SELECT writer, points_stored, points_dropped_total, balanced FROM account WHERE run_id = {run_id:UUID} ORDER BY writer", {"run_id": run_id}
    )
    assert rows == [(11, 10, 2, True), (12, 3, 0, True)]
    insert(server, "writer_states", examples.writer(run_id, writer=11, version=2, points_logged=11, points_shipped=11))
    assert not read_account(server, run_id).balanced
    assert one(server, "SELECT balanced FROM account WHERE writer = 11") == (False,)
    assert not account(clickhouse_url, database, new_run()).balanced


def test_points_of_a_silent_writer_do_not_balance(server: Server) -> None:
    """Stored points that no account speaks of are shown as such."""
    run_id = new_run()
    insert(server, "metric_points", examples.frame(examples.group(["loss"], 0, 5), run_id=run_id, writer=11))
    found = read_account(server, run_id)
    assert not found.balanced
    assert [(one.writer, one.points_stored) for one in found.writers] == [(11, 5)]


def test_errors_are_told_apart(server: Server) -> None:
    """A missing table is refused for good; a server that is away is worth another try."""
    rows = rows_of("events_log").table()
    with pytest.raises(ServerRefused) as refused:
        server.insert("no_such_table", rows)
    assert refused.value.code == 60
    with pytest.raises(ServerBusy):
        Server(f"http://{HOST}:{choose_port()}", "x").insert("events_log", rows)
