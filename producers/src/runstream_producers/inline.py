"""The agent as a thread of the training process, where a second process is not wanted.

It is the agent's own code, under the same lock: of the processes that share a folder one ships for all, be it a thread or an agent, and when it ends another takes over.
A forked child has no such thread; whoever holds the lock ships its journal.
"""

from __future__ import annotations

import importlib
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

from runstream_producers import agent as agents
from runstream_producers.journal.segments import locked

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_producers.loop import Agent
    from runstream_schemas.settings import Settings

_log = logging.getLogger("runstream")

CLOSE_S = 2.0  # For the last answers once no run of this process is left; what is not answered then is sent again by the next.
_HEAVY = ("runstream_producers.kafka", "runstream_producers.hardware", "runstream_producers.loop", "runstream_schemas.frame")


class InlineAgent:
    """One folder's agent in this process. `users` are the writers for which it was started: with the last of them it ends."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._settings = settings
        self.users: set[int] = set()
        self._thread: threading.Thread | None = None
        self._agent: Agent | None = None
        self._stopping = False
        self._serving = False

    @property
    def running(self) -> bool:
        """Whether the thread may hold the folder's lock. Takes no lock of Python's itself, since signal handlers ask."""
        return self._serving

    def ensure(self) -> bool:
        """Starts the thread where neither it nor an agent ships the folder; whether it did. Never raises; loads librdkafka the first time."""
        # The lock is tried only while this process cannot hold it, since trying it would give it up.
        if self.running or locked(self._folder / agents.LOCK_NAME):
            return False
        for name in _HEAVY:  # In this thread, since a fork in the middle of an import leaves the child a module that never loads.
            importlib.import_module(name)
        self._stopping = False
        thread = threading.Thread(target=self._run, name="runstream-inline", daemon=True)
        self._serving = True
        try:
            thread.start()
        except RuntimeError as error:  # No more threads, or the interpreter is ending.
            self._serving = False
            _log.warning("runstream: rows stay in %s until another run ships them: %s", self._folder, error)
            return False
        self._thread = thread
        return True

    def stop(self, deadline: float, *, join: bool = True) -> None:
        """Ends the thread and waits for its last answers, at most until `deadline` of the monotonic clock and `CLOSE_S`; without `join`, as in signal handlers, it does not."""
        self._stopping = True
        if self._agent is not None:
            self._agent.stopping = True
        if join and self._thread is not None:
            self._thread.join(max(0.0, min(CLOSE_S + 1.0, deadline - time.monotonic())))

    def _begun(self, agent: Agent) -> None:
        self._agent = agent
        agent.stopping = self._stopping

    def _run(self) -> None:
        try:
            agents.serve(self._folder, self._settings, self._begun, CLOSE_S)
        except Exception as error:  # noqa: BLE001 - a thread of a guest must not print a traceback into training; the next look starts another
            _log.warning("runstream: shipping broke off and begins again: %r", error)
        finally:
            self._serving = False


_here: dict[Path, InlineAgent] = {}


def inline_agent(folder: Path, settings: Settings) -> InlineAgent:
    """This process's agent of a folder, made when first asked for."""
    return _here.setdefault(folder, InlineAgent(folder, settings))


def runs_here(folder: Path) -> bool:
    """Whether a thread of this process may hold the folder's lock, which must then not be tried."""
    one = _here.get(folder)
    return one is not None and one.running


os.register_at_fork(after_in_child=_here.clear)
