"""A simulated fleet through the whole pipeline of this machine: 1,000 ranks with 1,000 metrics each, a million series and 100 million points in one run.

`runstream simulate` logs as fast as everything ships, the restart after a lost node included. Every second the resident memory of each part is looked at: `rss_mb_…` is the
median over the last quarter of the time, `growth_…` that over the median of the second quarter, by when all series are known. It goes on until every point is stored;
`balanced` is the account of each of the 2,000 writers.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.figures import Bar, Figure
from benchmarks.pipeline import OnCore, pipeline
from runstream_schemas.settings import load
from runstream_sinks.clickhouse import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

_RANKS, _METRICS = 1_000, 1_000
POINTS = 100_000_000
_RATE = 0.01
_LOOK_S = 1.0  # Between looks at memory and counts, which nothing tells of by itself.
_LIMIT_S = 1_800.0
_GROWTH = {"agent": 1.25, "kafka": 1.25, "processors": 1.25, "sinks": 1.25, "clickhouse": 1.5, "ranks": 1.25}


def run(seconds: float) -> Iterator[Figure]:  # noqa: ARG001 - it takes what a hundred million points take
    """Rate, account and memory."""
    # A lost node takes up to a checkpoint's interval again: a twentieth.
    steps = POINTS // (_RANKS * _METRICS)
    argv = ["--ranks", str(_RANKS), "--metrics", str(_METRICS), "--rate", str(_RATE), "--hours", str(steps / _RATE / 3600.0), "--json"]
    with pipeline() as journals:
        watch, begun = OnCore(journals), time.monotonic()
        ranks = subprocess.Popen([Path(sys.executable).with_name("runstream"), "simulate", *argv], stdout=subprocess.PIPE, text=True)
        seen: list[dict[str, float]] = []
        server = Server(load().clickhouse_url, load().clickhouse_database, timeout_s=300.0)
        try:
            process = psutil.Process(ranks.pid)
            while ranks.poll() is None:
                with process.oneshot():
                    own = 0.0 if process.status() == psutil.STATUS_ZOMBIE else process.memory_info().rss / 2**20
                seen.append(watch.look()[1] | ({"ranks": own} if own else {}))
                if time.monotonic() - begun > _LIMIT_S:
                    raise TimeoutError(f"the fleet was not through after {_LIMIT_S:g} s")
                time.sleep(_LOOK_S)
            logged_s = time.monotonic() - begun
            assert ranks.stdout is not None
            said = json.loads(ranks.stdout.read())
            run_id = {"run_id": said["run_id"]}
            stored = 0
            while stored < said["points"] and time.monotonic() - begun < _LIMIT_S:
                time.sleep(_LOOK_S)
                seen.append(watch.look()[1])
                [(stored,)] = server.query("SELECT count() FROM metrics WHERE run_id = {run_id:UUID}", run_id)
            stored_s = time.monotonic() - begun
            bad, writers = 1, 0
            while bad and time.monotonic() - begun < _LIMIT_S:  # Their last heartbeats are on their way.
                [(bad, writers)] = server.query(
                    "SELECT countIf(NOT balanced OR state = 'running'), count() FROM account WHERE run_id = {run_id:UUID} AND kind = 'rank'", run_id
                )
                time.sleep(_LOOK_S)
            [(series,)] = server.query("SELECT count() FROM (SELECT DISTINCT name, rank FROM metrics WHERE run_id = {run_id:UUID})", run_id)
        finally:
            ranks.kill()
            ranks.wait()
            server.close()
    yield Figure("points", stored, "points", 1, Bar(">=", POINTS))
    yield Figure("series", series, "series", 1, Bar(">=", _RANKS * _METRICS))
    yield Figure("writers", writers, "writers", 1)
    yield Figure("shipped_points_s", said["points"] / logged_s, "points/s", 1)
    yield Figure("stored_points_s", stored / stored_s, "points/s", 1)
    yield Figure("dropped", said["dropped"], "points", 1, Bar("==", 0))
    yield Figure("balanced", float(bad == 0 and stored == said["points"]), "share", writers, Bar("==", 1))
    for stage, most in _GROWTH.items():
        values = [one[stage] for one in seen if stage in one]
        early, late = (statistics.median(part) for part in (values[len(values) // 4 : len(values) // 2], values[3 * len(values) // 4 :]))
        yield Figure(f"rss_mb_{stage}", late, "MiB", len(values))
        yield Figure(f"growth_{stage}", late / early, "ratio", len(values), Bar("<=", most))
