"""Hardware readings of the runs on this node: a journal of its own for each run that has living ranks here, shipped like any other.

What is read, `hardware` knows; this module knows for which runs, when, and where it goes. A rank says in its identity how often its run wants to be read (`INTERVAL`).
"""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_producers.errors import JournalError
from runstream_producers.journal.writer import JournalWriter
from runstream_schemas import ids

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runstream_producers.hardware import Sampler
    from runstream_producers.journal import format as fmt

_log = logging.getLogger("runstream.agent")

SEGMENT_BYTES = 1 << 20
BYTES_MAX = 64 << 20  # Of readings that no Kafka has taken: days of them.
WAIT_S = 0.03  # For a round, which nearly always is over by then; otherwise it is looked after when the agent comes by again.
# Of a rank's environment: how often its run wants to be read, and in which namespace its process id is one.
INTERVAL, NAMESPACE = "hardware_interval_s", "pid_namespace"


@dataclass(slots=True)
class _Run:
    """A run with living ranks here: its journal once there is something to write, when it is due, and the processes of its ranks."""

    rank: fmt.Identity
    interval_s: float
    next_at: float
    pids: dict[int, int]
    writer: JournalWriter | None = None
    given_up: bool = False


class Readings:
    """The readings of one agent; `interval_s` is how often a run is read that does not say how often, 0 for never."""

    def __init__(self, folder: Path, sampler: Sampler, interval_s: float) -> None:
        self._folder = folder
        self._sampler = sampler
        self._interval_s = interval_s
        self._runs: dict[str, _Run] = {}
        self._round: list[str] = []  # The runs for which a round is under way.
        self._namespace = namespace()

    def take(self, ranks: Iterable[fmt.Identity], now: float) -> None:
        """Begins what is due at `now` for the runs of these living ranks, and writes down what has come; the readings of a run end with its last rank."""
        self._meet(ranks, now)
        if not self._round:
            # The node is read once for all, so runs meet in one round: what is due within it is taken along.
            if not any(now >= run.next_at for run in self._runs.values()):
                return
            self._round = [run_id for run_id, run in self._runs.items() if now >= run.next_at - 0.1 * run.interval_s]
            for run_id in self._round:
                self._runs[run_id].next_at = now + self._runs[run_id].interval_s
            self._sampler.begin(now, {pid for run_id in self._round for pid in self._runs[run_id].pids})
        taken = self._sampler.taken(now, WAIT_S)
        if taken is None:
            return
        for run_id in self._round:
            run = self._runs.get(run_id)
            if run is not None:
                readings = taken.of_run(run.pids)
                writer = run.writer or self._begin(run)
                if writer is not None and readings:
                    writer.log(readings)
        self._round = []

    def _meet(self, ranks: Iterable[fmt.Identity], now: float) -> None:
        by_run: dict[str, list[fmt.Identity]] = {}
        for one in ranks:
            by_run.setdefault(one.run_id, []).append(one)
        for run_id in [run_id for run_id in self._runs if run_id not in by_run]:
            writer = self._runs.pop(run_id).writer
            if writer is not None:
                writer.close("finished", "the last rank of the run on this node ended")
        for run_id, identities in by_run.items():
            interval_s = min((found for one in identities if (found := interval_of(one.environment, self._interval_s)) > 0), default=0.0)
            if interval_s <= 0:
                continue
            run = self._runs.get(run_id)
            if run is None:
                run = self._runs[run_id] = _Run(identities[0], interval_s, now, {})
            run.interval_s = interval_s
            # Of a rank and the children that it forked, which are writers of their own, it is the rank that is meant.
            here = [one for one in identities if one.environment.get(NAMESPACE, self._namespace) == self._namespace]
            run.pids = {one.pid: one.rank for one in here if one.environment.get("forked") != "true"} or {one.pid: one.rank for one in here}

    def _begin(self, run: _Run) -> JournalWriter | None:
        if run.given_up:
            return None

        def identity() -> fmt.Identity:
            started_ms = time.time_ns() // 1_000_000
            known = dict(self._sampler.described)
            return replace(
                run.rank, writer=ids.new_writer(), kind="hardware", host=socket.gethostname(), pid=os.getpid(), started_ms=started_ms, environment=known
            )

        def report(_key: str, sentence: str) -> None:
            _log.warning("hardware readings: %s", sentence)

        try:
            run.writer = JournalWriter(self._folder, identity, segment_bytes=SEGMENT_BYTES, bytes_max=BYTES_MAX, report=report)
        except (OSError, JournalError) as error:
            run.given_up = True
            _log.warning("hardware readings have no journal error=%s", error)
        return run.writer

    def close(self) -> None:
        """Ends the journals of all runs, and the sampler."""
        for run in self._runs.values():
            if run.writer is not None:
                run.writer.close("finished", "the agent ended")
        self._runs.clear()
        self._round = []
        self._sampler.close()


def namespace() -> str:
    """The namespace of this process's ids; empty where there is no such thing. Ranks in a container have ids that mean other processes, or none, to an agent outside of it."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def interval_of(environment: Mapping[str, str], otherwise_s: float) -> float:
    """How often a rank wants its run read, in seconds; 0 for never."""
    try:
        return float(environment.get(INTERVAL, otherwise_s))
    except ValueError:
        return otherwise_s
