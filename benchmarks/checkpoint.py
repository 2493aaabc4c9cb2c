"""A checkpoint as training writes one, by a process beside what is measured: large writes into a new file, flushed to the disk; then the file goes, as that of an older checkpoint does."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

_CHUNK_BYTES = 8 << 20


def write(path: Path, size: int) -> None:
    """Writes so many bytes that do not compress, waits until the disk has them, and removes the file."""
    chunk = os.urandom(_CHUNK_BYTES)
    left = size
    try:
        with path.open("wb", buffering=0) as file:
            while left > 0:
                left -= file.write(chunk[:left])
            os.fsync(file.fileno())
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def being_written(folder: Path, size: int) -> Generator[subprocess.Popen[bytes]]:
    """The process that writes a checkpoint of so many bytes into a folder; it ends with the block at the latest."""
    process = subprocess.Popen([sys.executable, __file__, str(folder / "checkpoint"), str(size)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        (folder / "checkpoint").unlink(missing_ok=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
