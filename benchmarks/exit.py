"""How long `finish` takes: when everything is shipped already, and with Kafka away, where it must keep to its timeout."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from typing import TYPE_CHECKING

import runstream
from benchmarks.broker import logging_to_a_broker
from benchmarks.figures import Bar, Figure
from runstream_local.ports import HOST, choose_port

if TYPE_CHECKING:
    from collections.abc import Iterator

_TIMEOUT_S = 1.0


def _shipped_ms() -> float:
    run = runstream.init(project="benchmarks", name="exit")
    for step in range(100):
        run.log({"loss": 1.0 / (step + 1)}, step=step)
    deadline = time.perf_counter() + 30.0
    while run.points_shipped < run.points_logged and time.perf_counter() < deadline:
        time.sleep(0.01)
    begun = time.perf_counter()
    if not run.finish(timeout=30.0).shipped:
        raise TimeoutError("a run whose points were all acknowledged did not finish within 30 s")
    return (time.perf_counter() - begun) * 1000.0


def _over_timeout() -> float:
    """What `finish` took over its timeout, with a broker that is not there."""
    with tempfile.TemporaryDirectory(prefix="runstream-benchmark-", ignore_cleanup_errors=True) as folder:
        os.environ |= {"RUNSTREAM_HOME": folder, "RUNSTREAM_JOURNAL_DIR": folder, "RUNSTREAM_HARDWARE_INTERVAL": "0"}
        run = runstream.init(project="benchmarks", name="exit", kafka=f"{HOST}:{choose_port()}")
        run.log({"loss": 1.0}, step=0)
        begun = time.perf_counter()
        finished = run.finish(timeout=_TIMEOUT_S)
        took = time.perf_counter() - begun
        assert not finished.shipped
        return took / _TIMEOUT_S


def run(seconds: float) -> Iterator[Figure]:
    """The median of finishes after everything was shipped, and the worst over its timeout."""
    with logging_to_a_broker():
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 5:
            times.append(_shipped_ms())
        yield Figure("finish_ms_shipped", statistics.median(times), "ms", len(times), Bar("<=", 100.0))
        over = [_over_timeout() for _ in range(3)]
        yield Figure("finish_over_timeout", max(over), "ratio", len(over), Bar("<=", 1.1))
