"""Journal to acknowledged by Kafka, through one agent: points a second with rows of 20 and of 1,000 names, the agent's memory, and what a rank pays that logs 1,000 points a second."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psutil

import runstream
from benchmarks.broker import logging_to_a_broker
from benchmarks.figures import Bar, Figure
from runstream_local.demo.agents import end_agents, holder
from runstream_producers.agent import LOCK_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runstream import Run

_BARS = {20: 2e6, 1000: 5e6}
_LIMIT_S = 120.0


def _agent(journals: Path) -> psutil.Process | None:
    for lock in journals.glob(f"*/{LOCK_NAME}"):
        pid = holder(lock)
        if pid is not None:
            return psutil.Process(pid)
    return None


def _deliver(run: Run, journals: Path, names: int, points: int) -> tuple[float, float]:
    """Points a second from the first new acknowledgement to the last, and the agent's greatest memory in MiB.

    Rows are written far faster than they are shipped, so that the agent always has work; time runs from when it is seen to move until everything is acknowledged.
    """
    row = {f"layer_{number}/norm": 0.5 + number for number in range(names)}
    agent = _agent(journals)
    before = run.points_shipped
    rows = points // names
    peak = 0.0
    begun = time.perf_counter()
    for step in range(rows):
        run.log(row, step=step)
    wanted = before + rows * names
    deadline = time.perf_counter() + _LIMIT_S
    while run.points_shipped < wanted:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{wanted - run.points_shipped:,} of {rows * names:,} points were not acknowledged within {_LIMIT_S:g} s")
        if agent is None:
            agent = _agent(journals)
        if agent is not None:
            peak = max(peak, agent.memory_info().rss / 2**20)
        time.sleep(0.005)
    return rows * names / (time.perf_counter() - begun), peak


def _share(run: Run, seconds: float) -> float:
    """Share of one core that logging costs a rank: 50 rows of 20 names a second, less what the same loop costs without logging."""
    row = {f"metric_{number}": 0.25 * number for number in range(20)}

    def cpu_s(log: bool) -> float:
        begun, spent = time.perf_counter(), time.process_time()
        for step in range(int(50 * seconds)):
            if log:
                run.log(row, step=step)
            time.sleep(max(0.0, begun + (step + 1) * 0.02 - time.perf_counter()))
        return (time.process_time() - spent) / (time.perf_counter() - begun)

    without = cpu_s(log=False)
    return max(0.0, cpu_s(log=True) - without)


def run(seconds: float) -> Iterator[Figure]:
    """Throughput of one agent by row width, its memory, and a rank's share of a core."""
    with logging_to_a_broker() as journals:
        peak = 0.0
        for names, bar in _BARS.items():
            with runstream.init(project="benchmarks", name=f"deliver {names}") as one:
                _deliver(one, journals, names, 200_000)  # The agent starts, and Kafka's connection with it.
                points_s, rss = _deliver(one, journals, names, int(seconds * 1e6))
                peak = max(peak, rss)
                yield Figure(f"points_s_{names}", points_s, "points/s", int(seconds * 1e6), Bar(">=", bar))
        yield Figure("peak_rss_mb", peak, "MiB", 1, Bar("<=", 200.0))
        with runstream.init(project="benchmarks", name="share") as one:
            yield Figure("core_share_1000", _share(one, max(3.0, seconds / 2)), "cores", 1, Bar("<=", 0.01))
        end_agents(journals, timeout_s=5.0)
