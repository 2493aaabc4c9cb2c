"""Drives a simulated fleet: a journal for each rank in this one process, one agent that ships them all, and a pace that never outruns it.

Rows carry simulated times, so that hours of training pass in minutes. A rank is a writer like any other: what is lost here would be lost there. The pace waits for the shipper, since
what a real fleet spreads over its nodes' disks stands on one here.
"""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runstream_local.simulate.signals import RANKS_A_NODE, Attempt, Fleet
from runstream_producers.journal import format as fmt
from runstream_producers.journal.writer import JournalWriter
from runstream_producers.paths import agent_folder
from runstream_schemas import ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runstream import Run
    from runstream_schemas.settings import Settings

_SEGMENT_BYTES = 1 << 20
_BYTES_MAX = 64 << 20  # Of one rank; the pace keeps far below it.
_BEHIND_POINTS_MAX = 4_000_000  # What may be logged and not yet acknowledged.
_PROBES = 32  # Ranks whose acknowledgements are looked at.
_LOOK_S = 0.02
_FILES_A_RANK = 4


@dataclass(slots=True)
class Progress:
    """How far a simulation is: points logged, simulated seconds, and points that were dropped."""

    points: int = 0
    simulated_s: float = 0.0
    dropped: int = 0
    writers: int = 0
    waited_s: float = 0.0
    reports: dict[str, str] = field(default_factory=dict[str, str])


class Simulation:
    """Logs a fleet's signals as ranks of a run; `points_s` holds it to so many points a second, 0 for as many as can be shipped."""

    def __init__(self, fleet: Fleet, run: Run, settings: Settings, *, points_s: float, started_s: float) -> None:
        self._fleet = fleet
        self._run = run
        self._folder = agent_folder(settings)
        self._points_s = points_s
        self._started_s = started_s
        self.progress = Progress()
        self.folders: list[Path] = []

    def steps(self) -> Iterator[Progress]:
        """Runs it, and gives the progress after each step of all ranks. Raises OSError where the machine allows too few open files for so many ranks."""
        _allow_files(_FILES_A_RANK * 2 * self._fleet.ranks + 256)
        begun = time.monotonic()
        offset_s = 0.0
        for attempt in self._fleet.attempts():
            writers = [self._writer(rank, attempt, offset_s) for rank in range(self._fleet.ranks)]
            for step in range(attempt.first, attempt.end):
                now_s = self._started_s + offset_s + (step - attempt.first) * self._fleet.step_s
                for rank, writer in enumerate(writers):
                    # Ranks log within the step, each at a moment of its own.
                    writer.log(self._fleet.row(rank, step, attempt.number), step, time=now_s + 0.5 * self._fleet.step_s * rank / self._fleet.ranks)
                self.progress.points += self._fleet.ranks * len(self._fleet.names)
                self.progress.simulated_s = now_s - self._started_s
                self._keep_pace(writers, begun)
                yield self.progress
            offset_s += (attempt.end - attempt.first) * self._fleet.step_s + 60.0  # A minute until the job is back.
            self._end(writers, attempt)
            yield self.progress

    def _writer(self, rank: int, attempt: Attempt, offset_s: float) -> JournalWriter:
        fleet = self._fleet
        identity = fmt.Identity(
            writer=ids.new_writer(),
            run_id=self._run.id,
            project=self._run.project,
            kind="rank",
            rank=rank,
            local_rank=rank % RANKS_A_NODE,
            world_size=fleet.ranks,
            node=f"node-{rank // RANKS_A_NODE:04d}",
            host=f"node-{rank // RANKS_A_NODE:04d}",
            pid=os.getpid(),
            attempt=f"{self._run.id}-{attempt.number}",
            started_ms=int((self._started_s + offset_s) * 1000.0),
            environment={"simulated": "true"},
        )
        writer = JournalWriter(self._folder, lambda: identity, segment_bytes=_SEGMENT_BYTES, bytes_max=_BYTES_MAX, report=self._report)
        self.folders.append(writer.folder.path)
        self.progress.writers += 1
        return writer

    def _report(self, key: str, sentence: str) -> None:
        self.progress.reports.setdefault(key, sentence)

    def _keep_pace(self, writers: list[JournalWriter], begun: float) -> None:
        before = time.monotonic()
        if self._points_s:
            time.sleep(max(0.0, begun + self.progress.points / self._points_s - before))
        probes = writers[:: max(1, len(writers) // _PROBES)]
        rows_max = max(2, _BEHIND_POINTS_MAX // (self._fleet.ranks * len(self._fleet.names)))
        while any(writer.seq - _acknowledged(writer.folder.path) > rows_max for writer in probes):
            time.sleep(_LOOK_S)
        self.progress.waited_s += time.monotonic() - before

    def _end(self, writers: list[JournalWriter], attempt: Attempt) -> None:
        """Ends all ranks: those of a lost node without a word, the others with what they would say of it."""
        for rank, writer in enumerate(writers):
            self.progress.dropped += sum(writer.dropped.values())
            if attempt.lost_node < 0:
                writer.close("finished", "")
            elif rank // RANKS_A_NODE == attempt.lost_node:
                writer.folder.close()
            else:
                writer.close("failed", f"RuntimeError: the connection to node-{attempt.lost_node:04d} was lost (simulated)")

    def unshipped(self) -> int:
        """How many writers have something that Kafka does not hold yet."""
        return sum(1 for folder in self.folders if folder.exists() and not _done(folder))


def _acknowledged(folder: Path) -> int:
    try:
        return fmt.read_ack((folder / "ack").read_bytes()).next_seq
    except OSError:
        return 0


def _done(folder: Path) -> bool:
    try:
        return fmt.read_ack((folder / "ack").read_bytes()).done
    except OSError:
        return not folder.exists()


def _allow_files(wanted: int) -> None:
    """Allows this process, and the agent that it starts, so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        if most < wanted:
            raise OSError(f"so many ranks take {wanted} open files and this machine allows {hard}: ask for fewer --ranks, or raise `ulimit -Hn`")


def wait_until_shipped(simulation: Simulation, timeout_s: float, told: Callable[[int], None]) -> bool:
    """Waits until Kafka holds everything, at most so long; `told` hears how many writers are left."""
    deadline = time.monotonic() + timeout_s
    while (left := simulation.unshipped()) > 0 and time.monotonic() < deadline:
        told(left)
        time.sleep(0.2)
    told(left)
    return left == 0
