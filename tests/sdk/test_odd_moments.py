"""Ends that come at odd moments: signals in the middle of `init` and `finish`, hooks and descriptors that somebody else has replaced or closed."""

from __future__ import annotations

import logging
import math
import signal

import pytest

import runstream
from runstream._account import WriterAccount
from runstream.commands import account
from runstream_producers.errors import StrictError
from tests.sdk.conftest import Offline
from tests.sdk.test_lifecycle import BEGIN, ends, run_script

# Without the thread that ends the process in any case, so that a handler that hangs is seen.
UNBOUNDED = "from runstream import _hooks\n_hooks._die_within = lambda number, seconds: None\n_hooks.SIGNAL_TIMEOUT_S = 0.2\n"

# SIGTERM at each of the lines, one in so many, that a call runs in our code and in the library's for threads and queues; each in a forked child of its own.
AT_LINES = """
import os, signal, sys, time, runstream

def tried(call, wanted):
    pid = os.fork()
    if pid == 0:
        seen = 0
        def trace(frame, event, argument):
            nonlocal seen
            name = frame.f_code.co_filename
            if "runstream" not in name and not name.endswith(("threading.py", "queue.py", "logging/__init__.py")):
                return None
            if event == "line":
                seen += 1
                if seen == wanted:
                    sys.settrace(None)
                    os.kill(os.getpid(), signal.SIGTERM)
            return trace
        sys.settrace(trace)
        call()
        sys.settrace(None)
        os._exit(77)
    until = time.monotonic() + 8
    while time.monotonic() < until:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise SystemExit(f"hangs at line {wanted}")

def sweep(call, first, stride):
    for wanted in range(first, 100_000, stride):
        status = tried(call, wanted)
        if status == 77:
            assert wanted > first
            return
        assert status == -signal.SIGTERM, (wanted, status)
    raise SystemExit("the call never ended")
"""


def test_sigterm_at_the_lines_of_finish(offline: Offline) -> None:
    """Wherever in `finish` SIGTERM comes, no lock is waited for that its own thread holds: the process dies of it, and its run has an end."""
    script = UNBOUNDED + AT_LINES + "def call():\n    run = runstream.init('p')\n    os.write(2, b'')\n    run.log({'a': 1.0})\n    run.finish(0)\n"
    done = run_script(offline, script + "runstream.init('p').finish(0)\nsweep(call, 5, 61)\n")
    assert done.returncode == 0, done.stderr
    assert {state for state, _ in ends(offline)} == {"finished", "killed"}, "none is left running or crashed"


def test_sigterm_inside_the_stop_of_the_watch(offline: Offline) -> None:
    """Stopping the watch of an agent takes no lock that a handler which interrupts it would wait for."""
    script = """
import os, signal, threading, runstream
from runstream import _agent
_agent.Watch._spawn = lambda self, descriptors: os.getpid()
run = runstream.init("p")
run.log({"a": 1.0})
lines = 0
def at_line(frame, event, argument):
    if "threading" in frame.f_code.co_filename and frame.f_code.co_name in ("notify_all", "notify", "_stop", "_wait_for_tstate_lock", "join") and event == "line":
        sys.settrace(None)
        os.kill(os.getpid(), signal.SIGTERM)
    return at_line
import sys
sys.settrace(at_line)
run.finish(0)
"""
    done = run_script(offline, UNBOUNDED + script, RUNSTREAM_MODE="online")
    assert done.returncode == -signal.SIGTERM, done.stderr


def test_sigterm_dies_in_time_whatever_is_waited_for(offline: Offline) -> None:
    """Where the end itself hangs in the handler, the process dies of its signal soon after the time that the end is given."""
    script = BEGIN + "run.close_journal = lambda deadline: time.sleep(60)\n" + "os.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(60)\n"
    done = run_script(offline, script)
    assert done.returncode == -signal.SIGTERM, done.stderr


@pytest.mark.parametrize("hook", ["lambda *error: print('pretty')", "lambda *error: chained(*error)"])
def test_an_exception_under_a_replaced_excepthook(offline: Offline, hook: str) -> None:
    """An uncaught exception is a failure, whether whoever replaced the hook after `init` calls ours or not."""
    done = run_script(offline, BEGIN + f"chained = sys.excepthook\nsys.excepthook = {hook}\nraise ValueError('boom')")
    assert done.returncode == 1
    assert ends(offline) == [("failed", "ValueError: boom")]


def test_an_exception_that_was_caught_and_kept(offline: Offline) -> None:
    """One that a library caught and left for a debugger is none that ended the process."""
    script = (
        BEGIN + "def library():\n    try:\n        1 / 0\n    except ZeroDivisionError as error:\n        sys.last_value = sys.last_exc = error\nlibrary()\n"
    )
    assert run_script(offline, script).returncode == 0
    assert ends(offline) == [("finished", "")]


def test_a_signal_in_init_leaves_no_ghost(offline: Offline) -> None:
    """A run that SIGTERM finds half begun is begun as a whole, and then ended with it."""
    script = BEGIN + "from runstream_producers.journal.tail import Tail\nrotate = Tail.rotate\n"
    script += "def rotated(self, more):\n    os.kill(os.getpid(), signal.SIGTERM)\n    return rotate(self, more)\nTail.rotate = rotated\nrunstream.init('p', name='second')\n"
    done = run_script(offline, script)
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert ends(offline) == [("killed", "SIGTERM")] * 2


def test_ctrl_c_in_init_leaves_no_ghost(offline: Offline) -> None:
    """One that Ctrl-C breaks off before anything is recorded leaves no journal."""
    script = "import runstream\nfrom runstream_producers.journal.tail import Tail\ndef rotate(self, more):\n    raise KeyboardInterrupt\nTail.rotate = rotate\nrunstream.init('p')\n"
    assert run_script(offline, script).returncode == -signal.SIGINT
    assert offline.folders() == []


def test_descriptors_that_somebody_closed(offline: Offline) -> None:
    """A program that closes all descriptors, and opens its own under their numbers, keeps those; every run is ended without a traceback."""
    script = BEGIN + "other = runstream.init('p')\nlock = run._journal.folder._lock\nos.closerange(3, 200)\n"
    script += "mine = os.open('/dev/null', os.O_RDONLY)\nos.dup2(mine, lock)\nrun.finish(0)\nos.fstat(lock)\n"
    done = run_script(offline, script)
    assert (done.returncode, done.stderr) == (0, "")
    assert ends(offline) == [("finished", "")] * 2


@pytest.mark.parametrize("timeout", ["abc", None, math.nan])
def test_a_timeout_that_is_no_number(offline: Offline, caplog: pytest.LogCaptureFixture, timeout: float) -> None:
    """`finish` says so and takes the usual time; strict mode raises."""
    run = runstream.init("p")
    with caplog.at_level(logging.WARNING, "runstream"):
        assert run.finish(timeout).rows_left >= 0
    assert "timeout of finish must be a number of seconds" in caplog.text
    strict = runstream.init("p", strict=True)
    with pytest.raises(StrictError, match="timeout of finish"):
        strict.finish(timeout)
    assert strict.finish(math.inf) is strict.finish(-1)


def test_log_at_the_interpreters_exit(offline: Offline) -> None:
    """A call that comes after the exit has ended the run is told what ended it, since nobody called `finish`."""
    script = (
        "import atexit\natexit.register(lambda: None)\n"
        + BEGIN
        + "class Late:\n    def __del__(self): run.log({'late': 1.0})\nimport builtins\nbuiltins.late = Late()\n"
    )
    done = run_script(offline, script)
    assert "after the interpreter's exit had ended the run" in done.stderr
    assert "after finish" not in done.stderr


def test_a_closed_terminal(offline: Offline) -> None:
    """SIGHUP ends a run as SIGTERM does; where it is ignored, as under nohup, it stays so."""
    hang_up = "os.kill(os.getpid(), signal.SIGHUP)\ntime.sleep(0.1)\n"
    assert run_script(offline, BEGIN + hang_up).returncode == -signal.SIGHUP
    assert ends(offline) == [("killed", "SIGHUP")]
    assert run_script(offline, "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n" + BEGIN + hang_up).returncode == 0
    assert ends(offline) == [("finished", ""), ("killed", "SIGHUP")]


def test_hardware_of_an_agent_that_was_killed(capsys: pytest.CaptureFixture[str]) -> None:
    """In the account of a run that finished, it is no crash: its agent was killed, and another went on."""
    writers = [WriterAccount(1, "rank", 0, "finished", 1, 1, 1, 1, 1, 1, {}), WriterAccount(2, "hardware", 0, "crashed", 1, 1, 1, 1, 1, 1, {})]
    account._print("run", writers, [], balanced=True)
    shown = capsys.readouterr().out
    assert "agent killed" in shown
    assert "crashed" not in shown
