"""A run of 105,000 rows read back into arrays by `runstream.read.metrics`, and one series of it, over ClickHouse's HTTP interface: seconds, beside a bare SELECT of the same rows."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benchmarks.figures import Bar, Figure
from benchmarks.tables import empty_tables
from runstream import read
from runstream.sql import ask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROWS, NAMES = 105_000, 10
_RUN = "0193a1f0-0000-7000-8000-000000000002"
_INSERT = f"""
    INSERT INTO metric_points (run_id, subject, name, context, rank, step, time, writer, attempt, started, seq, value)
    SELECT '{_RUN}', '', concat('metric_', toString(number % {NAMES})), 'training', 0, intDiv(number, {NAMES}), fromUnixTimestamp64Milli(1790000000000 + number), 7, 'attempt',
        1790000000, intDiv(number, {NAMES}), number / 7
    FROM numbers({ROWS})
"""
_REPEATS = 7


def _median(call: Callable[[], object]) -> float:
    call()
    taken: list[float] = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def run(seconds: float) -> Iterator[Figure]:  # noqa: ARG001 - it takes what it takes, some seconds
    """Yields its figures."""
    with empty_tables() as tables:
        tables.server.command(_INSERT)
        url, database = tables.url, tables.database
        found = read.metrics(_RUN, url=url, database=database)
        rows = sum(len(one.values) for one in found)
        right = all(one.values[step] == (step * NAMES + place) / 7 for place, one in enumerate(found) for step in (0, 1000, 10_499))
        whole = _median(lambda: read.metrics(_RUN, url=url, database=database))
        single = _median(lambda: read.metrics(_RUN, "metric_3", url=url, database=database))
        table = _median(lambda: read.metrics_table(_RUN, url=url, database=database))
        bare = _median(lambda: ask(url, f"SELECT step, value FROM metrics WHERE run_id = '{_RUN}'", database=database, answer_format="RowBinary"))
        yield Figure("rows", float(rows if right else 0), "rows", 1, Bar(">=", float(ROWS)))
        yield Figure("all_series_s", whole, "s", _REPEATS, Bar("<=", 1.0))
        yield Figure("one_series_s", single, "s", _REPEATS, Bar("<=", 1.0))
        yield Figure("arrow_table_s", table, "s", _REPEATS, Bar("<=", 1.0))
        yield Figure("bare_select_s", bare, "s", _REPEATS)
