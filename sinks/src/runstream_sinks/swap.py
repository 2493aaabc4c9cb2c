"""Puts the tables of another database, filled by `replay --into`, in the place of the live ones, while the sinks go on writing: nothing is lost, and nothing doubled.

Both databases' tables change names in one statement. A record that the sinks read before that moment may have gone into the old tables after the other database was filled for the last time;
all of those lie between how far it was filled and the ends of the topics right after the exchange, so that span is replayed into the live tables, where what is there already collapses.

What is about to happen is written down in the other database first, with the identities of its tables. Whoever is killed in between is called again, sees by them what has been exchanged,
and goes on.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_feed.records import Place
from runstream_sinks import migrations
from runstream_sinks.clickhouse import Server, has_database
from runstream_sinks.errors import ServerRefused, SinksError
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.replay import Stopped, forget, full_names, read_into, replay
from runstream_sinks.replay_plan import Request, fill_group
from runstream_sinks.spans import Span
from runstream_sinks.tables import TABLE_OF, Name
from runstream_sinks.verify import verify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_schemas import topics
    from runstream_schemas.settings import Settings
    from runstream_sinks.fill import Caller
    from runstream_sinks.verify import Report

# Engines of databases that can exchange tables.
_EXCHANGES = ("Atomic", "Replicated")
_PLAN = """
CREATE TABLE IF NOT EXISTS swap_plan (plan String COMMENT 'what a swap is about to do, as JSON') ENGINE = MergeTree ORDER BY tuple()
COMMENT 'written before tables are exchanged, removed when all is done'
"""
_LEDGER = "schema_migrations"
# Tables that are made from others and go with them. What marks insertions follows the names of tables, so it goes on marking in the live database whatever is exchanged.
_DERIVED: dict[Name, tuple[str, ...]] = {"metric_points": ("rollup_blocks", "metric_rollups")}


class Differs(SinksError):
    """The other database does not hold what the live tables hold; `report` says what."""

    def __init__(self, database: str, report: Report) -> None:
        super().__init__(f"{database} does not hold what the live tables hold, so nothing was swapped")
        self.report = report


@dataclass(frozen=True, slots=True)
class Plan:
    """What a swap is about to do: the tables to exchange, each with its identity in the other database, and how far that database was filled."""

    uuids: Mapping[str, str]
    filled: Mapping[Place, int]
    upgrade: bool

    def text(self) -> str:
        """As it is written down."""
        return json.dumps({"uuids": dict(self.uuids), "filled": [[*place, offset] for place, offset in self.filled.items()], "upgrade": self.upgrade})


def parse_plan(text: str) -> Plan:
    """The plan that was written down."""
    found = json.loads(text)
    return Plan(found["uuids"], {Place(topic, partition): offset for topic, partition, offset in found["filled"]}, found["upgrade"])


@dataclass(frozen=True, slots=True)
class Result:
    """What a swap did: the tables exchanged, how many rows were read again behind it, and whether it finished one that was cut off."""

    database: str
    tables: Sequence[str]
    rows_after: int
    resumed: bool
    verified: Report | None
    seconds: float


def swap(settings: Settings, database: str, names: Sequence[topics.Name], *, verified: bool, caller: Caller) -> Result:
    """Swaps; blocks for a catch-up, a verification if `verified`, and a short replay.

    Raises:
        Differs: the other database lacks rows, or has others. Nothing was changed.
        SinksError: ClickHouse or Kafka refused, or do not answer, or Stopped. Call it again: it goes on.
    """
    began = time.monotonic()
    there = Server(settings.clickhouse_url, database)
    try:
        _check(settings, database, there)
        plan = _written(there)
        resumed = plan is not None
        report: Report | None = None
        if plan is None:
            _catch_up(settings, database, names, caller)
            if verified:
                report = verify(settings, names, frozenset(), database, caller)
                if not report.equal:
                    raise Differs(database, report)
                _catch_up(settings, database, names, caller)
            plan = _plan(settings, database, names, there)
            there.command(_PLAN)
            there.command("INSERT INTO swap_plan SELECT {plan:String}", {"plan": plan.text()})
        exchange(settings, database, plan)
        rows = _read_again(settings, plan, caller)
        forget(settings, fill_group(settings, database), list(plan.filled))
        there.command("DROP TABLE swap_plan")
        return Result(database, sorted(plan.uuids), rows, resumed, report, time.monotonic() - began)
    finally:
        there.close()


def _check(settings: Settings, database: str, there: Server) -> None:
    live = settings.clickhouse_database
    if settings.clickhouse_cluster is not None:
        raise ServerRefused("swap exchanges the tables of one node: docs/replay.md says why not those of a cluster, and what to do there")
    if database == live:
        raise ServerRefused(f"{database} is the live database: name the one that took a replay")
    if not has_database(settings.clickhouse_url, database):
        raise ServerRefused(f"database {database} does not exist: `runstream replay --into {database}` fills it")
    for name, engine in there.query(
        "SELECT name, engine FROM system.databases WHERE name IN ({live:String}, {other:String})", {"live": live, "other": database}
    ):
        if engine not in _EXCHANGES:
            raise ServerRefused(f"database {name} has the engine {engine}, which cannot exchange tables: make it with ENGINE = Atomic")


def _written(there: Server) -> Plan | None:
    if not there.query("SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'swap_plan'"):
        return None
    found = there.query("SELECT plan FROM swap_plan LIMIT 1")
    return parse_plan(str(found[0][0])) if found else None


def _catch_up(settings: Settings, database: str, names: Sequence[topics.Name], caller: Caller) -> None:
    if not replay(settings, Request(topics=tuple(names), into=database), caller).complete:
        raise Stopped


def _plan(settings: Settings, database: str, names: Sequence[topics.Name], there: Server) -> Plan:
    here = Server(settings.clickhouse_url, settings.clickhouse_database)
    try:
        upgrade = migrations.applied(here) != migrations.applied(there)
    finally:
        here.close()
    if upgrade and set(names) != set(TABLE_OF):
        raise ServerRefused(f"{database} has tables of another version, so all topics must be swapped together: leave --topic away")
    uuids = _uuids(there, database)
    tables: list[str] = [TABLE_OF[name] for name in names]
    tables += [derived for name in names for derived in _DERIVED.get(TABLE_OF[name], ()) if derived in uuids]
    tables += [_LEDGER] if upgrade else []
    reader = Reader(settings, fill_group(settings, database))
    try:
        filled = {place: kept.offset for place, kept in reader.kept(reader.places(full_names(names, settings))).items()}
    finally:
        reader.close()
    return Plan({table: uuids[table] for table in tables}, filled, upgrade)


def _uuids(server: Server, database: str) -> dict[str, str]:
    return {name: str(uuid) for name, uuid in server.query("SELECT name, toString(uuid) FROM system.tables WHERE database = {name:String}", {"name": database})}


def exchange(settings: Settings, database: str, plan: Plan) -> None:
    """Exchanges the tables of a plan that are not exchanged yet; readers and writers see the one or the other, never none."""
    live = settings.clickhouse_database
    server = Server(settings.clickhouse_url, live)
    try:
        now = _uuids(server, live)
        for table in plan.uuids.keys() - now.keys():
            server.command(f"RENAME TABLE `{database}`.`{table}` TO `{live}`.`{table}`")
        left = [table for table, uuid in plan.uuids.items() if now.get(table, uuid) != uuid]
        if left:
            server.command("EXCHANGE TABLES " + ", ".join(f"`{live}`.`{table}` AND `{database}`.`{table}`" for table in left))
        if plan.upgrade:
            # Views read tables by name, so they see the new ones already; their text should be of this version, too. Every statement may run twice.
            for one in migrations.bundled():
                for statement in one.statements:
                    server.command(statement)
    finally:
        server.close()


def _read_again(settings: Settings, plan: Plan, caller: Caller) -> int:
    """Reads what came between the last filling and the exchange once more into the live tables; the rows that it came to."""
    reader = Reader(settings, f"{settings.topic_prefix}-swap")
    try:
        ends = {place: high for place, (_, high) in reader.limits(list(plan.filled)).items()}
        reader.start({place: Span(first, max(first, ends[place])) for place, first in plan.filled.items()})
        return read_into(settings, reader, settings.clickhouse_database, frozenset(), caller).rows.total()
    finally:
        reader.close()
