"""Numbers that a process tells of itself and that outlive it, however it dies: 64-bit numbers in a mapped file.

A number is stored by one instruction, so SIGKILL leaves the one before or the one after. `struct.pack_into` clears its bytes before it writes them: killed between the two
it leaves zero, which looks as if no call had returned.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path


def make(path: Path, numbers: int = 1) -> None:
    """Makes a file of zeros."""
    path.write_bytes(bytes(8 * numbers))


def teller(path: Path) -> memoryview[int]:
    """The numbers of a file, to be stored by index; not negative."""
    with path.open("r+b") as file:
        return memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")


def told(path: Path) -> tuple[int, ...]:
    """What has been told by now."""
    data = path.read_bytes()
    return struct.unpack(f"<{len(data) // 8}Q", data)
