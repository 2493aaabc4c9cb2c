"""How a file appears whole or not at all in a storage: under its name at once where the storage makes it so, else under another name that is changed when everything is there.

fsspec is not imported here: its file systems are handed in by those who have one.
"""

from __future__ import annotations

import glob
import os
import secrets
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Set

# Storages in which an object appears when all of it has been sent; elsewhere a file is written under another name and renamed.
WHOLE = frozenset({"memory", "s3", "s3a", "gs", "gcs", "abfs", "abfss", "adl", "az", "oss", "oci"})


def put_through(fs: Any, protocols: Set[str], target: str, data: bytes, *, durable: bool = True, sweep_after_s: float = 0.0) -> None:
    """Writes a file through a file system of fsspec, else as `put_local`; raises whatever that raises, and leaves nothing behind then."""
    if protocols & WHOLE:
        fs.pipe_file(target, data)
        return
    fs.makedirs(target.rpartition("/")[0], exist_ok=True)
    if "file" in protocols:
        put_local(target, data, durable=durable, sweep_after_s=sweep_after_s)
        return
    fresh = _fresh(target)
    try:
        fs.pipe_file(fresh, data)
        fs.mv(fresh, target)
    except BaseException:
        with suppress(Exception):
            fs.rm(fresh)
        raise


def put_local(target: str, data: bytes, *, durable: bool = True, sweep_after_s: float = 0.0) -> None:
    """Writes a local file whose folder is there; where it is `durable`, it survives a loss of power once this returns. Raises OSError.

    What somebody left who was killed while writing the same file is removed once it is older than `sweep_after_s`: more than 0 where several may write it at a time.
    """
    fresh = _fresh(target)
    try:
        write(fresh, data, durable=durable)
        os.replace(fresh, target)  # noqa: PTH105 - a path of fsspec's
    except BaseException:
        with suppress(OSError):
            os.remove(fresh)  # noqa: PTH107 - a path of fsspec's
        raise
    for left in glob.glob(f"{glob.escape(target)}.*.tmp"):  # noqa: PTH207 - of somebody who was killed while writing the same file
        with suppress(FileNotFoundError):
            if not sweep_after_s or os.stat(left).st_mtime < time.time() - sweep_after_s:  # noqa: PTH116 - a path of fsspec's
                os.remove(left)  # noqa: PTH107 - a path of fsspec's
    if durable:
        folder = os.open(target.rpartition("/")[0], os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write(fresh: str, data: bytes, *, durable: bool) -> None:
    """Writes a local file that nobody looks for yet."""
    with open(fresh, "wb") as file:  # noqa: PTH123 - a path of fsspec's
        file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _fresh(target: str) -> str:
    # No pattern for the files themselves finds it.
    return f"{target}.{secrets.token_hex(4)}.tmp"
