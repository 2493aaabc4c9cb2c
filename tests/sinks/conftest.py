"""A database of its own for each test that asks for one, with all tables."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from runstream_producers.topics import ensure_topics
from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.migrations import migrate
from tests.sinks.proxy import Proxy
from tests.sinks.workers import Pipe, closing, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# No deadline: the machine is shared, and a slow example says nothing about the code.
settings.register_profile("sinks", deadline=None, max_examples=80)
settings.load_profile("sinks")


@pytest.fixture
def database(clickhouse_url: str) -> Iterator[str]:
    """Name of an empty database with all tables and views."""
    name = f"t_{uuid.uuid4().hex[:10]}"
    create_database(clickhouse_url, name)
    server = Server(clickhouse_url, name)
    migrate(server)
    server.close()
    yield name
    server = Server(clickhouse_url, None)
    server.command(f"DROP DATABASE `{name}`")
    server.close()


@pytest.fixture
def server(clickhouse_url: str, database: str) -> Iterator[Server]:
    """The real engine, in the test's own database."""
    made = Server(clickhouse_url, database)
    yield made
    made.close()


@pytest.fixture
def pipe(kafka: str, clickhouse_url: str, database: str, tmp_path: Path) -> Iterator[Pipe]:
    """Topics and tables of the test's own, without a worker yet."""
    settings = settings_of(kafka, clickhouse_url, database)
    ensure_topics(settings)
    yield from closing(Pipe(settings, tmp_path))


@pytest.fixture
def proxy(clickhouse_url: str) -> Iterator[Proxy]:
    """Between a worker and ClickHouse, for who asks for its `url`."""
    made = Proxy(clickhouse_url)
    yield made
    made.close()
