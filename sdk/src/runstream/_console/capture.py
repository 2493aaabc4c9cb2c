"""The training process's side of the console: descriptors 1 and 2 become pipes that a helper process reads, and are what they were again when the run ends, or the helper does.

Nothing here stands in the way of what is written: that is the helper's matter, which needs neither this process's interpreter lock nor its life. A thread watches it. Where the helper
dies, or does not read on for `STALL_S`, descriptors are put back and what lies in the pipes is shown.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runstream._console import wire
from runstream._console.helper import waiting_bytes
from runstream._told import in_signal, warn

if TYPE_CHECKING:
    from runstream_producers.journal.writer import JournalWriter
    from runstream_schemas.settings import Settings

PIPE_BYTES = 1 << 20  # As much as users may have: what can be written before anybody reads.
STALL_S = 5.0
START_S = 20.0  # The same before it has read anything, since Python may have to come from a slow disk.
DRAINED_S = 3.0  # More than the helper gives itself.
REST_S, QUIET_S = 2.0, 0.03  # What a helper left behind is shown within the first, and nothing more comes when nothing has for the second.
_LOOK_S = 1.0
_CAPTURED = "_RUNSTREAM_CONSOLE"  # The pipes of the process above, for those who inherit them.
_NAMES = ("stdout", "stderr")


class _Here:
    """The one console of this process."""

    console: Console | None = None


def begin(journal: JournalWriter, settings: Settings) -> tuple[Console | None, str]:
    """Begins to capture stdout and stderr for the run that this journal is of; gives why not where it cannot. What is captured already, here or by a process above, stays so."""
    if _Here.console is not None and _Here.console.active:
        return None, "another run of this process has it: one console is recorded for one run at a time"
    if not sys.platform.startswith("linux"):
        return None, "it needs Linux"
    if sys.__stdout__ is None or sys.__stderr__ is None:
        return None, "this process was started without stdout or stderr"  # Their descriptors may be files of anybody's by now.
    try:
        if _inherited():
            return None, ""  # Nothing is amiss.
        console = Console(journal, settings.console_lines)
    except Exception as error:  # noqa: BLE001 - an interpreter without a path, a system without shared memory: training goes on without us
        return None, f"it could not be begun: {error!r}"
    _Here.console = console
    return console, ""


def _inherited() -> bool:
    """Whether a process above captures what this one writes."""
    known = os.environ.get(_CAPTURED, "").split(",")
    return all(_place(number) in known for number in (1, 2))


def _place(number: int) -> str:
    """What a descriptor leads to; empty where it is closed."""
    try:
        found = os.fstat(number)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


class Console:
    """A console that is captured. `active` is whether it still is."""

    def __init__(self, journal: JournalWriter, lines_per_s: float) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._drained = threading.Event()
        self._journal_folder: Path | None = None
        self.active = True
        self._page = wire.Page()
        _flush()
        # Where both go to the same place their order is worth more than telling them apart, and one pipe keeps it.
        self._names = ("stdout+stderr",) if _place(1) == _place(2) else _NAMES
        self._saved = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 3) for number in (1, 2)]
        pipes = [os.pipe() for _ in self._names]
        for _, write_end in pipes:
            with contextlib.suppress(OSError):
                fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._sources = [read_end for read_end, _ in pipes]
        control, self._control = os.pipe()
        self._answers, answers = os.pipe()
        orders = wire.Orders(
            streams=[wire.Stream(name, source, saved) for name, source, saved in zip(self._names, self._sources, self._saved, strict=False)],
            control=control,
            answers=answers,
            page=self._page.descriptor,
            folder=str(journal.folder.path.parent),
            identity=replace(journal.identity, environment={}).to_json(),  # Which may be longer than an argument can be.
            lines_per_s=lines_per_s,
        )
        write_ends = [write_end for _, write_end in pipes]
        try:
            self._helper = _started(orders, (*self._sources, *self._saved, control, answers, self._page.descriptor))
            for number in (1, 2):
                os.dup2(write_ends[min(number, len(write_ends)) - 1], number, inheritable=True)
        except BaseException:
            self._close()
            raise
        finally:
            for descriptor in (*write_ends, control, answers):
                os.close(descriptor)
        if os.isatty(self._saved[0]):
            _by_lines()
        self._places = [_place(number) for number in (1, 2)]
        os.environ[_CAPTURED] = ",".join(self._places)
        threading.Thread(target=self._watch, name="runstream-console", daemon=True).start()

    def end(self) -> None:
        """Puts the descriptors back, and waits until what was written by now has been shown and recorded, some milliseconds and `DRAINED_S` at most. In a signal handler that ends the
        process it leaves that to the helper, which goes on by itself.
        """
        if not self.active or os.getpid() != self._pid:
            return
        if in_signal():
            with contextlib.suppress(OSError):
                os.write(self._control, wire.END)
            return
        _flush()
        self._put_back()
        with contextlib.suppress(OSError):
            os.write(self._control, wire.END)
        self._drained.wait(DRAINED_S)  # Also where the helper has died, and what it left is being shown.

    def wait(self, deadline: float) -> None:
        """Waits until what was recorded has been shipped, at most until `deadline` of the monotonic clock."""
        folder = self._journal_folder
        while folder is not None and self._drained.is_set() and folder.exists() and time.monotonic() < deadline:
            time.sleep(0.01)

    def forget(self) -> None:
        """In a forked child: its streams are still captured, by whom its parent has started, and that is the parent's to end."""
        self.active = False
        self._close()

    def _close(self) -> None:
        self._page.close()
        for descriptor in (*self._sources, *self._saved, self._control, self._answers):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _put_back(self) -> None:
        with self._lock:
            if not self.active:
                return
            self.active = False
            for saved, number, place in zip(self._saved, (1, 2), self._places, strict=True):
                if _place(number) == place:  # Or somebody has put something else there, which is theirs.
                    os.dup2(saved, number, inheritable=True)
            os.environ.pop(_CAPTURED, None)

    # ---- watching the helper -----------------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        answers = select.poll()
        answers.register(self._answers, select.POLLIN)
        seen, still_s, said = (-1, 0), 0.0, b""
        while True:
            if answers.poll(_LOOK_S * 1000):
                data = os.read(self._answers, 65536)
                if not data:
                    break
                *lines, said = (said + data).split(b"\n")
                for line in lines:
                    self._heard(line.decode("utf-8", "surrogateescape"))
                continue
            page = self._page.get()
            stuck = page == seen and page[1] == 0 and self.active and any(waiting_bytes(source) for source in self._sources)
            still_s = still_s + _LOOK_S if stuck else 0.0
            seen = page
            if still_s >= (STALL_S if page[0] else START_S):
                os.kill(self._helper, signal.SIGKILL)  # It reads no more; dead it cannot begin again in the middle of what is shown now.
        with contextlib.suppress(ChildProcessError):  # Somebody else has waited for it.
            os.waitpid(self._helper, 0)
        died = self.active
        if died:
            # First what lies in the pipes, then what is written next.
            for source, saved in zip(self._sources, self._saved, strict=False):
                threading.Thread(target=_show, args=(source, saved), name="runstream-console-rest", daemon=True).start()
            _wait_until_quiet(self._sources)
        self._put_back()
        self._drained.set()
        if died:
            warn("what is written to stdout and stderr is recorded no more: the process that did it has ended")
        else:
            self._close()

    def _heard(self, line: str) -> None:
        if line == wire.DRAINED:
            self._drained.set()
        elif line.startswith(wire.JOURNAL):
            self._journal_folder = Path(line.removeprefix(wire.JOURNAL))


def _started(orders: wire.Orders, descriptors: tuple[int, ...]) -> int:
    """The id of the helper, which is in a session of its own, so that no Ctrl-C of the terminal ends it before what it reads."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "runstream._console.helper", orders.to_json()],
            stdin=null,
            stdout=null,
            stderr=null,
            cwd="/",
            start_new_session=True,
            close_fds=True,
            pass_fds=descriptors,
        )
    finally:
        os.close(null)
    # It may outlive us, which Popen would complain of when it is collected; the thread that watches it takes its exit code.
    child.returncode = 0
    return child.pid


def _wait_until_quiet(sources: list[int]) -> None:
    """Waits until pipes have been empty for a moment, so that nobody is in the middle of writing to them; not for long, since somebody may always be."""
    until, quiet_since = time.monotonic() + REST_S, time.monotonic()
    while (now := time.monotonic()) < until and now - quiet_since < QUIET_S:
        if any(waiting_bytes(source) for source in sources):
            quiet_since = now
        time.sleep(0.002)


def _show(source: int, saved: int) -> None:
    """Shows what comes out of a pipe, for as long as somebody writes to it; where nobody sees it any more, it is taken all the same, since who writes would wait for ever."""
    with contextlib.suppress(OSError):
        while data := os.read(source, 65536):
            left = memoryview(data)
            with contextlib.suppress(OSError):
                while left:
                    left = left[os.write(saved, left) :]


def _flush() -> None:
    """Has Python and C write out what they hold back."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with contextlib.suppress(OSError, ValueError, AttributeError):
        libc = ctypes.CDLL(None)
        for name in _NAMES:  # Not all files of C: one that a thread reads from is locked while it waits.
            libc.fflush(ctypes.c_void_p.in_dll(libc, name))


def _by_lines() -> None:
    """Has C write out stdout by lines, as it does on a terminal, which it now does not see."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.setvbuf(ctypes.c_void_p.in_dll(libc, "stdout"), None, 1, 0)


def _after_fork_in_child() -> None:
    if _Here.console is not None:
        _Here.console.forget()
        _Here.console = None


os.register_at_fork(after_in_child=_after_fork_in_child)
