"""Hardware readings of the runs on this node: a journal of its own for each run that has living ranks here, shipped like any other.

What is read, `hardware` knows; this module knows for which runs, when, and where it goes.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runstream_producers.errors import JournalError
from runstream_producers.journal.writer import JournalWriter
from runstream_schemas import ids

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from runstream_producers.hardware import Sampler
    from runstream_producers.journal import format as fmt

_log = logging.getLogger("runstream.agent")

SEGMENT_BYTES = 1 << 20
BYTES_MAX = 64 << 20  # Of readings that no Kafka has taken: days of them.


@dataclass(slots=True)
class _Run:
    writer: JournalWriter
    next_at: float


class Readings:
    """The readings of one agent; `sampler` reads the machine every `interval_s` seconds."""

    def __init__(self, folder: Path, sampler: Sampler, interval_s: float) -> None:
        self._folder = folder
        self._sampler = sampler
        self._interval_s = interval_s
        self._runs: dict[str, _Run] = {}

    def take(self, ranks: Iterable[fmt.Identity], now: float) -> None:
        """Reads what is due at `now` for the runs of these living ranks; the readings of a run end with its last rank."""
        by_run: dict[str, list[fmt.Identity]] = {}
        for one in ranks:
            by_run.setdefault(one.run_id, []).append(one)
        for run_id in [run_id for run_id in self._runs if run_id not in by_run]:
            self._runs.pop(run_id).writer.close("finished", "the last rank of the run on this node ended")
        due: dict[str, _Run] = {}
        for run_id, identities in by_run.items():
            run = self._runs.get(run_id) or self._begin(run_id, identities[0], now)
            if run is not None and now >= run.next_at:
                run.next_at = now + self._interval_s
                due[run_id] = run
        if due:
            machine = self._sampler.machine(now)
            self._sampler.forget({one.pid for identities in by_run.values() for one in identities})
            for run_id, run in due.items():
                run.writer.log(machine | self._sampler.processes({one.pid: one.rank for one in by_run[run_id]}))

    def _begin(self, run_id: str, rank: fmt.Identity, now: float) -> _Run | None:
        def identity() -> fmt.Identity:
            started_ms = time.time_ns() // 1_000_000
            return replace(rank, writer=ids.new_writer(), kind="hardware", host=socket.gethostname(), pid=os.getpid(), started_ms=started_ms, environment={})

        def report(_key: str, sentence: str) -> None:
            _log.warning("hardware readings: %s", sentence)

        try:
            writer = JournalWriter(self._folder, identity, segment_bytes=SEGMENT_BYTES, bytes_max=BYTES_MAX, report=report)
        except (OSError, JournalError) as error:
            _log.warning("hardware readings have no journal error=%s", error)
            return None
        run = self._runs[run_id] = _Run(writer, now)
        return run

    def close(self) -> None:
        """Ends the journals of all runs."""
        for run in self._runs.values():
            run.writer.close("finished", "the agent ended")
        self._runs.clear()
