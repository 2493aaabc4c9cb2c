"""What happens when the process ends without calling `finish`: hooks that note how it ends, finish its runs, and leave everything else as it was.

Hooks chain to what they found and never replace it, know themselves by a mark, so that a reloaded module installs none twice, and keep what they chain to in closures.

Signals: a handler is put only where Python's handler or the default action stands, and only from the main thread. With a handler of the user's below it, it notes the signal
and calls that. With the default action below it, it ends the runs within `SIGNAL_TIMEOUT_S` and lets the process die of the signal, as it would have without us; unless
somebody has put a handler on top of ours meanwhile, who then decides what becomes of the process. A handler of Python waits for the main thread: where that hangs in C code
(a collective whose other ranks are gone), a thread does the same after `STUCK_S`, so that SIGTERM still ends what it would have ended. A main thread that waits in a call of
Python's runs handlers meanwhile, and does not hang: before it ends anything, the thread asks it with the other of SIGTERM and SIGHUP, or with the same again, which is swallowed.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import ctypes
import os
import signal
import sys
import threading
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runstream import _ends
from runstream._live import held_signals, live_runs, signals_wait
from runstream._told import ended_by_signal, warn

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType, TracebackType

    from runstream._run import Run

EXIT_TIMEOUT_S = 30.0  # For all runs of a process together, at its normal end.
SIGNAL_TIMEOUT_S = 3.0  # At a signal: well within the 10 to 30 s that schedulers give. The journal is closed at once in any case.
STUCK_S = 2.0  # How long the main thread is given to run its handler.
NUDGE_S = 0.5  # And how long to answer a signal that is sent to see whether it waits where handlers run.
LATE_S = 0.5  # How much longer an end may take, disks included, before the process dies of its signal with the rest undone.
_libc = ctypes.CDLL(None)
_MARK = "_runstream"
_ENDING = (signal.SIGTERM, signal.SIGHUP)  # The second when a terminal or a connection is closed.
_PREEMPTING = (signal.SIGUSR1, signal.SIGUSR2)


class _Noted:
    """The exit code that `sys.exit` was called with last, and how many seqs each run had by then: a call after it shows that the process went on."""

    code: object = None
    seqs: dict[Run, int] | None = None


class _Stuck:
    """The pipe that tells of signals before the main thread runs their handlers."""

    write_end = -1
    read_end = -1
    answers = 0  # How often the main thread has shown that it runs Python.
    handled: set[int] = set()  # noqa: RUF012 - no events: a handler that interrupts another one would wait for its lock for ever
    nudge = 0  # The signal that means nothing but a question when its handler runs next.


def install(preemption_signals: str) -> None:
    """Puts every hook that is not there yet; `preemption_signals` names the signals to take even where their default action stands. Called by each `init`."""
    _note_uncaught()
    _note_exit_code()
    atexit.unregister(_at_exit)
    atexit.register(_at_exit)
    _at_child_exit()
    take_signals(preemption_signals)


def _at_exit() -> None:
    """The process ends: by falling off its end, by an exception that was noted, or with a code."""
    error = _uncaught()
    if error is not None:
        for run in live_runs():
            run.note(_ends.of_exception(error))
    if _Noted.seqs is not None:
        ending = _ends.of_code(_Noted.code)
        for run in live_runs():
            if run.next_seq == _Noted.seqs.get(run):
                run.note(ending)
    for run in live_runs():
        run.ends_at_exit()
    finish_all(EXIT_TIMEOUT_S)


def _uncaught() -> BaseException | None:
    """The exception that ends the interpreter, which it keeps, whoever has replaced `sys.excepthook`. One that somebody caught and left there was caught by a caller."""
    error: object = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)  # The first from Python 3.12 on.
    if hasattr(sys, "ps1") or not isinstance(error, BaseException) or error.__traceback__ is None:
        return None
    return error if error.__traceback__.tb_frame.f_back is None else None


def finish_all(timeout_s: float, *, quiet: bool = False) -> None:
    """Finishes the runs of this process, all within one time."""
    runs = live_runs()
    deadline = clock.monotonic() + timeout_s
    for run in runs:
        with _told(run):
            run.close_journal(deadline)  # All of them first, so that one that waits to be shipped does not keep the others open.
    for run in runs:
        with _told(run):
            run.finish_within(max(0.0, deadline - clock.monotonic()), quiet=quiet)


@contextlib.contextmanager
def _told(run: Run) -> Generator[None]:
    """What goes wrong at the end of one run is told, and keeps no other one from its end."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever it is
        warn(f"run {run.id} could not be ended: {error!r}")


def _end_by(number: int, timeout_s: float) -> None:
    """Ends the runs by a signal, in its handler or beside a main thread that hangs: without a lock that whatever was interrupted may hold, and within its time all the same."""
    thread = threading.get_ident()
    ended_by_signal.add(thread)
    try:
        _die_within(number, SIGNAL_TIMEOUT_S + LATE_S)
        for run in live_runs():
            run.note(_ends.of_signal(number))
        finish_all(timeout_s, quiet=True)
    finally:
        ended_by_signal.discard(thread)


def _die_within(number: int, seconds: float) -> None:
    """Has the process die of a signal after a while, whatever its threads wait for."""
    with contextlib.suppress(RuntimeError):  # No more threads, or the interpreter is ending.
        _thread.start_new_thread(_die_later, (number, seconds))


def _die_later(number: int, seconds: float) -> None:
    clock.sleep(seconds)
    _die(number)


def _die(number: int) -> None:
    # Python sets handlers from its main thread alone, and that one may hang.
    _libc.signal(number, 0)
    os.kill(os.getpid(), number)


def _note_uncaught() -> None:
    before = sys.excepthook
    if getattr(before, _MARK, False):
        return

    def note(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        for run in live_runs():
            run.note(_ends.of_exception(error))
        before(kind, error, trace)

    setattr(note, _MARK, True)
    sys.excepthook = note


def _note_exit_code() -> None:
    """Python asks nobody about `SystemExit`, so the code is noted where nearly all scripts give it. `raise SystemExit(3)` outside of a `with` block is not seen."""
    before: Any = sys.exit
    if getattr(before, _MARK, False):
        return

    def exit(status: Any = None, /) -> Any:  # noqa: A001 - it is sys.exit's name
        if threading.current_thread() is threading.main_thread():  # In another thread it ends that thread alone.
            _Noted.code, _Noted.seqs = status, {run: run.next_seq for run in live_runs()}
        before(status)

    setattr(exit, _MARK, True)
    module: Any = sys
    module.exit = exit


# ---- children of multiprocessing -----------------------------------------------------------------------------------------------------------


def _at_child_exit() -> None:
    """A child of multiprocessing leaves by `os._exit`, which runs no `atexit`, but runs multiprocessing's own finalizers before it."""
    util: Any = sys.modules.get("multiprocessing.util")
    process: Any = sys.modules.get("multiprocessing.process")
    if util is None or process is None or _Child.pid == os.getpid():
        return
    if getattr(process.current_process(), "_inheriting", False):
        # The run came with what a spawned child was sent, which it is still reading: finalizers are thrown away before it begins its work.
        util.register_after_fork(_Child, _begins_work)
        return
    if process.parent_process() is None:
        return
    _Child.pid = os.getpid()
    util.Finalize(None, _child_ends, exitpriority=0)


class _Child:
    """The child whose end has been hooked."""

    pid = 0


def _begins_work(_: object) -> None:
    _at_child_exit()


def _child_ends() -> None:
    """Ends the runs of a child without waiting: whoever ships for the parent ships for it, and a parent waits for its children."""
    error = sys.exc_info()[1]  # The finalizers run while the exception that ends the child, if any, is on its way out.
    for run in live_runs():
        if error is not None:
            run.note(_ends.of_exception(error))
    finish_all(0.0, quiet=True)


def begun_in_child(preemption_signals: str) -> None:
    """A forked child has begun a journal of its own: its end is of interest from now on."""
    _at_child_exit()
    take_signals(preemption_signals)


def after_fork() -> None:
    """In a forked child: signals are as they were before us until it logs, since children that hang in C code must still die of SIGTERM."""
    _Stuck.handled, _Stuck.nudge = set(), 0
    if _Stuck.write_end >= 0:
        with contextlib.suppress(ValueError, OSError):
            signal.set_wakeup_fd(-1)  # Or the parent would take the child's signals for its own.
        for end in (_Stuck.read_end, _Stuck.write_end):
            with contextlib.suppress(OSError):
                os.close(end)
        _Stuck.read_end = _Stuck.write_end = -1
    for number in (*_ENDING, *_PREEMPTING):
        handler = signal.getsignal(number)
        if getattr(handler, _MARK, False):
            with contextlib.suppress(ValueError, OSError):
                signal.signal(number, getattr(handler, "below"))  # noqa: B009 - functions have no such attribute for the type checker


# ---- signals -------------------------------------------------------------------------------------------------------------------------------


def take_signals(preemption_signals: str) -> None:
    """Puts handlers on SIGTERM, SIGHUP and the signals of preemption where that takes nothing away from anybody."""
    if threading.current_thread() is not threading.main_thread():
        return
    wanted = {f"SIG{name.upper().removeprefix('SIG')}" for name in preemption_signals.split()}
    for number in (*_ENDING, *_PREEMPTING):
        below = signal.getsignal(number)
        # At their default, USR1 and USR2 are left alone unless asked for: frameworks that requeue jobs look whether anybody has taken them.
        at_default = below is signal.SIG_DFL and (number in _ENDING or number.name in wanted) and not _caught_in_c(number)
        if getattr(below, _MARK, False) or not (callable(below) or at_default):
            continue
        with contextlib.suppress(ValueError, OSError):  # A subinterpreter takes no signals.
            signal.signal(number, _handler(below))
            if at_default:
                _watch_for_stuck()


def _caught_in_c(number: int) -> bool:
    """Whether a handler stands at a signal that Python does not know of, such as `faulthandler.register`'s."""
    try:
        line = next(line for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines() if line.startswith("SigCgt:"))
        return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    except (OSError, StopIteration, ValueError):
        return False


def _held(number: int) -> bool:
    """Whether a journal is just being begun or ended; the signal is then sent again once it is, or the run would end without a word."""
    if not signals_wait():
        return False
    held_signals.append(number)
    if signals_wait():
        _die_within(number, STUCK_S + SIGNAL_TIMEOUT_S + LATE_S)
        return True
    return not _taken_back(number)  # Another thread has ended it meanwhile.


def _taken_back(number: int) -> bool:
    try:
        held_signals.remove(number)
    except ValueError:
        return False
    return True


def _handler(below: Callable[[int, FrameType | None], Any] | int | signal.Handlers | None) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        if number == _Stuck.nudge:
            _Stuck.nudge = 0
            return
        _Stuck.handled.add(number)
        for run in live_runs():
            run.note(_ends.of_signal(number))
        if callable(below):
            below(number, frame)
        elif signal.getsignal(number) is handle and not _held(number):
            _end_by(number, 0.0 if _Child.pid == os.getpid() else SIGNAL_TIMEOUT_S)
            _die(number)

    setattr(handle, _MARK, True)
    handle.__dict__["below"] = below
    return handle


@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
def _answer(_: int | None) -> int:
    """Called by the interpreter in the main thread, between two bytecodes and behind the handlers of signals that have come."""
    _Stuck.answers += 1
    return 0


def _watch_for_stuck() -> None:
    """Has every signal written to a pipe as it comes, and a thread that reads it; not where somebody has such a pipe already."""
    if _Stuck.write_end >= 0:
        return
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    before = signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    if before != -1:
        signal.set_wakeup_fd(before)
    else:
        try:
            threading.Thread(target=_read_signals, args=(read_end,), name="runstream-signals", daemon=True).start()
        except RuntimeError:  # No more threads.
            signal.set_wakeup_fd(-1)
        else:
            _Stuck.read_end, _Stuck.write_end = read_end, write_end
            return
    os.close(read_end)
    os.close(write_end)


def _read_signals(read_end: int) -> None:
    nudges: list[int] = []
    while numbers := os.read(read_end, 64):
        for number in numbers:
            if number in nudges:
                nudges.remove(number)
            elif _ends_process(number) and _unhandled(number, nudges):
                _end_by(number, SIGNAL_TIMEOUT_S)
                _die(number)


def _ends_process(number: int) -> bool:
    """Whether a signal has our handler with the default action below it."""
    handler = signal.getsignal(number)
    return bool(getattr(handler, _MARK, False)) and getattr(handler, "below", None) is signal.SIG_DFL


def _unhandled(number: int, nudges: list[int]) -> bool:
    """Whether the main thread has not begun its handler for so long that it must hang. If it runs Python it does not, whosever handler it ran: one of the user's may have stood
    there at the time, and be gone by now. Nor does it if it waits in a call of Python's, where it would have run its handlers.
    """
    until = clock.monotonic() + STUCK_S
    answers = _Stuck.answers
    ctypes.pythonapi.Py_AddPendingCall(_answer, None)
    while number not in _Stuck.handled and _Stuck.answers == answers:
        if clock.monotonic() > until:
            return not _answers_nudge(number, nudges)
        clock.sleep(0.05)
    return False


def _answers_nudge(number: int, nudges: list[int]) -> bool:
    """Whether the main thread runs a handler now: that of the other signal of an end, which is sent to it and means nothing this once. Where that one is not ours, as under nohup,
    the same one serves: a main thread that has waited for its handler until this very moment misses it then.
    """
    if not _ends_process(number) or (main := threading.main_thread().ident) is None:
        return True
    _Stuck.nudge = next((one for one in _ENDING if one != number and _ends_process(one)), number)
    nudges.append(_Stuck.nudge)  # It comes through the pipe as well.
    signal.pthread_kill(main, _Stuck.nudge)
    until = clock.monotonic() + NUDGE_S
    while _Stuck.nudge and clock.monotonic() < until:
        clock.sleep(0.01)
    return not _Stuck.nudge  # Left as it is where nobody answered: it must mean nothing if it is handled later.


os.register_at_fork(after_in_child=after_fork)  # Once more at each reload, which does no harm: the second call finds nothing to do.
