"""How the cost of each stage grows with the rate, from 10 thousand to a million points a second, and with the number of series, from 10 to a million.

Each load is offered for a while (`--seconds`, 12 at least) to a pipeline of its own. By the rate: 4,000 series of four ranks. By series: 100,000 points a second of one rank
(of eight for a million), whose calls have up to 1,000 names each, of as many key sets in turn as it takes. `us_…` is a stage's time on a core, in microseconds for a thousand points;
what a stage does whatever the rate (heartbeats, looking, merging) weighs on few points. `points_s` is what ranks logged, `stored_points_s` what became readable meanwhile; rows come
about once a second, so that a short load shows less or more of them. `freshness_p99_s` tells whether the load was sustained: where it grows with the seconds, it was not. It is of all
ranks and key sets, one row a call; where calls were fewer than a hundred, the oldest row is told instead, as `freshness_max_s`. A part that ended under its load is among the `restarts`:
what is told of its cost is that of the one in its place alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.figures import Figure
from benchmarks.pipeline import STAGES, Load, pipeline, run_load

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SECONDS_MIN = 12.0
RATES = (10_000, 30_000, 100_000, 300_000, 600_000, 1_000_000)
SERIES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
_RANKS, _NAMES = 4, 1_000
_SERIES_POINTS_S = 100_000
_SERIES_OF_RANK_MAX = 125_000  # Processors follow 200,000 series of a writer.
P99_ROWS_MIN = 100


def by_rate(points_s: int, seconds: float) -> Load:
    """A load of so many points a second."""
    return Load(_RANKS, _NAMES, points_s / (_RANKS * _NAMES), seconds)


def by_series(series: int, seconds: float) -> Load:
    """A load of so many series, of as many ranks as it takes for each to have no more than processors follow."""
    ranks, names = max(1, series // _SERIES_OF_RANK_MAX), min(series, _NAMES)
    return Load(ranks, names, _SERIES_POINTS_S / (ranks * names), seconds, sets=series // (ranks * names))


def freshness(name: str, ages: Sequence[float]) -> Iterator[Figure]:
    """How old rows were, by as much as so many can tell; nothing where none came."""
    if len(ages) >= P99_ROWS_MIN:
        yield Figure(f"freshness_p99_s.{name}", float(np.percentile(ages, 99)), "s", len(ages))
    elif ages:
        yield Figure(f"freshness_max_s.{name}", max(ages), "s", len(ages))


def run(seconds: float) -> Iterator[Figure]:
    """Figures of each load, named for it."""
    seconds = max(seconds, _SECONDS_MIN)
    loads = [(f"rate_{rate}", by_rate(rate, seconds)) for rate in RATES] + [(f"series_{count}", by_series(count, seconds)) for count in SERIES]
    for name, load in loads:
        with pipeline() as journals:
            seen = run_load(load, journals)
        yield Figure(f"points_s.{name}", seen.points / seen.lasted_s, "points/s", load.ranks)
        yield Figure(f"stored_points_s.{name}", seen.stored_points_s, "points/s", seen.stored_points)
        yield from freshness(name, seen.row_ages)
        yield Figure(f"restarts.{name}", seen.restarts, "parts", 1)
        yield Figure(f"balanced.{name}", float(seen.balanced), "share", load.ranks)
        for stage in STAGES:
            yield Figure(f"us_{stage}.{name}", 1e9 * seen.on_core_s.get(stage, 0.0) / seen.counted_points, "µs/1,000 points", 1)
        for stage, rss_mb in seen.rss_mb.items():
            yield Figure(f"rss_mb_{stage}.{name}", rss_mb, "MiB", 1)
