"""Warnings to the user: through logging, but for a signal handler that ends the process, which may have interrupted logging and would wait for its locks for ever."""

from __future__ import annotations

import contextlib
import logging
import os
import threading

_log = logging.getLogger("runstream")

# Threads in which a signal ends the process: nothing there may wait for a lock that what it interrupted may hold. Kept when the module is reloaded.
ended_by_signal: set[int] = globals().get("ended_by_signal") or set()


def in_signal() -> bool:
    """Whether a signal is ending the process in this thread."""
    return threading.get_ident() in ended_by_signal


def warn(sentence: str) -> None:
    """Tells a sentence."""
    if in_signal():
        with contextlib.suppress(OSError):
            os.write(2, f"runstream: {sentence}\n".encode("utf-8", "replace"))
    else:
        _log.warning("runstream: %s", sentence)
