"""The wait behind a replay: for merges that take long, and for nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from runstream_schemas.settings import load
from runstream_sinks.clickhouse import Server
from runstream_sinks.errors import SinksError
from runstream_sinks.settle import Calm, Merging, look, settle
from tests.sinks.workers import wait_for


def test_calm_is_two_seconds_without_a_long_merge() -> None:
    """A merge begins the wait anew, since another may follow where one has ended."""
    calm = Calm(100.0)
    looks = [(100.5, 0), (101.0, 1), (102.9, 0), (103.1, 0)]
    assert [calm.look(Merging(merges, 7), now) for now, merges in looks] == [False, False, False, True]


def _mutate(url: str, database: str) -> None:
    """Three seconds of work on a table, as a long merge is."""
    server = Server(url, database)
    server.command("ALTER TABLE slow UPDATE two = one + sleepEachRow(0.25) WHERE one >= 0")
    server.close()


@pytest.mark.stack
def test_it_waits_for_what_clickhouse_still_does(clickhouse_url: str, database: str) -> None:
    """A mutation of three seconds stands for a merge, and is waited for to its end; a bound and a request end the wait."""
    settings = load({"clickhouse_url": clickhouse_url, "clickhouse_database": database})
    server = Server(clickhouse_url, database)
    server.command("CREATE TABLE slow (one UInt64, two UInt64) ENGINE = MergeTree ORDER BY one")
    server.command("INSERT INTO slow SELECT number, 0 FROM numbers(12)")
    with ThreadPoolExecutor(1) as pool:
        mutation = pool.submit(_mutate, clickhouse_url, database)
        wait_for(lambda: look(server, database, None).merges == 1, "a long mutation")
        bounded = settle(settings, database, most_s=0.1, asked=lambda: False, told=lambda _: None)
        stopped = settle(settings, database, most_s=60, asked=lambda: True, told=lambda _: None)
        assert [bounded.calm, stopped.calm] == [False, False]
        seen: list[Merging] = []
        settled = settle(settings, database, most_s=60, asked=lambda: False, told=seen.append)
        assert mutation.done()
    assert settled.calm
    assert seen[0].merges == 1
    assert settled.last == seen[-1] == look(server, database, None)
    server.close()


@pytest.mark.stack
def test_a_cluster_that_is_not_there_is_named(clickhouse_url: str, database: str) -> None:
    """The error says which, as ClickHouse does."""
    server = Server(clickhouse_url, database)
    with pytest.raises(SinksError, match="nowhere"):
        look(server, database, "nowhere")
    server.close()
