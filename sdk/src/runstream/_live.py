"""The runs of this process that are not finished: held until they are, whole while they begin or end even where a signal strikes, and another's in a forked child."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from runstream import _ends

if TYPE_CHECKING:
    from collections.abc import Generator

    from runstream._run import Run

# Held here until it is finished, so that a run whose variable went out of scope ends well all the same; kept when the module is reloaded.
_live: set[Run] = globals().get("_live") or set()
held_signals: list[int] = []  # Signals that came while a journal was being begun or ended.
_beginning: list[None] = []  # One for each run that is being begun.


def hold(run: Run) -> None:
    """Holds a run that has begun."""
    _live.add(run)


def let_go(run: Run) -> None:
    """Holds a run no longer, which is finished."""
    _live.discard(run)


def live_runs() -> list[Run]:
    """Runs of this process that have not been finished."""
    return [run for run in list(_live) if run.alive]  # A copy, since another thread may begin one meanwhile.


def signals_wait() -> bool:
    """Whether a journal is just being begun or ended: a signal that would end the process is then held until that is done, or a run would end without a word."""
    return bool(_beginning) or any(run.closing for run in live_runs())


def send_held() -> None:
    """Sends on the signals that were held, once nothing is being begun or ended."""
    while held_signals and not signals_wait():
        with contextlib.suppress(IndexError):  # Another thread has sent it.
            os.kill(os.getpid(), held_signals.pop())


@contextlib.contextmanager
def whole_beginning() -> Generator[None]:
    """Holds signals that would end the process until a run has begun as a whole; one that Ctrl-C or a handler of the user's breaks off on its way is ended with that."""
    before = live_runs()
    _beginning.append(None)
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        for run in live_runs():
            if run not in before:
                run.note(_ends.of_exception(error))
                run.finish_within(0.0, quiet=True)
        raise
    finally:
        _beginning.pop()
        send_held()


def _after_fork_in_child() -> None:
    for run in list(_live):
        run.after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
