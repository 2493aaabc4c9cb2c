"""Owns how a child process is started and ended: tied to its parent, in a session of its own, output to a file, stopped within a bound.

Which processes there are, and when they are started again, is the supervisor's business.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["describe_exit", "signal_group", "start_child", "stop_child"]

_CHILD_SCRIPT = Path(__file__).with_name("_child.py")


def start_child(argv: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """Starts `argv` as a child that is killed when the calling *thread* ends, and returns it.

    Call it from a thread that lives as long as the child should: Linux counts the death of the thread that started a process, not of the
    whole parent.

    Args:
        argv: the command; its pid is the returned one, since the small script in between becomes it.
        log: file that its output is appended to.
        env: added to this process's environment.
        cwd: its working directory.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # -I -S: the script needs nothing but the standard library, and a bare interpreter starts in 10 ms.
    command = [sys.executable, "-I", "-S", str(_CHILD_SCRIPT), str(os.getpid()), *argv]
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            # A session of its own: Ctrl-C in the terminal reaches only the one who decides the order of stopping.
            start_new_session=True,
        )


def signal_group(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a child and whatever it started in its session; one that is gone already is no error."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def stop_child(child: subprocess.Popen[bytes], *, timeout_s: float) -> int:
    """Asks the child to end with SIGTERM, kills its whole group after `timeout_s`, and returns its exit code.

    Blocks at most `timeout_s` and the moment a kill takes.
    """
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            pass
    signal_group(child.pid, signal.SIGKILL)
    return child.wait()


def describe_exit(code: int) -> str:
    """Returns an exit code in words: `exit code 2`, or `killed by SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
