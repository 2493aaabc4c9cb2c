"""What the whole-pipeline benchmarks say of speed and age is what a reader can see: stored rows, each once, of every rank."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from benchmarks.pipeline import Load, names_of
from benchmarks.scale import P99_ROWS_MIN, SERIES, by_series, freshness
from benchmarks.visible import WATCHED, Reader
from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Iterator

LOAD = Load(ranks=2, names=5, calls_s=10, seconds=10, sets=2)
RUN = str(uuid.uuid4())
_INSERT = """
    INSERT INTO metric_points (run_id, name, rank, step, time, started)
    SELECT {run:UUID}, arrayJoin({names:Array(String)}), {rank:UInt32}, number, fromUnixTimestamp64Milli(toInt64(1700000000000 + number), 'UTC'), now()
    FROM numbers({first:UInt32}, {calls:UInt32})
"""


@pytest.fixture
def server(clickhouse_url: str) -> Iterator[Server]:
    """Tables of a database of its own, whose parts are not merged meanwhile."""
    name = f"t_{uuid.uuid4().hex[:10]}"
    create_database(clickhouse_url, name)
    made = Server(clickhouse_url, name)
    migrate(made)
    made.command("SYSTEM STOP MERGES metric_points")
    yield made
    made.command(f"DROP DATABASE `{name}`")
    made.close()


def log(server: Server, rank: int, first: int, calls: int) -> None:
    """Stores calls of a rank, as a sink does."""
    server.command(_INSERT, {"run": RUN, "names": names_of(LOAD, 0), "rank": rank, "first": first, "calls": calls})


@pytest.mark.stack
def test_repeats_are_no_points_and_no_rank_is_overlooked(server: Server) -> None:
    """A frame that is stored twice counts once; a rank that lags behind the other is asked for, and its rows are as old as they are."""
    reader = Reader(server, RUN, LOAD.ranks, LOAD.names)
    assert reader.new_rows() == []
    log(server, 0, 0, 40)
    assert (reader.stored().points, reader.stored().repeats) == (40 * LOAD.names, 0)
    assert reader.new_rows() == [1_700_000_000_000 + call for call in range(40)]
    log(server, 0, 30, 10)
    log(server, 0, 40, 20)
    assert (reader.stored().points, reader.stored().repeats) == (60 * LOAD.names, 10 * LOAD.names)
    assert len(reader.new_rows()) == 20
    log(server, 1, 0, 7)
    assert reader.new_rows() == [1_700_000_000_000 + call for call in range(7)]
    log(server, 1, 9, 3)
    log(server, 0, 60, 1)
    assert reader.new_rows() == [1_700_000_000_000 + call for call in (9, 10, 11, 60)]
    log(server, 1, 7, 2)
    assert reader.new_rows() == [1_700_000_000_000 + call for call in (7, 8)]
    assert reader.new_rows() == []


def test_every_call_has_one_name_that_is_watched() -> None:
    """Whatever key set is its turn's; so many names as were asked for, none of them twice."""
    sets = [names_of(LOAD, one) for one in range(LOAD.sets)]
    assert [sum(name.startswith(WATCHED) for name in one) for one in sets] == [1, 1]
    assert len({name for one in sets for name in one}) == LOAD.sets * LOAD.names
    assert [by_series(count, 12).series for count in SERIES] == list(SERIES)


def test_a_99th_percentile_is_of_a_hundred_rows() -> None:
    """Of fewer the oldest row is told, as what it is; of none, nothing."""
    assert [(one.name, one.value) for one in freshness("rate_1", [1.0] * 99 + [3.0] * (P99_ROWS_MIN - 99))] == [("freshness_p99_s.rate_1", pytest.approx(1.02))]
    assert [(one.name, one.value, one.n) for one in freshness("rate_1", [1.0] * 50 + [3.0])] == [("freshness_max_s.rate_1", 3.0, 51)]
    assert list(freshness("rate_1", [])) == []
    # Each load of `scale` makes enough of them.
    assert all(by_series(count, 12).calls_s * 12 >= P99_ROWS_MIN for count in SERIES)
