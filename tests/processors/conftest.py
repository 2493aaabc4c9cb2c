"""A database of its own for each test that asks for one, with all tables."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def database(clickhouse_url: str) -> Iterator[str]:
    """Name of an empty database with all tables and views."""
    name = f"t_{uuid.uuid4().hex[:10]}"
    create_database(clickhouse_url, name)
    server = Server(clickhouse_url, name)
    migrate(server)
    yield name
    server.command(f"DROP DATABASE `{name}`")
    server.close()
