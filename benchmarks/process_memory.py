"""The memory of processes, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path


def peak_rss_mb(pid: int) -> float:
    """The greatest resident memory that a process has had, in MiB. What getrusage says of it is the parent's to begin with."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024
