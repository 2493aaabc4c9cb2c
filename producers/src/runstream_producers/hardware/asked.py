"""A source that is asked in a thread of its own, so that one which does not answer (a driver that hangs, a file system that is gone) keeps nobody: its readings are a gap meanwhile."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

from runstream_producers.hardware.taken import Taken

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

_log = logging.getLogger("runstream.agent")

# The round that was asked for, the source, and what it answered.
Answer = tuple[int, "Source", Taken]


class Source:
    """One source. `ask` reads it, at a time in seconds and for these process ids; `doing` says what it is at."""

    def __init__(self, name: str, ask: Callable[[float, Collection[int]], Taken], doing: Callable[[], str]) -> None:
        self.name = name
        self._ask = ask
        self._doing = doing
        self._jobs: SimpleQueue[tuple[int, float, Collection[int], SimpleQueue[Answer]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._told: set[str] = set()
        self.busy = False

    def begin(self, number: int, now: float, pids: Collection[int], answers: SimpleQueue[Answer]) -> bool:
        """Asks for a round, whose answer comes into `answers`; False where an earlier one has not been answered, or no thread can be had."""
        if self.busy:
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"runstream-{self.name}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                self._tell(f"cannot be read: {error}")
                return False
            self._thread = thread
        self.busy = True
        self._jobs.put((number, now, pids, answers))
        return True

    def tell_late(self, seconds: float) -> None:
        """Says, once for each question, that it does not answer."""
        self._tell(f"does not answer ({self._doing()}) and is a gap meanwhile; waited {seconds:g} s")

    def close(self) -> None:
        """Ends the thread once it has answered; a later round begins another."""
        if self._thread is not None:
            self._jobs.put(None)
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            number, now, pids, answers = job
            try:
                taken = self._ask(now, pids)
            except Exception as error:  # noqa: BLE001 - a library of others reads a machine of others; one source that fails leaves the rest
                self._tell(f"failed: {error!r}")
                taken = Taken()
            self.busy = False
            answers.put((number, self, taken))

    def _tell(self, what: str) -> None:
        if what not in self._told and len(self._told) < 100:
            self._told.add(what)
            _log.warning("hardware readings: source %s %s", self.name, what)
