"""Answers of a ClickHouse as plain Python rows, for tests: through an ordinary client, so that doubles come bit for bit."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# (clickhouse-connect's results carry no types.)

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import clickhouse_connect


class Answers:
    """Asks one database; a new connection for each question, since the server may be killed between two of them."""

    def __init__(self, url: str, database: str = "runstream") -> None:
        self.url = url
        self.database = database

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of an answer, by column name."""
        with clickhouse_connect.get_client(dsn=self.url, database=self.database) as client:
            named = cast("Iterable[dict[str, Any]]", client.query(sql, parameters=parameters).named_results())
            return list(named)

    def command(self, sql: str) -> None:
        """Runs a statement without an answer."""
        with clickhouse_connect.get_client(dsn=self.url, database=self.database) as client:
            client.command(sql)

    def count(self, view: str, run_id: str) -> int:
        """Rows of a view that belong to a run."""
        return int(self.rows(f"SELECT count() AS n FROM {view} WHERE run_id = {{run:UUID}}", run=run_id)[0]["n"])
