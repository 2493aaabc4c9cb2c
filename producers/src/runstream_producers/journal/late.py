"""Rows whose values have to be read from a device first: a bounded queue, and the thread that waits for the device so that training does not.

A row keeps the step and time of its call, and gets its seq when it is written. What is not read yet dies with the process.
"""

from __future__ import annotations

import logging
import threading
import time as clock
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from runstream_producers.journal.values import number_of, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_log = logging.getLogger("runstream")

# Rows that may wait: with 20 small copies each some 10 MB on the device, and at one row a step of 50 ms half a minute of a device that does not answer.
ROWS_MAX = 1024
_POLL_S = 0.002


class Waited(dict[str, float]):
    """Values of a row that waited: doubles now, whatever they were in the call."""


@dataclass(frozen=True, slots=True, eq=False)
class LateRow:
    """A row with places to fill: `values` in their order, and for some of their names how to read them. `time_s` is epoch seconds."""

    values: Waited
    readers: dict[str, Callable[[], Any]]
    step: int
    time_s: float
    context: str
    subject: str


class LateRows:
    """Rows on their way through the thread; `write` gets each with the values that were read, and by name why others could not be, which it has no more."""

    def __init__(self, write: Callable[[LateRow, Mapping[str, str]], None]) -> None:
        self._write = write
        self._rows: deque[LateRow] = deque()
        # Not a semaphore: a signal handler may put a row while this very thread is in the middle of putting one, and would wait for itself.
        self._more: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def put(self, row: LateRow) -> bool:
        """Takes a row; False where too many wait already, or no thread is to be had."""
        if len(self._rows) >= ROWS_MAX:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="runstream-device", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return False
            self._thread = thread
        self._rows.append(row)
        self._more.put(None)
        return True

    def claim(self, row: LateRow) -> bool:
        """Takes a row out for writing; False where it has been given up. Called with the journal's lock, as `give_up` is, so that a row is either written or counted."""
        if self._rows and self._rows[0] is row:
            self._rows.popleft()
            return True
        return False

    def give_up(self) -> list[LateRow]:
        """The rows that were not read in time; they are not written any more."""
        left = list(self._rows)
        self._rows.clear()
        return left

    def wait(self, deadline: float) -> None:
        """Waits until every row is written, at most until `deadline` of the monotonic clock."""
        while self._rows and clock.monotonic() < deadline:
            clock.sleep(_POLL_S)

    def _run(self) -> None:
        while True:
            self._more.get()
            try:
                row = self._rows[0]
            except IndexError:
                continue  # It was given up.
            try:
                self._write(row, _read(row))
            except Exception as error:  # noqa: BLE001 - strict mode raises in the writer; here nobody would hear it
                _log.warning("runstream: a row read from a device was not logged: %s", error)
                self.claim(row)


def _read(row: LateRow) -> dict[str, str]:
    """Fills the places of a row; those that cannot be filled are taken out of it, by name why."""
    refused: dict[str, str] = {}
    for name, read in row.readers.items():
        found: Any = None
        try:
            found = read()
            number = number_of(found)
        except Exception as error:  # noqa: BLE001 - the library's, such as a buffer that was donated meanwhile
            found, number = error, None
        if number is None:
            del row.values[name]
            refused[name] = f"it could not be read from its device ({shown(found)})"
        else:
            row.values[name] = number
    return refused
