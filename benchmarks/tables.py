"""An engine with the tables of this version, alone, in a temporary folder: for benchmarks of what lies in ClickHouse."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_local.stack import Stack
from runstream_sinks.clickhouse import Server

if TYPE_CHECKING:
    from collections.abc import Generator

_DATABASE = "runstream"
# What a benchmark waits for longest: rows by the hundred million, made and merged.
_TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True)
class Tables:
    """A database of this version: its address and name, and a connection to it."""

    url: str
    database: str
    server: Server


@contextmanager
def empty_tables() -> Generator[Tables]:
    """Gives tables and views without rows; nothing is left of them at the end."""
    with (
        tempfile.TemporaryDirectory(prefix="runstream-benchmark-", ignore_cleanup_errors=True) as name,
        Stack(data=Path(name) / "stack", parts=("clickhouse", "migrate")) as stack,
    ):
        server = Server(stack.clickhouse_url, _DATABASE, timeout_s=_TIMEOUT_S)
        try:
            yield Tables(stack.clickhouse_url, _DATABASE, server)
        finally:
            server.close()
