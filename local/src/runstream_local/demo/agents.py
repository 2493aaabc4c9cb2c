"""Ends the agents of the demo's own journals, so that the demo leaves no process behind.

An agent goes on for a while after its last writer, and longer where Kafka went first; for training that is right, for a demo on a stack of its own it is not.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import time
from pathlib import Path

from runstream_producers.agent import LOCK_NAME
from runstream_producers.journal.segments import locked

# struct flock of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("@hhqqi4x")
_LOOK_S = 0.05


def holder(lock: Path) -> int | None:
    """The process that holds a POSIX lock on a file, as the kernel says; None where nobody does, or a process of another container, which has no number here."""
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = _FLOCK.unpack(answer)
    # A signal to 0 or less would be one to many.
    return None if kind == fcntl.F_UNLCK or pid <= 0 else pid


def end_agents(journals: Path, *, timeout_s: float) -> None:
    """Asks each agent below a journal folder to end, and waits at most `timeout_s` until they have; one that stays is killed. Journals stay as they are."""
    locks = [lock for lock in journals.glob(f"*/{LOCK_NAME}") if locked(lock)]
    deadline = time.monotonic() + timeout_s
    for number, until in ((signal.SIGTERM, deadline), (signal.SIGKILL, deadline + 1.0)):
        for lock in locks:
            pid = holder(lock)
            if pid is not None:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    continue  # It ended by itself meanwhile.
        while any(map(locked, locks)):
            if time.monotonic() > until:
                break
            time.sleep(_LOOK_S)
        else:
            return
