"""A replay of the whole topic over what a sink worker did with it: points a second, broker, engine and reader on the same cores; and whether tables and topics are equal afterwards.

The two take turns: new frames go through the sink into an empty table, then the topic, all of it, is replayed into the same table, where rows collapse with what is there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import Bar, Figure
from benchmarks.sink import Bench, make_frames, produce
from runstream_local.stack import Stack
from runstream_schemas.settings import load
from runstream_sinks.clickhouse import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROUNDS = 3
_LIMIT_S = 240.0
_SUM = "SELECT count(), sum(cityHash64(tuple(*))) FROM metrics"


def _command(environment: dict[str, str], *argv: str) -> dict[str, Any]:
    """The JSON object that a command writes."""
    done = subprocess.run(
        [sys.executable, "-m", "runstream.cli", *argv, "--json"], env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
    )
    if not done.stdout.startswith("{"):
        raise RuntimeError(f"{argv} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def run(seconds: float) -> Iterator[Figure]:
    """Rates of both, their ratio, and whether all is equal."""
    points = int(seconds * 1_000_000 / _ROUNDS) // 160_000 * 160_000 or 160_000
    equal = True
    with (
        tempfile.TemporaryDirectory(prefix="runstream-benchmark-", ignore_cleanup_errors=True) as name,
        Stack(data=Path(name) / "stack", parts=("kafka", "clickhouse", "topics", "migrate")) as stack,
    ):
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RUNSTREAM_")} | stack.environment
        settings = load(environ=environment)
        bench = Bench(settings, environment, Server(settings.clickhouse_url, settings.clickhouse_database), Path(name))
        for number in range(_ROUNDS):
            produce(settings, list(make_frames(points, 50, seed=number)))
            bench.empty()
            bench.sink("sink", points)
            before = bench.server.query(_SUM)
            told = _command(environment, "replay", "--topic", "metric")
            bench.note("replay", told["rows"], told["seconds"])
            if number == 0:
                equal = bench.server.query(_SUM) == before
        verified = _command(environment, "verify", "--topic", "metric")
        equal = equal and bool(verified["equal"]) and verified["tables"][0]["rows"] == points * _ROUNDS
        bench.server.close()
    yield Figure("sink_points_s", bench.rate("sink"), "points/s", _ROUNDS)
    yield Figure("replay_points_s", bench.rate("replay"), "points/s", _ROUNDS)
    yield Figure("of_sink", bench.ratio("replay", "sink"), "ratio", _ROUNDS, Bar(">=", 0.5))
    yield Figure("equal", float(equal), "bool", _ROUNDS, Bar("==", 1.0))
