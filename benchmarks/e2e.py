"""The whole pipeline on this machine, at a sustained load: four ranks of 1,000 names, their agent, Kafka, a processor with rules, a sink, the engine, all on the same cores.

For 60 seconds (`--seconds` below 60 changes nothing) ranks log 560,000 points a second, float32 readings around curves and schedules, of which no row repeats (`distinct_rows` of
each rank). That rate is `offered_points_s`. `points_s` is what came of it at the other end: points that became readable in ClickHouse over the minute that counts, by the seconds
between the two looks, with rows that are there twice left out (`repeats`). It falls where any stage is slower than the ranks. How old rows (of all ranks, one of a thousand names)
and alerts (of all ranks in turn) are when they can be read tells whether everything keeps up, and `drained_s` how long after the last call all rows could be read. `balanced` says
that what was logged, shipped and stored is the same for each rank afterwards. Each stage's share is told in cores.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Bar, Figure
from benchmarks.pipeline import STAGES, Load, bytes_a_point, pipeline, run_load

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOAD_S = 60.0
_RANKS, _NAMES, _CALLS_S = 4, 1000, 140.0


def run(seconds: float) -> Iterator[Figure]:
    """Points a second, ages, the balance, and cores by stage."""
    load = Load(_RANKS, _NAMES, _CALLS_S, max(_LOAD_S, seconds))
    with pipeline() as journals:
        seen = run_load(load, journals)
        bytes_kafka, bytes_clickhouse = bytes_a_point(seen.points)
    rows, alerts = len(seen.row_ages), len(seen.alert_ages)
    yield Figure("points_s", seen.stored_points_s, "points/s", seen.stored_points, Bar(">=", 500_000))
    yield Figure("offered_points_s", seen.points / seen.lasted_s, "points/s", load.ranks)
    yield Figure("repeats", seen.repeats, "rows", load.ranks)
    yield Figure("restarts", seen.restarts, "parts", 1)
    yield Figure("drained_s", seen.drained_s, "s", 1)
    yield Figure("points_logged", seen.points, "points", load.ranks, Bar(">=", 1))
    yield Figure("distinct_rows", load.calls, "rows", load.ranks)
    yield Figure("balanced", float(seen.balanced), "share", load.ranks, Bar("==", 1))
    yield Figure("freshness_p50_s", float(np.percentile(seen.row_ages, 50)), "s", rows)
    yield Figure("freshness_p99_s", float(np.percentile(seen.row_ages, 99)), "s", rows, Bar("<=", 5.0))
    yield Figure("alert_p50_s", float(np.percentile(seen.alert_ages, 50)), "s", alerts)
    yield Figure("alert_p95_s", float(np.percentile(seen.alert_ages, 95)), "s", alerts, Bar("<=", 2.0))
    yield Figure("alerts_share", alerts / (2 * load.alarms), "share", alerts, Bar("==", 1))
    for stage in STAGES:
        yield Figure(f"cores_{stage}", seen.on_core_s[stage] / seen.counted_s, "cores", 1)
        if stage in seen.rss_mb:
            yield Figure(f"rss_mb_{stage}", seen.rss_mb[stage], "MiB", 1)
    yield Figure("bytes_point_kafka", bytes_kafka, "bytes", seen.points)
    yield Figure("bytes_point_clickhouse", bytes_clickhouse, "bytes", seen.points)
