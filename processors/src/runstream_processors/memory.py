"""Memory that the allocator keeps for later goes back to the system: after changelogs were read back it is half of a worker's size, and would stay so."""

from __future__ import annotations

import ctypes


def give_back() -> bool:
    """Gives pages that hold nothing back to the system, in milliseconds; says whether this C library can (glibc's malloc_trim)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    return True
