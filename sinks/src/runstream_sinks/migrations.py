"""Numbered SQL files that make the tables and views, applied once each and in order.

What was applied stands in the table `schema_migrations` with a checksum of its file: a file that was changed after it was applied is refused, since the tables
would no longer be what the files say. Every statement may run twice, so a migration that was cut off is simply run again. `layout` says how statements look on a cluster.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from runstream_sinks.errors import MigrationMismatch
from runstream_sinks.layout import Cluster, expand, for_cluster, literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEDGER = """CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32 COMMENT 'number of the file',
    name String COMMENT 'its name',
    checksum String COMMENT 'SHA-256 of the file',
    cluster String COMMENT 'cluster that it was made for; empty is one node',
    applied DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was applied'
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'migrations applied to this database'"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number and name, its statements, and the checksum of its text."""

    number: int
    name: str
    statements: tuple[str, ...]
    checksum: str


@dataclass(frozen=True, slots=True)
class Change:
    """Something to do to a database: what it is, and its statements in order. `secret` stands in them and is never shown."""

    title: str
    statements: tuple[str, ...]
    secret: str = ""

    def shown(self) -> list[str]:
        """The statements for people to read."""
        return [one.replace(self.secret, "...") if self.secret else one for one in self.statements]


class Database(Protocol):
    """What migrations need of a server."""

    def command(self, statement: str, parameters: Mapping[str, object] | None = None) -> None:
        """Runs a statement without an answer."""
        ...

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> Sequence[tuple[Any, ...]]:
        """The rows of a query."""
        ...


def parse(file_name: str, text: str) -> Migration:
    """A migration from a file called `NNNN_name.sql`, whose statements each end with a semicolon at the end of a line."""
    number, _, rest = file_name.removesuffix(".sql").partition("_")
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    statements = tuple(one.strip() for one in f"{code}\n".split(";\n") if one.strip())
    return Migration(int(number), rest, statements, hashlib.sha256(text.encode()).hexdigest())


def bundled() -> list[Migration]:
    """The migrations of this version, in order, as one node takes them."""
    folder = resources.files("runstream_sinks") / "sql"
    found = sorted(
        (parse(file.name, file.read_text(encoding="utf-8")) for file in folder.iterdir() if file.name.endswith(".sql")),
        key=lambda one: one.number,
    )
    expanded = iter(expand([statement for one in found for statement in one.statements]))
    return [replace(one, statements=tuple(islice(expanded, len(one.statements)))) for one in found]


def plan(wanted: Sequence[Migration], applied: Mapping[int, tuple[str, str]]) -> list[Migration]:
    """What is left to apply, given the name and checksum of what was, by number.

    Raises:
        MigrationMismatch: an applied file was changed, or the database has migrations that this version does not know.
    """
    by_number = {one.number: one for one in wanted}
    for number, (name, checksum) in sorted(applied.items()):
        known = by_number.get(number)
        if known is None:
            raise MigrationMismatch(f"the database has migration {number} ({name}), which this version does not know: upgrade runstream-sinks")
        if known.checksum != checksum:
            raise MigrationMismatch(
                f"migration {number} ({name}) was applied from another file than this version carries: "
                "never change an applied file, add a new one (or use another clickhouse_database)"
            )
    return [one for one in wanted if one.number not in applied]


def applied(database: Database) -> dict[int, tuple[str, str]]:
    """Name and checksum of the applied migrations by number; empty where the ledger is missing."""
    if not _has_ledger(database):
        return {}
    return {number: (name, checksum) for number, name, checksum in database.query("SELECT number, name, checksum FROM schema_migrations FINAL ORDER BY number")}


def check_cluster(database: Database, cluster: Cluster | None) -> None:
    """Nothing, if the database was made for this cluster (None: for one node) or not made at all.

    Raises:
        MigrationMismatch: it was made for something else, which statements for this would spoil.
    """
    wanted = cluster.name if cluster else ""
    made_for: set[str] = {name for (name,) in database.query("SELECT DISTINCT cluster FROM schema_migrations")} if _has_ledger(database) else set()
    for name in made_for - {wanted}:
        was, now = (f"cluster {one!r}" if one else "one node" for one in (name, wanted))
        raise MigrationMismatch(
            f"the database was made for {was}, not for {now}: set clickhouse_cluster to what it was made for, or use another clickhouse_database"
        )


def changes(todo: Sequence[Migration], cluster: Cluster | None) -> list[Change]:
    """What applies migrations and notes each down, the ledger first."""
    out = [Change("the ledger", tuple(fitting(LEDGER, cluster)))] if todo else []
    name = literal(cluster.name if cluster else "")
    for one in todo:
        note = f"INSERT INTO schema_migrations (number, name, checksum, cluster) SELECT {one.number}, {literal(one.name)}, {literal(one.checksum)}, {name}"
        out.append(Change(f"{one.number:04d} {one.name}", (*(sent for made in one.statements for sent in fitting(made, cluster)), note)))
    return out


def fitting(statement: str, cluster: Cluster | None) -> list[str]:
    """A statement as it is sent: as it is to one node, or what makes the same on a cluster."""
    return [statement] if cluster is None else for_cluster(statement, cluster)


def migrate(database: Database, cluster: Cluster | None = None, *, again: bool = False) -> list[Migration]:
    """Applies what is missing (all of it with `again`, as for nodes that joined a cluster later) and returns it. The database itself must exist.

    Raises:
        MigrationMismatch: see `plan` and `check_cluster`. Nothing was changed.
    """
    todo = pending(database, cluster, again=again)
    for change in changes(todo, cluster):
        for statement in change.statements:
            database.command(statement)
    return todo


def pending(database: Database, cluster: Cluster | None, *, again: bool) -> list[Migration]:
    """What `migrate` would apply; raises as it does."""
    wanted = bundled()
    todo = plan(wanted, applied(database))
    check_cluster(database, cluster)
    return wanted if again else todo


def _has_ledger(database: Database) -> bool:
    return bool(database.query("SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'schema_migrations'"))
