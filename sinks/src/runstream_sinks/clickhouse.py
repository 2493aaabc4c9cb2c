"""The one module that touches clickhouse-connect: connects, runs statements, inserts Arrow tables, and turns its errors into ours."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (clickhouse-connect annotates its client only in part.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.exceptions import HTTPError

from runstream_sinks.bounds import STARTED_PARTITIONS
from runstream_sinks.errors import ServerBusy, ServerRefused
from runstream_sinks.retry import SPEAKABLE_CODES, is_retryable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clickhouse_connect.driver.client import Client

    from runstream_sinks.arrow import Table

CONNECT_TIMEOUT_S = 5
# An insert of a chunk takes well under a second; past this it is repeated, which is harmless. Below half of Kafka's max.poll.interval.ms.
INSERT_TIMEOUT_S = 60

# On a cluster rows count as held once a majority of the replicas of their shard has them; one node takes no notice of these.
_HELD_SETTINGS = {
    "distributed_foreground_insert": 1,
    "insert_quorum": "auto",
    "insert_quorum_timeout": INSERT_TIMEOUT_S * 1000 * 4 // 5,
}
_INSERT_SETTINGS = {
    **_HELD_SETTINGS,
    # On since 26.2 unless told otherwise: it would acknowledge before the rows are stored with a server's wait_for_async_insert=0.
    "async_insert": 0,
    # Collapsing within the block costs twice the insert's time; FINAL collapses within a part too.
    "optimize_on_insert": 0,
    # Hostile starts may spread one chunk over every month that `bounds` allows.
    "max_partitions_per_insert_block": STARTED_PARTITIONS,
}
# A statement for a whole cluster is answered before the connection gives up.
_COMMAND_SETTINGS = {**_HELD_SETTINGS, "distributed_ddl_task_timeout": INSERT_TIMEOUT_S * 4 // 5}


class Server:
    """A ClickHouse server and one of its databases. Connects when first used, and again after an error. For one thread at a time."""

    def __init__(self, url: str, database: str | None, *, timeout_s: float = INSERT_TIMEOUT_S) -> None:
        """`database` None uses the user's default one, for statements that name their own. A call without an answer for `timeout_s` is given up."""
        self._url = url
        self._database = database
        self._timeout_s = timeout_s
        self._client: Client | None = None

    def insert(self, table: str, rows: Table) -> None:
        """Inserts rows; they are held by the server when this returns. May block for `INSERT_TIMEOUT_S`.

        Raises:
            ServerBusy: not taken, or nobody knows: insert it again.
            ServerRefused: this will never be taken.
        """
        try:
            self._connected().insert_arrow(table, rows, settings=_INSERT_SETTINGS)
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failed(error, f"insert into {table}", speak=False) from error

    def command(self, statement: str, parameters: Mapping[str, object] | None = None) -> None:
        """Runs a statement without an answer, its `{name:Type}` places filled from `parameters`; raises as `insert` does."""
        try:
            self._connected().command(statement, parameters=dict(parameters or {}), settings=_COMMAND_SETTINGS)
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failed(error, "statement", speak=True) from error

    def query(self, sql: str, parameters: Mapping[str, object] | None = None) -> Sequence[tuple[Any, ...]]:
        """The rows of a query whose `{name:Type}` places are filled from `parameters`; raises as `insert` does."""
        try:
            answer = self._connected().query(sql, parameters=dict(parameters or {}))
        except (ClickHouseError, HTTPError, OSError) as error:
            raise self._failed(error, "query", speak=True) from error
        return cast("Sequence[tuple[Any, ...]]", answer.result_rows)

    def close(self) -> None:
        """Closes the connection; the next call opens another."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _connected(self) -> Client:
        if self._client is None:
            self._client = clickhouse_connect.get_client(
                dsn=self._url,
                # Without it the client reads the database from the URL's path, which is empty.
                database=self._database or "__default__",
                compress=False,
                connect_timeout=CONNECT_TIMEOUT_S,
                send_receive_timeout=int(self._timeout_s),
                autogenerate_session_id=False,
                client_name="runstream",
            )
        return self._client

    def _failed(self, error: Exception, doing: str, *, speak: bool) -> ServerBusy | ServerRefused:
        code = getattr(error, "code", None) if isinstance(error, ClickHouseError) else None
        name = getattr(error, "name", None)
        # A new connection learns the settings of whatever server answers next; an old one may point at a dead one.
        self.close()
        if code is None:
            return ServerBusy(f"{doing} failed: no answer, {_root(error)}")
        told = str(error)[:500] if speak or code in SPEAKABLE_CODES else ""
        message = f"{doing} failed: code {code} {name or ''} {told}".strip()
        if is_retryable(code):
            return ServerBusy(message, code)
        return ServerRefused(message, code)


def _root(error: BaseException) -> str:
    """What a connection failed of in the end: the clients in between wrap it in many words."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {error}"[:300]


def create_database(url: str, database: str) -> None:
    """Makes a database if it is not there; raises as `Server.command` does."""
    server = Server(url, None)
    try:
        server.command(f"CREATE DATABASE IF NOT EXISTS `{database}`")
    finally:
        server.close()


def has_database(url: str, database: str) -> bool:
    """Whether the server has a database of this name; raises as `Server.query` does."""
    server = Server(url, None)
    try:
        return bool(server.query("SELECT 1 FROM system.databases WHERE name = {name:String}", {"name": database}))
    finally:
        server.close()
