"""The memory of processes, as the kernel counts it."""

from __future__ import annotations

from pathlib import Path


def peak_rss_mb(pid: int) -> float:
    """The greatest resident memory that a process has had, in MiB. What getrusage says of it is the parent's to begin with."""
    return _status_mb(pid, "VmHWM")


def own_mb(pid: int) -> float:
    """The resident memory that a process holds for itself, in MiB: without the files that it maps, such as journals, whose pages are the kernel's to take back. Raises OSError once it has
    ended.
    """
    return _status_mb(pid, "RssAnon")


def _status_mb(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    # A process that has ended and was not waited for yet has no memory, and no such line.
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)
