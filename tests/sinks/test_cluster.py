"""Tables on a cluster: every statement is one that the engine accepts, and rows that go through distributed tables read as on one node."""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING

import pytest

from runstream_sinks import analysts, checksums, migrations, retention
from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.errors import MigrationMismatch
from runstream_sinks.layout import EVERYWHERE, LOCAL, Cluster, for_cluster
from runstream_sinks.rollup import roll_up
from runstream_sinks.settle import look
from runstream_sinks.tables import TABLE_OF, TABLES
from runstream_sinks.verify import Comparison
from tests.sinks import clusters, examples
from tests.sinks.engine import Engine
from tests.sinks.test_tables import insert, one

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_schemas import topics

pytestmark = pytest.mark.stack

MAIN = Cluster("main", "rs")


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An engine that knows clusters and a keeper."""
    folder = tmp_path_factory.mktemp("cluster")
    engine = Engine(folder, clusters.write_config(folder))
    engine.start()
    yield engine.url
    engine.kill()


def rendered() -> list[str]:
    """Every statement that makes or changes a clustered database."""
    changes = migrations.changes(migrations.bundled(), MAIN)
    changes += retention.changes([retention.Keep(name, 30) for name in retention.RETAINED], {}, MAIN)
    changes += retention.changes([retention.Keep(name, 0) for name in retention.RETAINED], dict.fromkeys(retention.RETAINED, 30), MAIN)
    changes.append(analysts.change("ada", "a long password", "5a17", "rs", MAIN))
    return [statement for change in changes for statement in change.statements]


def test_the_engine_parses_every_statement(clickhouse_url: str) -> None:
    """Nothing is rendered that ClickHouse does not read; one parse a statement, none is run."""
    server = Server(clickhouse_url, None)
    statements = rendered()
    for statement in statements:
        [(read,)] = server.query("SELECT formatQuery({statement:String})", {"statement": statement})
        assert read
        if not statement.startswith("INSERT"):
            assert "ON CLUSTER main" in str(read).replace("`", ""), statement
    server.close()
    with pytest.raises(ValueError, match="no rule makes this statement fit a cluster"):
        for_cluster("DROP TABLE metric_points", MAIN)


def test_the_engine_makes_the_replicated_tables(cluster_url: str) -> None:
    """Paths, macros, versions, keys and codecs of the shards' tables are accepted; what names a table as its source finds it."""
    create_database(cluster_url, "rs")
    server = Server(cluster_url, "rs")
    for statement in rendered():
        if statement.startswith("CREATE TABLE"):
            server.command(statement.replace(" ON CLUSTER `main`", "").replace("Distributed('main'", "Distributed('two'"))
    found = dict(server.query("SELECT name, engine_full FROM system.tables WHERE database = currentDatabase()"))
    replicated = {name for name, engine in found.items() if engine.startswith("Replicated")}
    distributed = {name for name, engine in found.items() if engine.startswith("Distributed")}
    assert replicated == {f"{name}{LOCAL}" for name in distributed} | EVERYWHERE
    assert distributed >= set(TABLES)
    paths = {str(found[name]).split("'")[1] for name in replicated}
    assert len(paths) == len(replicated)
    assert all("/rs/" in path for path in paths)
    for name in EVERYWHERE:
        assert "{shard}" not in str(found[name]).split("'")[1]
    for name in distributed:
        columns = "SELECT name, type, default_kind, comment FROM system.columns WHERE database = currentDatabase() AND table = {table:String} ORDER BY position"
        assert server.query(columns, {"table": name}) == server.query(columns, {"table": f"{name}{LOCAL}"})
    server.close()


VIEWS = (
    "metrics",
    "hardware",
    "runs",
    "writers",
    "events",
    "params",
    "params_history",
    "param_conflicts",
    "metric_values",
    "run_summary",
    "metric_definitions",
    "media",
    "media_points",
    "artifacts",
    "models",
    "model_versions",
    "datasets",
    "summaries",
    "summaries_best",
    "alerts",
    "deliveries",
    "rules",
    "silences",
    "dead_letters",
    "account",
    "retention",
    "rollups",
    "rollup_stale",
)


def fill(server: Server, runs: Sequence[str]) -> None:
    """Records of every kind for each run, most of them twice."""
    for number, run_id in enumerate(runs, start=1):
        frame = examples.frame(examples.group(["loss", "x"], 0, 5), run_id=run_id, writer=number)
        hardware = examples.frame(examples.group(["gpu"], 0, 3), run_id=run_id, writer=100 + number)
        for _ in range(2):
            insert(server, "metric_points", frame, frame)
            insert(server, "hardware_points", hardware)
            insert(server, "run_changes", examples.run(run_id, name=f"run {number}", writer=number))
        insert(server, "writer_states", examples.writer(run_id, writer=number, points_logged=10, points_shipped=10, state="finished"))
        insert(server, "writer_states", examples.writer(run_id, writer=100 + number, kind="hardware", points_logged=3, points_shipped=3))
        insert(server, "events_log", examples.event(run_id, event_id=run_id, writer=number), examples.event(run_id, event_id=run_id, writer=number))
        insert(
            server,
            "params_log",
            examples.param(run_id, "lr", "float", "0.1", seq=1),
            examples.param(run_id, "lr", "float", "0.2", seq=2, time_ms=examples.STARTED_MS + 1),
        )
        insert(server, "params_log", examples.param(run_id, "lr", "float", "0.1", seq=1, rank=1))
        insert(server, "values_log", examples.value(run_id), examples.value(run_id))
        insert(server, "values_log", examples.value(run_id, seq=7, name="best", role="summary", kind="float", value="0.5", dtype="", shape=(), data=None))
        insert(server, "values_log", examples.value(run_id, seq=8, name="ms", role="unit", kind="list", value='["lag"]', dtype="", shape=(), data=None))
        insert(server, "values_log", examples.value(run_id, seq=9, name="max", role="goal", kind="list", value='["loss"]', dtype="", shape=(), data=None))
        insert(server, "media_log", examples.media(run_id), examples.media(run_id), examples.media(run_id, seq=11, steps=(), counted=True))
        for seq, kind in enumerate(("model_version", "model", "dataset", "file")):
            insert(server, "artifacts_log", *2 * [examples.artifact(run_id, kind=kind, seq=seq)])
        insert(server, "summary_series", examples.summary(run_id, writer=number))
        insert(server, "alerts_log", examples.alert(run_id), examples.alert(run_id, decided_ms=examples.STARTED_MS + 900_000))
        insert(server, "deliveries_log", examples.delivery(run_id), examples.delivery(run_id, done_ms=examples.STARTED_MS + 900_000))
        insert(server, "rules_log", examples.rule(f"rule-{number}"), examples.rule(f"rule-{number}", version=2))
        insert(server, "silences_log", examples.silence(f"silence-{number}"))
        insert(server, "dead_letters_log", examples.dead_letter(offset=number))
        insert(server, "dead_letters_log", examples.dead_letter(offset=number, set_aside_ms=examples.STARTED_MS + 99_999))
    server.command("INSERT INTO retention_log (name, since, days) VALUES ('metrics', '2020-01-01 00:00:00', 90), ('metrics', '2021-01-01 00:00:00', 0)")


def test_rows_through_distributed_tables_read_as_on_one_node(cluster_url: str, server: Server) -> None:
    """The same records, some repeated, through the same code: every view of the cluster shows what it shows on one node."""
    runs = [str(uuid.UUID(int=number << 64 | number)) for number in range(1, 9)]
    clustered = clusters.migrate(cluster_url, Cluster("one", "front"))
    for place in (clustered, server):
        fill(place, runs)
    for view in VIEWS:
        asked = f"SELECT count(), sum(cityHash64(toString(tuple(*)))) FROM {view}"
        assert clustered.query(asked) == server.query(asked), view
        assert one(clustered, f"SELECT count() > 0 FROM {view}") == (1,), view
    assert roll_up(clustered).blocks == roll_up(server).blocks == 8
    assert one(clustered, "SELECT count(), sum(count) FROM metric_rollups_local FINAL") == (16, 80)
    assert one(clustered, "SELECT count(), countIf(balanced), sum(points_stored) FROM account") == (16, 16, 8 * 13)
    assert one(clustered, "SELECT name, points FROM runs WHERE run_id = {run_id:UUID}", run_id=runs[2]) == ("run 3", 10)
    assert look(clustered, "front", "one").parts > 0
    clustered.close()


class Still:
    """A database that does not move on."""

    name = database = "solo"
    behind = malformed = 0
    may_be_ahead = False

    def complete(self, topic: topics.Name) -> bool:
        """It has everything."""
        assert topic
        return True

    def begin(self) -> None:
        """It is as it is."""

    wait_for_tables = move_on = begin


def test_verification_compares_distributed_tables_with_those_of_one_node(cluster_url: str) -> None:
    """Rows of all shards are looked at; keys and versions are those of the tables that hold them."""
    runs = [str(uuid.UUID(int=number << 64 | number)) for number in range(1, 9)]
    clustered = clusters.migrate(cluster_url, Cluster("one", "compared"))
    create_database(cluster_url, "solo")
    solo = Server(cluster_url, "solo")
    migrations.migrate(solo)
    for place in (clustered, solo):
        fill(place, runs)
    solo.command(checksums.CANDIDATES)
    comparison = Comparison(Server(cluster_url, None), "compared", "solo", frozenset())
    assert all(report.equal and report.rows == report.rows_there > 0 for report in comparison.compare(Still(), tuple(TABLE_OF)))
    clustered.command("ALTER TABLE metric_points_local DELETE WHERE run_id = {run:UUID} AND name = 'loss' SETTINGS mutations_sync = 2", {"run": runs[2]})
    solo.command("ALTER TABLE writer_states DELETE WHERE run_id = {run:UUID} SETTINGS mutations_sync = 2", {"run": runs[5]})
    differing = {report.table: report.differing for report in comparison.compare(Still(), tuple(TABLE_OF)) if not report.equal}
    assert {(table, one.missing > 0, one.extra > 0) for table, some in differing.items() for one in some} == {
        ("metric_points", True, False),
        ("writer_states", False, True),
    }
    for server in (clustered, solo):
        server.close()


def test_a_row_goes_to_one_of_two_shards_and_views_ask_both(cluster_url: str) -> None:
    """Each row is written once, whichever shard it goes to. Both shards being this engine, reads give it twice; no view refuses to ask several shards."""
    runs = [str(uuid.UUID(int=number << 64 | number)) for number in range(1, 9)]
    clustered = clusters.migrate(cluster_url, Cluster("two", "front_two"))
    fill(clustered, runs)
    assert one(clustered, "SELECT count() FROM metric_points_local FINAL") == (8 * 10,)
    assert one(clustered, "SELECT count() FROM metrics") == (2 * 8 * 10,)
    for view in VIEWS:
        assert clustered.query(f"SELECT * FROM {view} LIMIT 3"), view
    # By its key, a run is asked for on its own shard alone.
    alone = "SELECT count() FROM metrics WHERE run_id = {run_id:UUID} SETTINGS optimize_skip_unused_shards = 1"
    assert one(clustered, alone, run_id=runs[0]) == (10,)
    clustered.close()


def test_a_cluster_keeps_to_itself(clickhouse_url: str, database: str) -> None:
    """Statements for a cluster are refused where one node's tables are, before anything is sent."""
    server = Server(clickhouse_url, database)
    with pytest.raises(MigrationMismatch, match="made for one node, not for cluster 'main'"):
        migrations.migrate(server, MAIN)
    server.command("ALTER TABLE schema_migrations UPDATE cluster = 'main' WHERE 1 SETTINGS mutations_sync = 1")
    with pytest.raises(MigrationMismatch, match="made for cluster 'main', not for one node"):
        migrations.migrate(server)
    assert migrations.pending(server, MAIN, again=False) == []
    assert len(migrations.pending(server, MAIN, again=True)) == len(migrations.bundled())
    server.close()


def test_a_version_column_stays_the_last_argument() -> None:
    """What a replicated engine is told after its path and name is what one node's is told."""
    states = next(statement for statement in rendered() if "writer_states_local " in statement)
    assert re.search(r"ENGINE = ReplicatedReplacingMergeTree\('[^']+', '\{replica\}', version\)\n", states)
