"""Memory that holds nothing any more goes back to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Many small pieces with one kept above them: the allocator cannot give back the end of its heap, and does not look for the middle by itself.
SCRIPT = """
import psutil
from runstream_processors.memory import give_back
rss = lambda: psutil.Process().memory_info().rss
pieces = [bytes(1000) for _ in range(100_000)]
kept = bytes(1000)
full = rss()
del pieces
before = rss()
can = give_back()
print(int(can), full, before, rss())
"""


def test_what_holds_nothing_goes_back() -> None:
    """After many small pieces were let go of the process is smaller by most of them, whatever lies above them."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=True)
    can, full, before, after = map(int, done.stdout.split())
    if not can:
        pytest.skip("this C library has no malloc_trim")
    assert full - after > 70_000_000
    assert after <= before
