"""An archive's worker that is killed (SIGKILL, by its own hand) at the point that DIES_AT names, when it writes its second file."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from runstream.cli import main
from runstream_schemas import publishing
from runstream_sinks import archive_store

if TYPE_CHECKING:
    from runstream_sinks.archive_files import File

files = 0


def die() -> None:
    """As a power cut does."""
    os.kill(os.getpid(), signal.SIGKILL)


def write(self: archive_store.Store, file: File) -> None:
    """Takes the place of the writing; the name of the file is committed by now."""
    global files
    files += 1
    if files == 2 and os.environ["DIES_AT"] == "before":
        die()
    true_write(self, file)
    if files == 2 and os.environ["DIES_AT"] == "after":
        die()


def write_bytes(fresh: str, data: bytes, *, durable: bool) -> None:
    """Takes the place of the bytes: half of them reach the disk."""
    if files == 2 and os.environ["DIES_AT"] == "within":
        with Path(fresh).open("wb") as half:
            half.write(data[: len(data) // 2])
            half.flush()
            die()
    true_write_bytes(fresh, data, durable=durable)


if __name__ == "__main__":
    true_write, true_write_bytes = archive_store.Store.write, publishing.write
    archive_store.Store.write = write
    publishing.write = write_bytes
    sys.exit(main(["archive"]))
