"""Waiting for something to hold, bounded."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def wait_for(holds: Callable[[], bool], limit_s: float, what: str) -> None:
    """Waits until something holds; fails with its name when it does not within the limit."""
    deadline = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline:
            pytest.fail(f"waited {limit_s:g} s for {what}")
        time.sleep(0.1)
