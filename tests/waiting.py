"""Waiting for something to hold, bounded."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def wait_for(holds: Callable[[], bool], limit_s: float, what: str | Callable[[], str]) -> None:
    """Waits until something holds; fails with what was waited for, said at the end, when it does not within the limit."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit_s:g} s for {what if isinstance(what, str) else what()}")
        time.sleep(0.1)


def holds(condition: Callable[[], bool], limit_s: float, look_s: float = 0.01) -> bool:
    """Whether something comes to hold within a time; it is looked at every `look_s`, since what is waited for here belongs to other processes, which tell nobody."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(look_s)
    return True
