"""What every view must show of records that were sent: those of a database into which each record was put once, by the mapping alone, without Kafka or a worker."""

from __future__ import annotations

import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.migrations import migrate
from runstream_sinks.pipeline import rows_of
from runstream_sinks.tables import TABLE_OF
from tests.sinks.replays import shown

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from runstream_sinks.batching import Rows
    from runstream_sinks.tables import Name
    from tests.sinks.workers import Pipe, Sent


@contextmanager
def _database(url: str) -> Generator[Server]:
    name = f"e_{uuid.uuid4().hex[:10]}"
    create_database(url, name)
    server = Server(url, name)
    try:
        migrate(server)
        yield server
    finally:
        server.command(f"DROP DATABASE `{name}`")
        server.close()


def expected(pipe: Pipe, sent: Sequence[Sent]) -> dict[str, tuple[int, int]]:
    """Rows and checksum of every view for these records; raw bytes among them, which no mapping takes, are left out."""
    tables: dict[Name, Rows] = {}
    for name, _, record in sent:
        if not isinstance(record, bytes):
            table = TABLE_OF[name]
            tables.setdefault(table, rows_of(table)).add(record)
    with _database(pipe.settings.clickhouse_url) as server:
        for table, rows in tables.items():
            server.insert(table, rows.table())
        [(database,)] = server.query("SELECT currentDatabase()")
        return shown(pipe, database)
