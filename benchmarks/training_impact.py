"""What training feels of logging: a real numpy training loop of about 5 ms a step, with 20 metrics logged after each step against without, an agent shipping to Kafka beside it.

Each round takes three blocks of five steps in a random order: plain ones, ones that log their metrics, and plain ones again; all of them compute the metrics. `slowdown_pct` is the
median over the rounds of what a logging step took more, by the clock on the wall, than a plain one of the first kind, over the median plain step; of a block its median step counts.
`slowdown_margin_pct` is how far the true median may be from it (95 %), and `noise_pct` is the same comparison of the two plain kinds: what this machine, with all that runs on it, makes a
difference of where there is none. A figure within these two is not told apart from zero.

`core_slowdown_pct` and `core_margin_pct` are the same by the time that the thread spent on a core. Both hold what it costs to find caches that our call or another process emptied. Where
others want the cores, too, a step waits for its turn in slices of milliseconds; the wall's clock counts that wait and the core's does not, so that the two tell a busy machine from a dear
call. Waiting inside of a call is rare, so that no median shows it: `log_call` looks for it call by call. `call_us` is the median `run.log` by the wall's clock.

Blocks taken by turns all have the same agent beside them, so what it takes is told apart: `agent_pct` of one core, and `threads_pct` for our threads in the training process. In a
training that fills every core these add to what logging costs.
"""

from __future__ import annotations

import os
import random
import statistics
import time
from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

import runstream
from benchmarks.broker import agent_of, logging_to_a_broker, on_core_s
from benchmarks.figures import Bar, Figure
from benchmarks.timing import ROUNDS_MIN, middle
from benchmarks.training import Training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

    from benchmarks.timing import Middle
    from runstream import Run

_AGENT_S = 20.0
_BLOCK = 5  # Steps that log, or do not, one after the other, as training's do: what a step finds in the caches is what the same kind of step left there.


class _Rounds:
    """Rounds of three blocks of steps, and for each block the nanoseconds of its middle step: on the core, and by the wall's clock."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._training = Training()
        self._draw = random.Random(0)
        self.on_core: dict[str, list[float]] = {"plain": [], "logged": [], "again": []}
        self.on_wall: dict[str, list[float]] = {"plain": [], "logged": [], "again": []}
        self.calls: list[int] = []

    def round(self) -> None:
        """Takes the three blocks."""
        for kind in self._draw.sample(list(self.on_core), 3):
            on_core, on_wall = zip(*(self._step(log=kind == "logged") for _ in range(_BLOCK)), strict=True)
            self.on_core[kind].append(statistics.median(on_core))
            self.on_wall[kind].append(statistics.median(on_wall))

    def _step(self, *, log: bool) -> tuple[int, int]:
        begun, begun_core = time.perf_counter_ns(), time.thread_time_ns()
        metrics = self._training.step()
        if log:
            before = time.perf_counter_ns()
            self._run.log(metrics, step=len(self.calls))
            self.calls.append(time.perf_counter_ns() - before)
        return time.thread_time_ns() - begun_core, time.perf_counter_ns() - begun


def _more_than_plain(taken: dict[str, list[float]], kind: str) -> Middle:
    """Per cent that a kind of step took more than the plain one of its round."""
    more = middle([one - other for one, other in zip(taken[kind], taken["plain"], strict=True)])
    share = 100.0 / statistics.median(taken["plain"])
    return more._replace(median=more.median * share, margin=more.margin * share)


def _agent(run: Run, journals: Path) -> psutil.Process:
    """The agent, once it has shipped a row, so that its start is over."""
    run.log({"begun": 1.0})
    deadline = time.perf_counter() + _AGENT_S
    while not run.points_shipped or (agent := agent_of(journals)) is None:
        if time.perf_counter() > deadline:
            raise TimeoutError(f"no agent has shipped a row within {_AGENT_S:g} s")
        time.sleep(0.02)
    return agent


def _spent_s(agent: psutil.Process) -> tuple[float, float]:
    """Seconds on a core of the other threads of this process, and of the agent."""
    return time.process_time() - time.thread_time(), on_core_s(agent)


def run(seconds: float) -> Iterator[Figure]:
    """The slowdown in per cent with its margin, and where logging takes time."""
    with logging_to_a_broker() as journals, threadpool_limits(1):
        os.environ.pop("RUNSTREAM_HARDWARE_INTERVAL")  # The agent samples the machine as it does beside any training.
        with runstream.init(project="benchmarks", name="training_impact") as one:
            yield from _figures(one, journals, seconds)


def _figures(one: Run, journals: Path, seconds: float) -> Iterator[Figure]:
    agent = _agent(one, journals)
    rounds = _Rounds(one)
    begun, (threads_s, agent_s) = time.perf_counter(), _spent_s(agent)
    while time.perf_counter() - begun < seconds or len(rounds.on_core["plain"]) < ROUNDS_MIN:
        rounds.round()
    wall_s, (threads_end_s, agent_end_s) = time.perf_counter() - begun, _spent_s(agent)
    n = len(rounds.on_core["plain"])
    slowdown, noise, on_core = (_more_than_plain(*of) for of in ((rounds.on_wall, "logged"), (rounds.on_wall, "again"), (rounds.on_core, "logged")))
    yield Figure("slowdown_pct", slowdown.median, "%", n, Bar("<=", 0.5))
    yield Figure("slowdown_margin_pct", slowdown.margin, "%", n)
    yield Figure("noise_pct", abs(noise.median), "%", n)
    yield Figure("core_slowdown_pct", on_core.median, "%", n)
    yield Figure("core_margin_pct", on_core.margin, "%", n)
    yield Figure("call_us", statistics.median(rounds.calls) / 1e3, "µs", n)
    yield Figure("agent_pct", 100.0 * (agent_end_s - agent_s) / wall_s, "% of a core", n)
    yield Figure("threads_pct", 100.0 * (threads_end_s - threads_s) / wall_s, "% of a core", n)
    yield Figure("step_ms", statistics.median(rounds.on_wall["plain"]) / 1e6, "ms", n)
    yield Figure("points_logged", float(one.points_logged), "points", n)
