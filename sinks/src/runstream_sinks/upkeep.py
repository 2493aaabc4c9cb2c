"""What `runstream migrate` does: looks at a database, says what is left to do to it, and does it. What that is decide `migrations`, `retention` and `analysts`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_sinks import migrations, retention
from runstream_sinks.clickhouse import Server, has_database
from runstream_sinks.migrations import Change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_sinks.layout import Cluster


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a database should be: for which cluster (None: one node), how long rows are kept where that is to change, a user to make, and whether to apply everything anew."""

    cluster: Cluster | None = None
    keeps: Sequence[retention.Keep] = ()
    analyst: Change | None = None
    again: bool = False


def todo(url: str, database: str, wishes: Wishes) -> list[Change]:
    """What is left to do. Blocks for a few queries.

    Raises:
        MigrationMismatch: the database is not what this version or this cluster makes.
        ServerBusy, ServerRefused: ClickHouse did not answer, or not to us.
    """
    found: list[Change] = []
    if not has_database(url, database):
        on = f" ON CLUSTER `{wishes.cluster.name}`" if wishes.cluster else ""
        found.append(Change(f"database {database}", (f"CREATE DATABASE IF NOT EXISTS `{database}`{on}",)))
        pending, days = migrations.bundled(), dict[str, int]()
    else:
        server = Server(url, database)
        try:
            pending = migrations.pending(server, wishes.cluster, again=wishes.again)
            days = kept(server)
        finally:
            server.close()
    found += migrations.changes(pending, wishes.cluster)
    found += retention.changes(wishes.keeps, days, wishes.cluster)
    return found + ([wishes.analyst] if wishes.analyst else [])


def apply(url: str, database: str, changes: Sequence[Change]) -> None:
    """Does what `todo` found; raises as it does. Cut off anywhere, it may be called again with what is left then."""
    made = Server(url, None)
    server = Server(url, database)
    try:
        for change in changes:
            for statement in change.statements:
                # Before it is made, a database cannot be the one that a connection is in.
                (made if statement.startswith("CREATE DATABASE") else server).command(statement)
    finally:
        made.close()
        server.close()


def kept(server: migrations.Database) -> Mapping[str, int]:
    """For how many days the rows of each view are kept; views that are not in it, for ever."""
    if not server.query("SELECT 1 FROM system.tables WHERE database = currentDatabase() AND name = 'retention'"):
        return {}
    return dict(server.query("SELECT name, days FROM retention WHERE days > 0"))
