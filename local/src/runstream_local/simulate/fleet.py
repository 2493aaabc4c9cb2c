"""Drives a simulated fleet: a journal for each rank in this one process, one agent that ships them all, and a pace that never outruns it.

Rows carry simulated times, so that hours of training pass in minutes. A rank is a writer like any other: what is lost here would be lost there. The pace waits for the shipper, since
what a real fleet spreads over its nodes' disks stands on one here. Whoever goes through the steps decides how long to wait and when to stop.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runstream_local.errors import LocalError
from runstream_local.simulate.machine import segment_bytes
from runstream_local.simulate.signals import RANKS_A_NODE, Attempt, Fleet
from runstream_producers.journal import format as fmt
from runstream_producers.journal.writer import JournalWriter
from runstream_producers.paths import agent_folder
from runstream_schemas import ids

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from runstream import Run
    from runstream_schemas.settings import Settings

STALLED_S_MAX = 600.0
_BYTES_MAX = 64 << 20  # Of one rank; the pace keeps far below it.
_BEHIND_POINTS_MAX = 4_000_000  # What may be logged and not yet acknowledged.
_PROBES = 32  # Ranks whose acknowledgements are looked at.
_LOOK_S = 0.02
_BEGUN_AT_ONCE = 64  # Ranks that begin, or log, between two tellings.
_STOPPED = ("killed", "stopped in the middle of the simulation")


class StalledError(LocalError):
    """Kafka has taken nothing for so long that the simulation was given up."""


@dataclass(slots=True)
class Progress:
    """How far a simulation is: points logged, simulated seconds, points that were dropped, writers, and for how long Kafka has taken nothing while it was waited for."""

    points: int = 0
    simulated_s: float = 0.0
    dropped: int = 0
    writers: int = 0
    stalled_s: float = 0.0
    reports: dict[str, str] = field(default_factory=dict[str, str])


class Simulation:
    """Logs a fleet's signals as ranks of a run; `points_s` holds it to so many points a second, 0 for as many as can be shipped. The simulated time ends at `now_s`."""

    def __init__(self, fleet: Fleet, run: Run, settings: Settings, *, points_s: float, now_s: float) -> None:
        self._fleet = fleet
        self._run = run
        self._folder = agent_folder(settings)
        self._points_s = points_s
        self._starts_s = fleet.starts_s()
        self._started_s = now_s - self._starts_s[-1]
        self._ended_points = 0
        self.progress = Progress()
        self.folders: list[Path] = []

    def steps(self) -> Generator[Progress]:
        """Runs it, and gives the progress again and again, at least after each step of all ranks and while it waits. Closed before its end, it ends its ranks as killed.

        Raises:
            StalledError: Kafka has taken nothing for ten minutes.
            OSError: a journal cannot be made; so does JournalError.
        """
        begun = time.monotonic()
        for attempt, offset_s in zip(self._fleet.attempts(), self._starts_s, strict=False):
            writers: list[JournalWriter] = []
            try:
                # A job comes back after its end was heard of, as the agent's clock has it: else both attempts would seem to run at once.
                yield from self._wait(lambda: -self.unshipped(), 0)
                started_s = time.time() if attempt.number else self._started_s
                for rank in range(self._fleet.ranks):
                    writers.append(self._writer(rank, attempt, started_s))
                    if not (rank + 1) % _BEGUN_AT_ONCE:
                        yield self.progress
                for step in range(attempt.first, attempt.end):
                    yield from self._log(writers, step, attempt, offset_s)
                    yield from self._keep_pace(writers, begun)
                    yield self.progress
            except (GeneratorExit, KeyboardInterrupt):
                self._end(writers, [_STOPPED] * len(writers))
                raise
            except BaseException as error:
                self._end(writers, [("failed", f"{type(error).__name__}: {error}")] * len(writers))
                raise
            self._end(writers, [_ending(rank, attempt) for rank in range(len(writers))])
            yield self.progress

    def _writer(self, rank: int, attempt: Attempt, started_s: float) -> JournalWriter:
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
            started_ms=int(started_s * 1000.0),
            environment={"simulated": "true"},
        )
        writer = JournalWriter(self._folder, lambda: identity, segment_bytes=segment_bytes(fleet.ranks), bytes_max=_BYTES_MAX, report=self._report)
        self.folders.append(writer.folder.path)
        self.progress.writers += 1
        return writer

    def _report(self, key: str, sentence: str) -> None:
        self.progress.reports.setdefault(key, sentence)

    def _log(self, writers: Sequence[JournalWriter], step: int, attempt: Attempt, offset_s: float) -> Iterator[Progress]:
        """A row of each rank, which log within the step, each at a moment of its own."""
        fleet = self._fleet
        into_s = offset_s + (step - attempt.first) * fleet.step_s
        for rank, writer in enumerate(writers):
            writer.log(fleet.row(rank, step, attempt.number), step, time=self._started_s + into_s + 0.5 * fleet.step_s * rank / fleet.ranks)
            self.progress.points += len(fleet.names)
            if not (rank + 1) % _BEGUN_AT_ONCE:
                yield self.progress
        self.progress.simulated_s = into_s + fleet.step_s

    def _keep_pace(self, writers: Sequence[JournalWriter], begun: float) -> Iterator[Progress]:
        while self._points_s and (early_s := begun + self.progress.points / self._points_s - time.monotonic()) > 0:
            time.sleep(min(early_s, _LOOK_S))  # The pace that was asked for, and no longer than a request to stop may wait.
            yield self.progress
        probes = writers[:: max(1, len(writers) // _PROBES)]
        rows_max = max(2, _BEHIND_POINTS_MAX // (self._fleet.ranks * len(self._fleet.names)))
        yield from self._wait(lambda: sum(min(0, _acknowledged(writer.folder.path) + rows_max - writer.seq) for writer in probes), 0)

    def _wait(self, so_far: Callable[[], int], wanted: int) -> Iterator[Progress]:
        """Waits until a count has come to what is wanted, and gives up once it has not moved for too long."""
        most, since = so_far(), time.monotonic()
        while most < wanted:
            self.progress.stalled_s = time.monotonic() - since
            if self.progress.stalled_s > STALLED_S_MAX:
                raise StalledError(f"Kafka has taken nothing for {STALLED_S_MAX:g} s, and the simulation was given up; what was logged is shipped once it does")
            time.sleep(_LOOK_S)  # What Kafka holds is read off counters, which tell nobody when they move.
            yield self.progress
            if (now := so_far()) > most:
                most, since = now, time.monotonic()
        self.progress.stalled_s = 0.0

    def _end(self, writers: Sequence[JournalWriter], endings: Sequence[tuple[str, str] | None]) -> None:
        """Ends ranks, each with its state and reason; those with None without a word, as if they had been killed. Counts what they have logged to the point."""
        for writer, ending in zip(writers, endings, strict=True):
            self._ended_points += writer.points
            self.progress.dropped += sum(writer.dropped.values())
            if ending is None:
                writer.folder.close()
            else:
                writer.close(*ending)
        self.progress.points = self._ended_points

    def unshipped(self) -> int:
        """How many writers have something that Kafka does not hold yet."""
        return sum(1 for folder in self.folders if folder.exists() and not _done(folder))


def _ending(rank: int, attempt: Attempt) -> tuple[str, str] | None:
    """What a rank says of its end: nothing on the node that is lost, and elsewhere what it would see of that."""
    if attempt.lost_node < 0:
        return "finished", ""
    if rank // RANKS_A_NODE == attempt.lost_node:
        return None
    return "failed", f"RuntimeError: the connection to node-{attempt.lost_node:04d} was lost (simulated)"


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
