"""Journal to acknowledged by Kafka, through one agent: points a second with rows of 20 and of 1,000 names, the agent's memory, and what a rank that logs 1,000 points a second costs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import runstream
from benchmarks.broker import agent_of, logging_to_a_broker, on_core_s
from benchmarks.figures import Bar, Figure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runstream import Run

_BARS = {20: 2e6, 1000: 5e6}
_LIMIT_S = 120.0


def _deliver(run: Run, journals: Path, names: int, points: int) -> tuple[float, float]:
    """Points a second from the first row that is logged to the last acknowledgement, and the agent's greatest memory in MiB. Rows are written faster than they are shipped, so that the
    agent always has work.
    """
    row = {f"layer_{number}/norm": 0.5 + number for number in range(names)}
    agent = agent_of(journals)
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
            agent = agent_of(journals)
        if agent is not None:
            peak = max(peak, agent.memory_info().rss / 2**20)
        time.sleep(0.005)
    return rows * names / (time.perf_counter() - begun), peak


def _shares(run: Run, journals: Path, seconds: float) -> tuple[float, float]:
    """Shares of one core: what 50 rows of 20 names a second cost, this process less what the same loop costs without logging and the agent less what it takes beside a rank that
    logs nothing; and that, the agent at rest.
    """
    row = {f"metric_{number}": 0.25 * number for number in range(20)}
    run.log(row)
    deadline = time.perf_counter() + _LIMIT_S
    while run.points_shipped < run.points_logged or (agent := agent_of(journals)) is None:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"no agent shipped a row within {_LIMIT_S:g} s")
        time.sleep(0.02)

    def shares(*, log: bool) -> tuple[float, float]:
        begun, rank_s, agent_s = time.perf_counter(), time.process_time(), on_core_s(agent)
        for step in range(int(50 * seconds)):
            if log:
                run.log(row, step=step)
            time.sleep(max(0.0, begun + (step + 1) * 0.02 - time.perf_counter()))
        took_s = time.perf_counter() - begun
        return (time.process_time() - rank_s) / took_s, (on_core_s(agent) - agent_s) / took_s

    loop, at_rest = shares(log=False)
    rank, shipping = shares(log=True)
    return max(0.0, rank - loop + shipping - at_rest), at_rest


def run(seconds: float) -> Iterator[Figure]:
    """Throughput of one agent by row width, its memory, a rank's share of a core in both processes, and the agent's own beside a rank at rest."""
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
            share, at_rest = _shares(one, journals, max(0.5, seconds / 2))
            yield Figure("core_share_1000", share, "cores", 1, Bar("<=", 0.01))
            yield Figure("agent_share_idle", at_rest, "cores", 1)
