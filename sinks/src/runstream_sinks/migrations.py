"""Numbered SQL files that make the tables and views, applied once each and in order.

What was applied stands in the table `schema_migrations` with a checksum of its file: a file that was changed after it was applied is refused, since the tables
would no longer be what the files say. Every statement may run twice, so a migration that was cut off is simply run again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib import resources
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from runstream_sinks.errors import MigrationMismatch
from runstream_sinks.layout import expand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations
(
    number UInt32,
    name String,
    checksum String COMMENT 'SHA-256 of the file',
    applied DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree
ORDER BY number
COMMENT 'migrations applied to this database'
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number and name, its statements, and the checksum of its text."""

    number: int
    name: str
    statements: tuple[str, ...]
    checksum: str


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
    """The migrations of this version, in order."""
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
    if not database.query("SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'schema_migrations'"):
        return {}
    return {number: (name, checksum) for number, name, checksum in database.query("SELECT number, name, checksum FROM schema_migrations FINAL ORDER BY number")}


def migrate(database: Database) -> list[Migration]:
    """Applies what is missing and returns it. The database itself must exist.

    Raises:
        MigrationMismatch: see `plan`. Nothing was changed.
    """
    todo = plan(bundled(), applied(database))
    if todo:
        database.command(LEDGER)
    for one in todo:
        for statement in one.statements:
            database.command(statement)
        database.command(
            "INSERT INTO schema_migrations (number, name, checksum) SELECT {number:UInt32}, {name:String}, {checksum:String}",
            {"number": one.number, "name": one.name, "checksum": one.checksum},
        )
    return todo
