"""`log()` to visible in a SELECT, at 100,000 points a second: a rank in its own process, its agent, Kafka, one sink worker and the engine, all on the same cores.

Each row carries the time of its `log` call. A reader asks the view `metrics` for rows that it has not seen yet, again and again; a row is as old as the answer that
first has it. So the age holds the wait for the next look, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import numpy as np

import runstream
from benchmarks.broker import logging_to_a_broker
from benchmarks.figures import Bar, Figure
from runstream_schemas.ids import new_uuid
from runstream_schemas.settings import load
from runstream_sinks.clickhouse import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = 100
_ROWS_S = 1000
_BURST_S = 0.01
# The agent, its connections and the first chunk come up meanwhile; rows of this time do not count.
_WARM_S = 4.0
_LOOK_S = 0.02
_QUIET_S = 3.0
_NEW = (
    "SELECT step, toUnixTimestamp64Milli(time) FROM metrics "
    "WHERE run_id = {run_id:UUID} AND name = 'metric_0' AND context = '' AND subject = '' AND rank = 0 AND step > {last:Int64} ORDER BY step"
)


def _rank(run_id: str, seconds: float) -> None:
    """Logs rows of 100 names, 1,000 a second, in bursts of ten."""
    os.environ["RUNSTREAM_RUN_ID"] = run_id
    random = np.random.default_rng(0)
    values: list[list[float]] = random.normal(1.0, 0.1, (997, _NAMES)).tolist()
    names = [f"metric_{number}" for number in range(_NAMES)]
    rows = [dict(zip(names, one, strict=True)) for one in values]
    with runstream.init(project="benchmarks", name="freshness") as run:
        begun, step = time.monotonic(), 0
        while (spent := time.monotonic() - begun) < seconds:
            while step < spent * _ROWS_S:
                run.log(rows[step % len(rows)], step=step)
                step += 1
            time.sleep(_BURST_S)


def _ages_s(server: Server, run_id: str, rank: subprocess.Popen[bytes]) -> tuple[list[float], float]:
    """For each row how old it was when it was seen first, until the rank has ended and nothing more comes; and points a second as logged."""
    seen: list[tuple[int, float]] = []
    last, quiet_since = -1, time.monotonic()
    while rank.poll() is None or time.monotonic() - quiet_since < _QUIET_S:
        found = server.query(_NEW, {"run_id": run_id, "last": last})
        now_ms = time.time() * 1000.0
        if found:
            seen += [(logged, (now_ms - logged) / 1000.0) for _, logged in found]
            last, quiet_since = int(found[-1][0]), time.monotonic()
        time.sleep(_LOOK_S)
    if rank.returncode or not seen:
        raise TimeoutError(f"the rank ended with {rank.returncode}, and {len(seen)} rows could be read")
    first_ms = seen[0][0]
    counted = [age for logged, age in seen if logged >= first_ms + _WARM_S * 1000.0]
    return counted, _NAMES * len(seen) / ((seen[-1][0] - first_ms) / 1000.0)


def run(seconds: float) -> Iterator[Figure]:
    """Median and 99th percentile of the ages."""
    with logging_to_a_broker("clickhouse", "migrate", "sinks"):
        settings = load()
        run_id = new_uuid()
        server = Server(settings.clickhouse_url, settings.clickhouse_database)
        rank = subprocess.Popen([sys.executable, "-m", "benchmarks.freshness", run_id, str(_WARM_S + seconds)])
        try:
            ages, points_s = _ages_s(server, run_id, rank)
        finally:
            rank.kill()
            rank.wait()
            server.close()
    yield Figure("points_s", points_s, "points/s", len(ages) * _NAMES)
    yield Figure("p50_s", float(np.percentile(ages, 50)), "s", len(ages), Bar("<=", 1.0))
    yield Figure("p99_s", float(np.percentile(ages, 99)), "s", len(ages), Bar("<=", 3.0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run_id")
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    _rank(arguments.run_id, arguments.seconds)
