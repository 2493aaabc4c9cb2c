"""Bytes a point on disk, merged, of a realistic mix of series: metrics in their table, hardware readings in theirs, as sinks store them.

Four ranks, each with the four metrics and the four readings of `data/metric_mix.py`, 100,000 points each: 3.2 million points, in chunks of half a million in the
order of time. What counts is everything that the tables' parts take on disk: columns, marks, keys and indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.data import metric_mix
from benchmarks.figures import Bar, Figure
from benchmarks.tables import empty_tables
from runstream_schemas.ids import new_uuid, new_writer
from runstream_schemas.records import MetricFrame, MetricGroup
from runstream_sinks.points import PointRows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_sinks.clickhouse import Server
    from runstream_sinks.tables import Name

RANKS = 4
POINTS = 100_000
_FRAME_ROWS = 1000
_CHUNK_POINTS = 500_000
_HARDWARE = frozenset(kind for kind in metric_mix.KINDS if kind.startswith("gpu_"))
KINDS: dict[Name, tuple[str, ...]] = {
    "metric_points": tuple(kind for kind in metric_mix.KINDS if kind not in _HARDWARE),
    "hardware_points": tuple(kind for kind in metric_mix.KINDS if kind in _HARDWARE),
}


def _frames(kinds: Sequence[str], points: int) -> Iterator[MetricFrame]:
    """What the ranks send, in the order of time: each metric is logged by a call of its own, as the mix gives each its own times."""
    run_id = new_uuid()
    ranks = [(new_writer(), [metric_mix.series(kind, points, rank) for kind in kinds]) for rank in range(RANKS)]
    for first in range(0, points, _FRAME_ROWS):
        rows = slice(first, min(first + _FRAME_ROWS, points))
        for rank, (writer, series) in enumerate(ranks):
            groups = tuple(
                MetricGroup("training", "", (kind,), steps[rows] * len(kinds) + place, steps[rows], times[rows], values[rows, None])
                for place, (kind, (steps, times, values)) in enumerate(zip(kinds, series, strict=True))
            )
            next_seq = rows.stop * len(kinds)
            yield MetricFrame(run_id, writer, metric_mix.START_MS, "attempt", rank, f"node-{rank}", "benchmarks", first * len(kinds), next_seq, 0, groups)


def store(server: Server, table: Name, points: int) -> None:
    """Stores so many points of each kind that belongs into a table, from each rank."""
    rows = PointRows()
    for frame in _frames(KINDS[table], points):
        rows.add(frame)
        if rows.rows >= _CHUNK_POINTS:
            server.insert(table, rows.table())
            rows = PointRows()
    if rows.rows:
        server.insert(table, rows.table())


def bytes_of(server: Server) -> tuple[int, int]:
    """Rows and bytes on disk of both tables."""
    [(rows, size)] = server.query(
        "SELECT sum(rows), sum(bytes_on_disk) FROM system.parts WHERE database = currentDatabase() AND active AND table IN ('metric_points', 'hardware_points')"
    )
    return int(rows), int(size)


def run(seconds: float) -> Iterator[Figure]:
    """Bytes a point before and after merging, and the two columns that take most; the data are the same however long it may take."""
    del seconds
    with empty_tables() as tables:
        server = tables.server
        for table in KINDS:
            store(server, table, POINTS)
        rows, size = bytes_of(server)
        yield Figure("bytes_point_fresh", size / rows, "bytes", rows)
        for table in KINDS:
            server.command(f"OPTIMIZE TABLE {table} FINAL")
        rows, size = bytes_of(server)
        if rows != len(metric_mix.KINDS) * RANKS * POINTS:
            raise AssertionError(f"{len(metric_mix.KINDS) * RANKS * POINTS:,} points were stored and {rows:,} are there")
        yield Figure("bytes_point", size / rows, "bytes", rows, Bar("<=", 3.4))
        for column in ("value", "time"):
            [(taken,)] = server.query(
                "SELECT sum(column_bytes_on_disk) FROM system.parts_columns WHERE database = currentDatabase() AND active"
                " AND table IN ('metric_points', 'hardware_points') AND column = {column:String}",
                {"column": column},
            )
            yield Figure(f"bytes_point_{column}", int(taken) / rows, "bytes", rows)
