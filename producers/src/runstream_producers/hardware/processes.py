"""Readings of the processes that log, by psutil; the GPU memory that they hold is `gpus`' matter. A process that is gone, or hides something, is a gap."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import psutil

from runstream_producers.hardware.node import NO_READING
from runstream_producers.hardware.taken import Rates, Taken

if TYPE_CHECKING:
    from collections.abc import Collection

Readings = dict[tuple[str, str], float]


class _One:
    """A process that is known since its first reading."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._rates = Rates()
        self._first = True

    def read(self, now: float) -> Readings:
        """Raises what psutil raises where the process is gone; what it hides is missing."""
        process = self._process
        out: Readings = {}
        with process.oneshot():
            busy = process.cpu_percent(None)
            if not self._first:  # The first call only sets the beginning of the time over which it is measured.
                out["process.cpu.utilization", ""] = busy
            self._first = False
            with contextlib.suppress(*NO_READING):
                out["process.memory.rss_bytes", ""] = float(process.memory_info().rss)
            with contextlib.suppress(*NO_READING):
                out["process.threads", ""] = float(process.num_threads())
            with contextlib.suppress(*NO_READING):
                done = process.io_counters()
                counters = {"process.read_bytes_per_s": float(done.read_bytes), "process.write_bytes_per_s": float(done.write_bytes)}
                out |= {(name, ""): value for name, value in self._rates.of(counters, now).items()}
        return out


class Processes:
    """Readings of processes by id."""

    def __init__(self) -> None:
        self._known: dict[int, _One] = {}

    def read(self, now: float, pids: Collection[int]) -> Taken:
        """CPU, memory, threads and disk traffic of each process at `now` in seconds; those that are not asked for are forgotten."""
        self._known = {pid: one for pid, one in self._known.items() if pid in pids}
        taken = Taken()
        for pid in pids:
            try:
                one = self._known.get(pid) or self._known.setdefault(pid, _One(pid))
                taken.by_pid[pid] = one.read(now)
            except NO_READING:
                self._known.pop(pid, None)
        return taken
