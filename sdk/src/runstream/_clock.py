"""The time of records that are no rows of metrics, which `runstream.testing` sets."""

from __future__ import annotations

import time


def now_s() -> float:
    """Epoch seconds."""
    return time.time()


def now_ms() -> int:
    """Epoch milliseconds."""
    return round(now_s() * 1000.0)
