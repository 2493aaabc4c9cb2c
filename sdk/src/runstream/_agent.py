"""Keeps an agent running beside this process, or as a thread in it: starts one where none holds the folder's lock, again and again if it is killed.

Of ranks that look at the same moment one starts it: whoever has the lock on `agent.starting` passes it on to the process that it starts, which holds it for as long as it
lives. Without that 64 ranks would start 64 interpreters, 63 of them for nothing, and each `init` would wait for its share of the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from runstream._told import warn
from runstream_producers import inline
from runstream_producers.agent import LOCK_NAME
from runstream_producers.journal.segments import locked
from runstream_schemas.settings import environment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from runstream_schemas.settings import Settings

WATCH_S = 1.0  # How often the watch looks: an agent that was killed is missed for about as long.
START_PAUSE_S = 3.0  # What a new agent is given to take its lock before another is started.
STARTING_S = 15.0  # What the agent of another rank is given. One that hangs at its start is not waited for any longer.
STOP_S = 0.2  # For the watch's thread to end, which takes no time unless it is starting an agent. A subinterpreter that ends with a thread running takes the process with it.
STARTS_MAX = 100  # Agents started without one ever staying: then something is wrong that starting more does not mend.
STARTING_NAME = "agent.starting"


class Watch:
    """A daemon thread that keeps the agent of a folder alive and calls `each_round`."""

    def __init__(self, folder: Path, settings: Settings, each_round: Callable[[], None]) -> None:
        self._folder = folder
        self._settings = settings
        self._each_round = each_round
        self._children: list[int] = []
        self._started_at = float("-inf")
        self._starts = 0
        self._others_since: float | None = None
        self._told_of: str | None = None
        # Not an event, whose lock a signal handler that interrupts `stop` would wait for for ever.
        self._stop: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Makes sure of an agent, then goes on watching."""
        self.ensure(time.monotonic())
        self._thread = threading.Thread(target=self._run, name="runstream-watch", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # No more threads, or the interpreter is ending: `finish` still looks after the agent.
            warn(f"the agent is not watched ({error}): should it be killed, the next run on this node ships what is left")

    def stop(self, deadline: float, *, join: bool = True) -> None:  # noqa: ARG002 - there is nothing to wait for
        """Ends the watching; the agent goes on. Without `join`, as in signal handlers, it does not look whether the thread has ended, which takes locks."""
        self._stop.put(None)
        if join and self._thread is not None and self._thread.is_alive():
            self._thread.join(STOP_S)

    def ensure(self, now: float) -> None:
        """Starts an agent where none holds the lock. Never waits and never raises."""
        self._children = [pid for pid in self._children if not _ended(pid)]
        if inline.runs_here(self._folder):
            return  # A run of mode inline in this process ships for all.
        if locked(self._folder / LOCK_NAME):
            self._starts = 0
            self._others_since = None
            return
        if now - self._started_at < START_PAUSE_S or self._starts >= STARTS_MAX:
            return
        try:
            with self._turn(now) as (mine, descriptors):
                if mine:
                    self._started_at = now
                    self._starts += 1
                    self._children.append(self._spawn(descriptors))
        except (OSError, RuntimeError) as error:  # An isolated subinterpreter may start no process.
            self._started_at = now
            if self._told_of != str(error):
                self._told_of = str(error)
                warn(f"the agent could not be started ({error}): rows stay in {self._folder} until `runstream sync` or another run ships them")

    @contextlib.contextmanager
    def _turn(self, now: float) -> Generator[tuple[bool, tuple[int, ...]]]:
        """Whether it is this process's turn to start the agent, and the descriptor that the agent is to hold meanwhile."""
        descriptor = os.open(self._folder / STARTING_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield True, (descriptor,)
        except BlockingIOError:
            self._others_since = now if self._others_since is None else self._others_since
            yield now - self._others_since > STARTING_S, ()
        finally:
            os.close(descriptor)

    def _spawn(self, descriptors: tuple[int, ...]) -> int:
        """A process of its own session, without our descriptors (but for these), terminal or working directory, so that neither outlives the other's ties."""
        environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")} | environment_of(self._settings)
        with (self._folder / "agent.log").open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "runstream_producers.agent", "--folder", str(self._folder)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=environ,
                start_new_session=True,
                close_fds=True,
                pass_fds=descriptors,
            )
        # It outlives us, which Popen would complain of when it is collected; zombies are ours to look after.
        child.returncode = 0
        return child.pid

    def _run(self) -> None:
        while True:
            try:
                self._stop.get(timeout=WATCH_S)
            except Empty:
                self.ensure(time.monotonic())
                self._each_round()
            else:
                return


class InlineWatch(Watch):
    """Keeps the agent's thread of this process alive, unless somebody else ships the folder; `writer` is whose journal this is about."""

    def __init__(self, folder: Path, settings: Settings, each_round: Callable[[], None], writer: int) -> None:
        super().__init__(folder, settings, each_round)
        self._writer = writer
        self._inline = inline.inline_agent(folder, settings)
        self._inline.users.add(writer)

    def ensure(self, now: float) -> None:
        """Starts the thread where nobody holds the lock. Never raises."""
        if not self._inline.running and now - self._started_at >= START_PAUSE_S:
            self._started_at = now if self._inline.ensure() else self._started_at

    def stop(self, deadline: float, *, join: bool = True) -> None:
        """Ends the watching, and the thread with the last run of this process."""
        super().stop(deadline, join=join)
        self._inline.users.discard(self._writer)
        if not self._inline.users:
            self._inline.stop(deadline, join=join)


def _ended(pid: int) -> bool:
    """Whether a child has ended; takes its exit code, so that none stays a zombie."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:  # Somebody else has waited for it, or it is our parent's child and we are a fork.
        return True
