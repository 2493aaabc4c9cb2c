"""What the end of a process means for its run: by the exception that ended it, the code it exits with, the signal that came. Pure."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Literal

EndState = Literal["finished", "failed", "killed", "preempted"]
_REASON_CHARACTERS_MAX = 500


@dataclass(frozen=True, slots=True)
class Ending:
    """The state in which a run ends, and why."""

    state: EndState
    reason: str


FINISHED = Ending("finished", "")


def of_exception(error: BaseException) -> Ending:
    """The ending of a process that an exception ends. `SystemExit` says by its code whether all went well; Ctrl-C is somebody's wish and no failure."""
    if isinstance(error, SystemExit):
        return of_code(error.code)
    if isinstance(error, KeyboardInterrupt):
        return Ending("killed", "SIGINT (KeyboardInterrupt)")
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - the exception is the user's, and so is what its text raises
        said = ""
    return Ending("failed", f"{type(error).__name__}: {said}"[:_REASON_CHARACTERS_MAX])


def of_code(code: object) -> Ending:
    """The ending of a process that exits with this code as `sys.exit` takes it: None and 0 are well, a text is a complaint."""
    if code is None or code == 0:
        return FINISHED
    return Ending("failed", f"exit code {code}" if isinstance(code, int) else f"exit: {code}"[:_REASON_CHARACTERS_MAX])


def of_signal(number: int) -> Ending:
    """The ending of a process that a signal asks to end; SIGUSR1 and SIGUSR2 are how Slurm and its users announce that the time is up."""
    name = signal.Signals(number).name
    return Ending("preempted" if number in (signal.SIGUSR1, signal.SIGUSR2) else "killed", name)
