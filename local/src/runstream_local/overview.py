"""What a running stack looks like to people: one row a part, made from values alone; and the one look at memory that it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from runstream_local.stack_file import StackRecord

__all__ = ["HEADINGS", "Row", "memory_of", "rows", "troubles"]

HEADINGS = ("part", "state", "pid", "uptime", "restarts", "memory", "address")


@dataclass(frozen=True, slots=True)
class Row:
    """One part: what it is, how it is, and how it last ended, for `status --json` and the tables alike."""

    name: str
    state: str
    pid: int | None
    uptime_s: float | None
    restarts: int
    memory_bytes: int | None
    address: str
    last_exit: int | None
    log: str
    reason: str

    def cells(self) -> tuple[str, ...]:
        """Returns the row as text, in the order of `HEADINGS`."""
        return (
            self.name,
            self.state,
            "" if self.pid is None else str(self.pid),
            "" if self.uptime_s is None else _duration(self.uptime_s),
            str(self.restarts),
            "" if self.memory_bytes is None else f"{self.memory_bytes / 2**20:.0f} MB",
            self.address,
        )


def rows(record: StackRecord, *, now: float, memory: Mapping[int, int]) -> tuple[Row, ...]:
    """Returns the parts at `now` (Unix seconds); `memory` is bytes by pid."""
    return tuple(
        Row(
            name=part.name,
            state=part.phase,
            pid=part.pid,
            uptime_s=None if part.pid is None else max(0.0, round(now - part.since, 1)),
            restarts=part.restarts,
            memory_bytes=None if part.pid is None else memory.get(part.pid),
            address=part.address,
            last_exit=part.last_exit,
            log=part.log,
            reason=part.reason,
        )
        for part in record.parts
    )


def troubles(found: Sequence[Row]) -> list[str]:
    """Returns one line for each part that is in trouble or was started again: how often, and why."""
    lines: list[str] = []
    for row in found:
        if row.reason:
            times = "" if row.restarts == 0 else ", restarted once" if row.restarts == 1 else f", restarted {row.restarts} times"
            since = "last failure: " if row.state in ("healthy", "done") else ""
            lines.append(f"{row.name} is {row.state}{times}; {since}{row.reason}")
    return lines


def _duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def memory_of(pids: Sequence[int]) -> dict[int, int]:
    """Returns resident bytes by pid, children included; a process that is gone is left out."""
    import psutil

    found: dict[int, int] = {}
    for pid in pids:
        try:
            process = psutil.Process(pid)
            found[pid] = process.memory_info().rss + sum(child.memory_info().rss for child in process.children(recursive=True))
        except psutil.Error:
            continue
    return found
