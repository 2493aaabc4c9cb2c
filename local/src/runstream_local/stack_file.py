"""Owns the files by which a running stack is known in its data folder: `supervisor.lock`, held as long as it runs, and `stack.json`, what it is.

The lock is the truth: a supervisor killed hard leaves a stack.json behind, but no lock. `runstream_schemas.settings` asks for the lock
too and reads `settings` of stack.json, so that commands and training on this machine find the stack by its folder.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

__all__ = ["Lock", "PartRecord", "StackRecord", "is_locked", "read_stack", "remove_stack", "write_stack"]

_LOCK = "supervisor.lock"
_STACK = "stack.json"
# Whoever asks `is_locked` holds the lock himself for a moment, shared; only one who holds on is a supervisor.
_LOCK_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class PartRecord:
    """One part as stack.json tells of it; `since` and times are Unix seconds, `reason` is what is wrong with it or why it last failed."""

    name: str
    phase: str
    pid: int | None
    since: float
    restarts: int
    address: str
    last_exit: int | None
    log: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class StackRecord:
    """The running stack as stack.json tells of it: its supervisor's pid, when it started, what it is up to, settings to reach it, parts."""

    supervisor: int
    started: float
    state: Literal["starting", "running", "stopping"]
    settings: Mapping[str, str]
    parts: Sequence[PartRecord]

    def part(self, name: str) -> PartRecord | None:
        """Returns the part of that name."""
        return next((part for part in self.parts if part.name == name), None)


class Lock:
    """The right to supervise a data folder; held until the process ends or `release`."""

    def __init__(self, data: Path) -> None:
        """Takes the lock; blocks for up to a second.

        Raises:
            BlockingIOError: another process holds it.
        """
        data.mkdir(parents=True, exist_ok=True)
        self._file = (data / _LOCK).open("w")
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    self._file.close()
                    raise
                time.sleep(0.01)
            else:
                return

    def release(self) -> None:
        """Gives the lock up."""
        self._file.close()


def is_locked(data: Path) -> bool:
    """Says whether a supervisor runs on the folder; changes nothing."""
    try:
        with (data / _LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write_stack(data: Path, record: StackRecord) -> None:
    """Replaces stack.json in one step: a reader sees the old one or the new one."""
    fresh = data / f"{_STACK}.new"
    fresh.write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
    fresh.replace(data / _STACK)


def read_stack(data: Path) -> StackRecord | None:
    """Returns the stack that runs on the folder, or None where none runs or it has not written itself down yet."""
    if not is_locked(data):
        return None
    try:
        values = cast("dict[str, Any]", json.loads((data / _STACK).read_text(encoding="utf-8")))
        parts = tuple(PartRecord(**one) for one in values.pop("parts"))
        record = StackRecord(**values, parts=parts)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    # Left by one that was killed hard, while the one that holds the lock now has not written yet.
    return record if _is_alive(record.supervisor) else None


def remove_stack(data: Path) -> None:
    """Removes stack.json; that it is gone already is no error."""
    (data / _STACK).unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
