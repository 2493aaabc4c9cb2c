"""Owns the ClickHouse engine of this process: a bounded set of connections, and how one statement runs on one of them. chdb is touched here only.

Queries on one chdb connection queue up, so concurrency is connections. Database and settings belong to a connection; a request that wants others
changes them, and the pool hands out the connection that needs the least changing. What a request leaves behind (SET, temporary tables) ends with
its connection, as it does on a real server without a session.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, cast

from runstream_local.clickhouse import users
from runstream_local.clickhouse.failures import QueryError
from runstream_sinks.analysts import LIMITS

__all__ = ["Engine", "Outcome", "quote_string"]

# Enough for sinks, a few dashboards and a notebook at once; past it requests wait, and past the wait they are refused.
_CONNECTIONS_MAX = 16
_WAIT_S_MAX = 60.0


class _Result(Protocol):
    def bytes(self) -> bytes: ...
    def rows_read(self) -> int: ...
    def bytes_read(self) -> int: ...
    def rows_written(self) -> int: ...
    def bytes_written(self) -> int: ...


class _Connection(Protocol):
    def query(self, query: bytes | str, format: str, params: Mapping[str, str]) -> _Result: ...  # noqa: A002  # chdb's name
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a statement did: its answer's bytes, rows and bytes read and written, and how long it took."""

    body: bytes
    read_rows: int
    read_bytes: int
    written_rows: int
    written_bytes: int
    elapsed_s: float


@dataclass(slots=True)
class _Session:
    """One connection with the database and settings it is in."""

    connection: _Connection
    reads_only: bool = False
    database: str = "default"
    settings: dict[str, str] = field(default_factory=dict[str, str])

    def distance(self, database: str, settings: Mapping[str, str]) -> int:
        """Counts the statements it takes to get where a request wants to be."""
        return (self.database != database) + (self.settings != settings)


def quote_string(text: str) -> str:
    """Returns `text` as a SQL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _quote_identifier(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


class Engine:
    """The engine on one data folder. There can be one a process, and one a folder; thread-safe."""

    def __init__(self, data: Path, config: Path | None = None) -> None:
        """Opens the folder, created where missing; blocks for up to a second, longer after a hard kill of a large store.

        `config` is a configuration file of ClickHouse, such as one that describes a cluster. The engine takes what does not need a server of its own.
        With one, the bounds on what an analyst may ask for are its matter.

        Raises:
            QueryError: the folder cannot be opened, for one because another process has it open.
        """
        data.mkdir(parents=True, exist_ok=True)
        self._has_profile = config is None
        self._address = f"{data}?config-file={config or users.write_profile(data / 'runstream')}"
        # A statement may use half of the machine; the other half is training's.
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self._base_settings = {"max_memory_usage": str(pages // 2)}
        limits = users.analyst_settings()
        self._analyst_settings = limits | {"max_memory_usage": str(min(pages // 2, int(limits["max_memory_usage"])))}
        self._idle: list[_Session] = []
        self._opened = 0
        self._closed = False
        self._free = threading.Condition()
        # This one is never lent: while it is open, the engine stays up.
        self._keeper = self._open()
        self.timezone = self._keeper.query("SELECT timezone()", "TabSeparated", {}).bytes().decode().strip()
        self.version = self._keeper.query("SELECT version()", "TabSeparated", {}).bytes().decode().strip()

    def _open(self) -> _Connection:
        import chdb

        try:
            return cast("_Connection", chdb.connect(self._address))  # pyright: ignore[reportUnknownMemberType]  # chdb leaves it untyped
        except RuntimeError as error:
            raise QueryError.from_engine(str(error)) from error

    def _open_session(self, *, reads_only: bool) -> _Session:
        """A new connection; one that only reads can never do more."""
        session = _Session(self._open(), reads_only)
        try:
            if reads_only:
                if self._has_profile:
                    _query(session.connection, f"SET profile = {quote_string(users.ANALYST)}", "Null", {})
                self._move(session, session.database, self._analyst_settings)
                _query(session.connection, f"SET readonly = {LIMITS['readonly'].value}", "Null", {})
        except BaseException:
            session.connection.close()
            raise
        return session

    def run(
        self,
        statement: bytes,
        *,
        default_format: str = "TabSeparated",
        database: str = "default",
        settings: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        marks_session: bool = False,
        reads_only: bool = False,
    ) -> Outcome:
        """Runs one statement and returns what it did; blocks until it is done. With `reads_only` it runs as the analyst's do.

        Raises:
            QueryError: the engine refused it, or no connection became free in time.
        """
        wanted = (self._analyst_settings if reads_only else self._base_settings) | dict(settings or {})
        with self._session(database, wanted, marks_session=marks_session, reads_only=reads_only) as session:
            self._move(session, database, wanted)
            started = time.monotonic()
            result = _query(session.connection, statement, default_format, parameters or {})
            return Outcome(
                body=result.bytes(),
                read_rows=result.rows_read(),
                read_bytes=result.bytes_read(),
                written_rows=result.rows_written(),
                written_bytes=result.bytes_written(),
                elapsed_s=time.monotonic() - started,
            )

    @contextlib.contextmanager
    def _session(self, database: str, settings: Mapping[str, str], *, marks_session: bool, reads_only: bool) -> Generator[_Session]:
        session = self._take(database, settings, reads_only=reads_only)
        keep = False
        try:
            yield session
            keep = not marks_session
        except QueryError:
            # The engine said no to this statement; the connection itself is as it was, unless the statement was to change it.
            keep = not marks_session
            raise
        finally:
            # In read-only mode a connection refuses to leave it.
            self._give_back(session, keep=keep and "readonly" not in session.settings)

    def _take(self, database: str, settings: Mapping[str, str], *, reads_only: bool) -> _Session:
        other: _Session | None = None
        with self._free:
            if not self._free.wait_for(lambda: self._idle or self._opened < _CONNECTIONS_MAX or self._closed, timeout=_WAIT_S_MAX):
                raise QueryError.of(202, f"Too many simultaneous queries: all {_CONNECTIONS_MAX} connections were busy for {_WAIT_S_MAX:g} s")
            if self._closed:
                raise QueryError.of(236, "The server is shutting down")
            fitting = [index for index, one in enumerate(self._idle) if one.reads_only == reads_only]
            if fitting:
                best = min(fitting, key=lambda index: self._idle[index].distance(database, settings))
                if self._idle[best].distance(database, settings) == 0 or self._opened >= _CONNECTIONS_MAX // 2:
                    return self._idle.pop(best)
            if self._opened >= _CONNECTIONS_MAX:
                other = self._idle.pop()  # One of the other kind makes room.
            else:
                self._opened += 1
        try:
            if other is not None:
                other.connection.close()
            return self._open_session(reads_only=reads_only)
        except QueryError:
            with self._free:
                self._opened -= 1
            raise

    def _give_back(self, session: _Session, *, keep: bool) -> None:
        with self._free:
            if keep and not self._closed:
                self._idle.append(session)
            else:
                self._opened -= 1
            self._free.notify_all()
        if not keep or self._closed:
            session.connection.close()

    def _move(self, session: _Session, database: str, settings: Mapping[str, str]) -> None:
        """Brings the connection into the database and under the settings that a request wants."""
        changes = {name: value for name, value in settings.items() if session.settings.get(name) != value}
        resets = [name for name in session.settings if name not in settings]
        if resets:
            _query(session.connection, f"SET {', '.join(f'{name} = DEFAULT' for name in resets)}", "Null", {})
            for name in resets:
                del session.settings[name]
        for name, value in changes.items():
            _query(session.connection, f"SET {name} = {quote_string(value)}", "Null", {})
            session.settings[name] = value
        if session.database != database:
            _query(session.connection, f"USE {_quote_identifier(database)}", "Null", {})
            session.database = database

    def close(self) -> None:
        """Closes every connection that is not in use, and the engine with the last; statements that run are let finish by their callers."""
        with self._free:
            self._closed = True
            sessions, self._idle = self._idle, []
            self._free.notify_all()
        for session in sessions:
            session.connection.close()
        self._keeper.close()


def _query(connection: _Connection, statement: bytes | str, default_format: str, parameters: Mapping[str, str]) -> _Result:
    try:
        return connection.query(statement, default_format, params=parameters)
    except (RuntimeError, ValueError) as error:  # ChdbError is a RuntimeError
        raise QueryError.from_engine(str(error)) from error
