"""What a worker waits for before it begins: the tables of its version, and the topics; and the file by which others see that it is ready and still alive."""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from runstream_sinks import migrations
from runstream_sinks.clickhouse import Server, has_database
from runstream_sinks.errors import ServerBusy
from runstream_sinks.log import log

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from runstream_schemas.settings import Settings

WAIT_INTERVAL_S = 0.5
COMPLAIN_INTERVAL_S = 5.0
RENEW_INTERVAL_S = 1.0


def wait_for_tables(settings: Settings, stop: threading.Event, on_wait: Callable[[str], None]) -> bool:
    """True once the database has every migration of this version; False when asked to stop first. `on_wait` gets what it waits for, each time it looks.

    Raises:
        ServerRefused: ClickHouse does not let us in.
        MigrationMismatch: the database is not what this version makes.
    """

    def missing() -> str:
        try:
            return "" if _has_tables(settings) else "tables are missing: runstream migrate makes them"
        except ServerBusy as error:
            return str(error)

    return _wait("waiting for clickhouse", missing, stop, on_wait)


def wait_for_topics(settings: Settings, missing_of: Callable[[], Iterable[str] | None], stop: threading.Event, on_wait: Callable[[str], None]) -> bool:
    """True once `missing_of` finds all topics (it returns None while Kafka is away); False when asked to stop first. `on_wait` is told as above."""

    def missing() -> str:
        topics = missing_of()
        if topics is None:
            return f"kafka is away: {settings.kafka}"
        return f"topics do not exist yet: {' '.join(sorted(topics))}" if topics else ""

    return _wait("waiting for kafka", missing, stop, on_wait)


def _has_tables(settings: Settings) -> bool:
    if not has_database(settings.clickhouse_url, settings.clickhouse_database):
        return False
    server = Server(settings.clickhouse_url, settings.clickhouse_database)
    try:
        return not migrations.plan(migrations.bundled(), migrations.applied(server))
    finally:
        server.close()


def _wait(message: str, missing: Callable[[], str], stop: threading.Event, on_wait: Callable[[str], None]) -> bool:
    complain_at = 0.0
    while not stop.is_set():
        reason = missing()
        if not reason:
            return True
        on_wait(f"{message}: {reason}")
        if time.monotonic() >= complain_at:
            complain_at = time.monotonic() + COMPLAIN_INTERVAL_S
            log.warning(message, reason=reason)
        stop.wait(WAIT_INTERVAL_S)
    return False


class ReadyFile:
    """The file that says `ready` once the worker consumes. Its age tells a process that waits from one that hangs."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._written = False
        self._renew_at = 0.0

    def write(self) -> None:
        """Says that the worker is ready."""
        if self._path is None:
            return
        # Whole or not at all: who waits for the file must not read half of it.
        fresh = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        fresh.write_text("ready\n", encoding="utf-8")
        fresh.replace(self._path)
        self._written = True

    def renew(self) -> None:
        """Gives the file the time of now, about once a second. Only the loop that would hang may call it."""
        now = time.monotonic()
        if self._path is None or not self._written or now < self._renew_at:
            return
        self._renew_at = now + RENEW_INTERVAL_S
        with contextlib.suppress(FileNotFoundError):  # A supervisor takes it away before it starts the part anew.
            os.utime(self._path)
