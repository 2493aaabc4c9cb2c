"""The two forms in which the statements of `sql/` are sent: for one node as they are written, and for a cluster. Pure; `migrations` sends them.

On a cluster a table becomes two: `NAME_local`, replicated, which holds the rows of one shard, and `NAME`, distributed over all shards by run, which is what sinks write to and views read.
The ledger and the log of retention are not sharded: every node holds all of them. Views are the same everywhere. Of SQL this knows only the few shapes in which our own files are written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOCAL = "_local"
# Every node holds these whole.
EVERYWHERE = frozenset({"schema_migrations", "retention_log"})
# What else rows are sharded by where a table has no run. All rows of one identity must meet on one shard.
_SHARD_BY = {"rules_log": "rule_id", "silences_log": "silence_id", "dead_letters_log": "topic, `partition`, `offset`"}

_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS (?P<name>\w+)\n\(\n(?P<columns>.*?)\n\)\nENGINE = (?P<engine>\w+)(?:\((?P<arguments>\w*)\))?\n(?P<rest>.*)\Z", re.DOTALL
)
_VIEW = re.compile(r"CREATE OR REPLACE VIEW (?P<name>\w+)\n(?P<rest>.*)\Z", re.DOTALL)
_MATERIALIZED = re.compile(r"CREATE MATERIALIZED VIEW IF NOT EXISTS (?P<name>\w+) TO (?P<target>\w+)\n(?P<rest>.*)\Z", re.DOTALL)
_COMMENT = re.compile(r"COMMENT '(?:[^']|'')*'\Z")
_ALL_COLUMNS = re.compile(r"^    (?P<table>\w+)\.\*(?P<comma>,?)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a clustered database lives: the cluster's name as ClickHouse's `remote_servers` has it, and the database."""

    name: str
    database: str


def literal(text: str) -> str:
    """The text as SQL has it in quotes."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def rows_table(name: str, cluster: Cluster | None) -> str:
    """Where the rows of a table lie, for an ALTER: the table itself, or the shards' own tables on all nodes of a cluster."""
    return name if cluster is None else f"{name}{LOCAL} ON CLUSTER `{cluster.name}`"


def expand(statements: Iterable[str]) -> list[str]:
    """The statements with `TABLE.*` in the columns of views replaced by the columns of that table: names, types and comments. Tables come before their views."""
    columns: dict[str, str] = {}
    out: list[str] = []
    for statement in statements:
        table = _TABLE.match(statement)
        if table is not None:
            columns[table["name"]] = _declared(table["columns"])
        view = _VIEW.match(statement)
        out.append(statement if view is None else _ALL_COLUMNS.sub(lambda found: columns[found["table"]] + found["comma"], statement))
    return out


def _declared(columns: str) -> str:
    """The columns of a table as a view declares them: without codecs, and without what is computed at insertion or is no column."""
    lines = [line.removesuffix(",") for line in columns.splitlines()]
    kept = [line for line in lines if " MATERIALIZED " not in line and not line.lstrip().startswith("INDEX ")]
    return ",\n".join(re.sub(r" CODEC\(.*\)$", "", line) for line in kept)


def for_cluster(statement: str, cluster: Cluster) -> list[str]:
    """What makes the same on every node of a cluster.

    Raises:
        ValueError: the statement has a shape that this does not know.
    """
    on = f"ON CLUSTER `{cluster.name}`"
    if (table := _TABLE.match(statement)) is not None:
        return _tables(table.groupdict(), cluster, on)
    if (view := _MATERIALIZED.match(statement)) is not None:
        # It runs on the shard, from the rows of the shard into a table of the shard.
        body = re.sub(r"\bFROM (\w+)", rf"FROM \1{LOCAL}", view["rest"])
        return [f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view['name']} {on} TO {view['target']}{LOCAL}\n{body}"]
    if (view := _VIEW.match(statement)) is not None:
        return [f"CREATE OR REPLACE VIEW {view['name']} {on}\n{view['rest']}"]
    raise ValueError(f"no rule makes this statement fit a cluster: {statement[:80]!r}")


def _tables(table: Mapping[str, str | None], cluster: Cluster, on: str) -> list[str]:
    name, rest = f"{table['name']}", f"{table['rest']}"
    everywhere = name in EVERYWHERE
    held = name if everywhere else name + LOCAL
    # A path without the node's shard, and a name with it: all nodes are replicas of one another.
    shard, replica = ("all", "{shard}-{replica}") if everywhere else ("{shard}", "{replica}")
    arguments = [f"'/clickhouse/tables/{shard}/{cluster.database}/{held}'", f"'{replica}'", *filter(None, [table["arguments"]])]
    rows = f"CREATE TABLE IF NOT EXISTS {held} {on}\n(\n{table['columns']}\n)\nENGINE = Replicated{table['engine']}({', '.join(arguments)})\n{rest}"
    if everywhere:
        return [rows]
    comment = _COMMENT.search(rest)
    key = f"cityHash64({_SHARD_BY.get(name, 'run_id')})"
    way = f"CREATE TABLE IF NOT EXISTS {name} {on} AS {held}\nENGINE = Distributed('{cluster.name}', '{cluster.database}', '{held}', {key})\n{comment[0] if comment else ''}"
    return [rows, way.rstrip()]
