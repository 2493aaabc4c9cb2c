"""Who ships a journal: one process at a time, be it the agent of its folder or `runstream sync`.

A claim is a POSIX lock on `shipper.lock` in the writer's folder, so that the death of whoever holds it frees it. Two shippers at once would repeat rows, not lose any;
the claim saves the work, and keeps one from removing what the other reads.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CLAIM_NAME = "shipper.lock"
GONE = ".gone-"  # What the names of journals begin with that are done and being removed.
MAKING = ".w-"  # And of those that are being made, which takes milliseconds.
_FLOCK = struct.Struct("hhqqi4x")  # struct flock: type, whence, start, length, process.
MAKING_S = 600.0  # How old one must be to have been left by a process that was killed in the middle.


class Claim:
    """The right to ship one journal, held until `release`."""

    __slots__ = ("_descriptor",)

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def next_version(self, now_ms: int) -> int:
        """The version of what is told of the writer next: the time, but more than any before it, also where the clock was set back or another process told the last one.

        The file's time holds the last one, so that it outlives whoever told it.
        """
        version = max(now_ms, os.fstat(self._descriptor).st_mtime_ns // 1_000_000 + 1)
        with contextlib.suppress(OSError):
            os.utime(self._descriptor, ns=(version * 1_000_000, version * 1_000_000))
        return version

    def release(self) -> None:
        """Gives it up; a second time does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def claim(folder: Path) -> Claim | None:
    """The claim on a journal folder; None where another process has it, or the folder is gone.

    Raises:
        OSError: the folder cannot be written to.
    """
    path = folder / CLAIM_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        return None
    mine = False
    try:
        with contextlib.suppress(BlockingIOError, PermissionError, FileNotFoundError):
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had it before may have shipped everything and removed the folder between our two calls.
            mine = os.path.samestat(os.fstat(descriptor), path.stat())
    finally:
        if not mine:
            os.close(descriptor)
    return Claim(descriptor) if mine else None


def holder(path: Path) -> int:
    """The process that holds the POSIX lock on a file; 0 for none. Not for a file that this process has locked itself: closing it would give up that lock."""
    try:
        with path.open("r+b") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError:
        return 0
    kind, _, _, _, pid = _FLOCK.unpack(answer)
    return 0 if kind == fcntl.F_UNLCK else pid


def remove(folder: Path) -> None:
    """Removes a journal; under another name first, so that none that is half removed is ever taken up."""
    with contextlib.suppress(OSError):
        gone = folder.with_name(GONE + folder.name)
        folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def sweep(base: Path) -> None:
    """Removes what a shipper that was killed had begun to remove, and what a writer that was killed had begun to make."""
    for path in base.glob(f"{GONE}*"):
        shutil.rmtree(path, ignore_errors=True)
    for path in base.glob(f"{MAKING}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < time.time() - MAKING_S:
                shutil.rmtree(path, ignore_errors=True)
