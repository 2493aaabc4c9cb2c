"""Charts of a run of 102 million points, with exact answers, as a console asks for them: SQL on the views over HTTP, Arrow back.

One process logs `fast` with each of 100 million calls, `loss` with every hundredth, and a hundred `layer_…` with every ten-thousandth. Rows are made inside the
engine, in the order of time, in inserts of half a million as sinks make them, at the million points a second that `sink` must hold, while ClickHouse merges as it
does; a replay inserts all of them again, and ends as `runstream replay` does, once ClickHouse has caught up. What is timed is checked against the same formula
without any table. Times are medians; a question is asked once before they count. What is fresh, and what is named replaying, is asked at once behind the last
insert, whatever ClickHouse still merges.
"""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.figures import Bar, Figure
from benchmarks.tables import empty_tables
from runstream.sql import open_answer
from runstream_schemas.settings import load
from runstream_sinks.commands.replay import SETTLE_S
from runstream_sinks.rollup import roll_up
from runstream_sinks.settle import settle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.tables import Tables

CALLS = 100_000_000
_CHUNK_CALLS = 490_000
# What sinks bring at least. The engine makes twice as many, which no pipeline on the same cores does, and its merges then fall behind (docs/decisions, 0016).
_CALLS_S_MAX = 990_000
_LOSS_EVERY, _LAYERS_EVERY, _LAYERS = 100, 10_000, 100
_SERIES = 10_000
_BLOCKS = 25  # Blocks of a rollup that make one bucket of the long series.
_RUN = "0193a1f0-0000-7000-8000-000000000001"
_WRITER = 4_611_686_018_427_387_905
_STARTED_S = 1_790_000_000
_REPEATS_MAX, _REPEATS_MIN = 25, 5
# For so long after rows of a block were inserted, it is not read through its rollup.
QUIET_S = 125.0

_OF_RUN = f"run_id = '{_RUN}' AND context = 'training' AND rank = 0"
_FIGURES = "min(value) AS low, max(value) AS high, avg(value) AS mean"


@dataclass(frozen=True, slots=True)
class Chart:
    """A question, and the same without tables: rows of numbers."""

    sql: str
    expected: str


def _value(name: str, calls: int) -> str:
    """The value that a name has at call `number`: a curve with noise that is the same whenever it is asked for, a float32 as most are."""
    return f"toFloat64(toFloat32(2 + 8 * exp(-6. * number / {calls}) + (cityHash64(number, {name}) % 2001 - 1000.) / 20000))"


def _insert(first: int, rows: int, calls: int) -> str:
    layers = f"arrayMap(one -> concat('layer_', toString(one)), range({_LAYERS}))"
    names = f"arrayConcat(['fast'], if(number % {_LOSS_EVERY} = 0, ['loss'], []), if(number % {_LAYERS_EVERY} = 0, {layers}, []))"
    return f"""
        INSERT INTO metric_points (run_id, subject, name, context, rank, step, time, writer, attempt, started, seq, value)
        SELECT '{_RUN}', '', name, 'training', 0, number, fromUnixTimestamp64Milli({_STARTED_S}000 + number * 10 + number % 5), {_WRITER}, 'attempt', {_STARTED_S}, number,
            {_value("name", calls)}
        FROM numbers({first}, {rows}) ARRAY JOIN {names} AS name
        SETTINGS optimize_on_insert = 0
    """


def _store(tables: Tables, calls: int) -> None:
    start = time.perf_counter()
    for first in range(0, calls, _CHUNK_CALLS):
        rows = min(_CHUNK_CALLS, calls - first)
        tables.server.command(_insert(first, rows, calls))
        time.sleep(max(0.0, start + (first + rows) / _CALLS_S_MAX - time.perf_counter()))


def one_series(calls: int) -> Chart:
    """The series of every hundredth call in 1,000 buckets."""
    bucket = f"intDiv(step, {calls // 1000}) AS bucket"
    value = _value("'loss'", calls)
    made = f"SELECT number AS step, {value} AS value FROM (SELECT number * {_LOSS_EVERY} AS number FROM numbers({calls // _LOSS_EVERY}))"
    return Chart(
        f"SELECT {bucket}, {_FIGURES} FROM metrics WHERE {_OF_RUN} AND name = 'loss' AND isFinite(value) GROUP BY bucket ORDER BY bucket",
        f"SELECT {bucket}, {_FIGURES} FROM ({made}) GROUP BY bucket ORDER BY bucket",
    )


def _hundred_series(calls: int) -> Chart:
    bucket = f"intDiv(step, {calls // 100}) AS bucket"
    number = f"SELECT number * {_LAYERS_EVERY} AS number, concat('layer_', toString(layer)) AS name FROM numbers({calls // _LAYERS_EVERY}) ARRAY JOIN range({_LAYERS}) AS layer"
    return Chart(
        f"SELECT name, {bucket}, {_FIGURES} FROM metrics WHERE {_OF_RUN} AND name LIKE 'layer\\\\_%' AND isFinite(value) GROUP BY name, bucket ORDER BY name, bucket",
        f"SELECT name, {bucket}, {_FIGURES} FROM (SELECT name, number AS step, {_value('name', calls)} AS value FROM ({number})) GROUP BY name, bucket ORDER BY name, bucket",
    )


def _long_series(calls: int) -> Chart:
    value = _value("'fast'", calls)
    return Chart(
        f"SELECT intDiv(block, {_BLOCKS}) AS bucket, min(min) AS low, max(max) AS high, sum(sum) / sum(count - non_finite) AS mean, min(first_step) AS first"
        f" FROM rollups WHERE {_OF_RUN} AND name = 'fast' GROUP BY bucket ORDER BY bucket",
        f"SELECT intDiv(number, {_BLOCKS * 4096}) AS bucket, {_FIGURES}, min(number) AS first"
        f" FROM (SELECT number, {value} AS value FROM numbers({calls})) GROUP BY bucket ORDER BY bucket",
    )


_LATEST = Chart(
    f"SELECT name, last, last_step FROM summaries WHERE {_OF_RUN} AND name LIKE 'series\\\\_%' ORDER BY last_step",
    f"SELECT concat('series_', toString(number)), toFloat64(number), toInt64(number) FROM numbers({_SERIES})",
)
_SUMMARIES = f"""
    INSERT INTO summary_series (run_id, name, context, rank, writer, started, next_seq, count, last, last_step)
    SELECT '{_RUN}', concat('series_', toString(number)), 'training', 0, {_WRITER}, toDateTime64({_STARTED_S}, 3), 1, 1, number, number FROM numbers({_SERIES})
"""


def check(tables: Tables, chart: Chart) -> None:
    """Raises AssertionError where the answer is not exact."""
    found, expected = (tables.server.query(sql) for sql in (chart.sql, chart.expected))
    if len(found) != len(expected) or not found:
        raise AssertionError(f"expected {len(expected)} rows, got {len(found)}: {chart.sql}")
    for row, wanted in zip(found, expected, strict=True):
        if not all(one == other or (isinstance(one, float) and math.isclose(one, other, rel_tol=1e-12)) for one, other in zip(row, wanted, strict=True)):
            raise AssertionError(f"expected {wanted}, got {row}: {chart.sql}")


def _ask(tables: Tables, chart: Chart) -> None:
    with open_answer(tables.url, chart.sql, database=tables.database, answer_format="ArrowStream") as answer:
        answer.read()


def _timed(tables: Tables, name: str, chart: Chart, bar_ms: float | None, seconds: float) -> Figure:
    """Median milliseconds of the question, from sending it to the last byte."""
    _ask(tables, chart)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while len(taken) < _REPEATS_MIN or (time.perf_counter() < end and len(taken) < _REPEATS_MAX):
        start = time.perf_counter()
        _ask(tables, chart)
        taken.append((time.perf_counter() - start) * 1000)
    return Figure(name, statistics.median(taken), "ms", len(taken), None if bar_ms is None else Bar("<=", bar_ms))


def run(seconds: float) -> Iterator[Figure]:
    """Milliseconds of each question. Making, merging, rolling up and replaying the points takes some minutes; `seconds` goes to asking."""
    with empty_tables() as tables:
        yield from measure(tables, seconds, CALLS)


def measure(tables: Tables, seconds: float, calls: int) -> Iterator[Figure]:
    """As `run`, in empty tables, with so many calls."""
    each = seconds / 7
    one, hundred, long = one_series(calls), _hundred_series(calls), _long_series(calls)
    start = time.perf_counter()
    _store(tables, calls)
    written = time.perf_counter()
    yield Figure("load_points_s", (calls + calls // _LOSS_EVERY + calls // _LAYERS_EVERY * _LAYERS) / (written - start), "points/s", 1)
    [(parts,)] = tables.server.query("SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'metric_points' AND active")
    yield Figure("parts_fresh", parts, "parts", 1)
    yield _timed(tables, "one_series_1m_ms_fresh", one, 100, each)
    yield _timed(tables, "hundred_series_10k_ms_fresh", hundred, None, each)
    check(tables, one)
    check(tables, hundred)
    tables.server.command(_SUMMARIES)
    yield _timed(tables, "latest_10k_series_ms", _LATEST, 100, each)
    check(tables, _LATEST)
    tables.server.command("OPTIMIZE TABLE metric_points FINAL")
    yield _timed(tables, "one_series_1m_ms_merged", one, 60, each)
    yield _timed(tables, "hundred_series_10k_ms", hundred, 100, each)
    time.sleep(max(0.0, written + QUIET_S - time.perf_counter()))
    done = roll_up(tables.server)
    yield Figure("rollup_points_s", done.rows / done.seconds, "points/s", 1)
    yield _timed(tables, "one_series_100m_ms", long, 1000, each)
    check(tables, long)
    _store(tables, calls)
    yield _timed(tables, "one_series_1m_ms_replaying", one, None, each)
    # As `runstream replay` ends.
    settings = load({"clickhouse_url": tables.url, "clickhouse_database": tables.database})
    settled = settle(settings, tables.database, most_s=SETTLE_S, asked=lambda: False, told=lambda _: None)
    yield Figure("replay_settle_s", settled.seconds, "s", 1)
    yield _timed(tables, "one_series_1m_ms_replayed", one, 300, each)
    check(tables, one)
