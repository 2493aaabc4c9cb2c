"""Contents back to files: put together part by part under another name, checked, and only then given their name. A download that is cut off goes on behind the parts that are whole."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from runstream.artifacts._errors import ArtifactError, DamagedArtifact
from runstream.artifacts._objects import is_checksum

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream.artifacts._objects import Objects, Parts

_READ_BYTES = 1 << 20


def _silent(_bytes: int) -> None:
    return


def inside(folder: Path, path: str) -> Path:
    """Where a file of an artifact goes; raises ArtifactError for a path that leads out of the folder, by its own words or by a link that is there already."""
    words = path.split("/")
    named = "\0" not in path and not any(one in ("", ".", "..") for one in words)
    target = folder.joinpath(*words) if named else folder
    if not named or not target.parent.resolve().is_relative_to(folder.resolve()) or target.is_symlink():
        raise ArtifactError(f"expected the path of a file within {folder}, got {path!r}: nothing is written outside of the folder that was asked for")
    return target


def fetch(objects: Objects, checksum: str, target: Path, told: Callable[[int], None] = _silent) -> Path:
    """Writes a content to a file; a file that holds it already is left as it is.

    Raises:
        ArtifactError: the store has no such content, or fails.
        DamagedArtifact: what it has is not what was logged; nothing is left in place.
        OSError: the file cannot be written.
    """
    if target.is_file() and checksum_of(target) == checksum:
        return target
    if not is_checksum(checksum):
        raise ArtifactError(f"expected an artifact with the SHA-256 of its content, got {checksum[:80]!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:200]}.{checksum[:16]}.partial")
    try:
        parts = objects.parts_of(checksum)
        partial, opened = _opened(partial)
        with opened as file:
            whole = hashlib.sha256()
            first = _resumed(file, parts, whole, told)
            for part in parts.checksums[first:]:
                data = objects.part(part)
                file.write(data)
                whole.update(data)
                told(len(data))
            file.flush()
            os.fsync(file.fileno())
    except FileNotFoundError as error:
        raise ArtifactError(
            f"expected {objects.uri_of(checksum)} to be there, got nothing: it was never stored whole, or has been removed from the store"
        ) from error
    if whole.hexdigest() != checksum:
        with suppress(OSError):
            partial.unlink()
        raise DamagedArtifact(
            f"expected content with SHA-256 {checksum} at {objects.uri_of(checksum)}, got parts that come to {whole.hexdigest()}: "
            "the list of its parts is damaged, so remove that object and log the artifact again"
        )
    partial.replace(target)
    return target


def _opened(partial: Path) -> tuple[Path, BinaryIO]:
    """A file to put a content together in: the one that was begun, or another while somebody else is at that."""
    # Not through a link that somebody has put there.
    file = open(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o666), "a+b")  # noqa: PTH123, SIM115 - of a descriptor, and handed on
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # Locked, or on a file system without locks.
        file.close()
        other = partial.with_name(f"{partial.stem}.{secrets.token_hex(4)}.partial")
        return other, other.open("x+b")
    return partial, file


def _resumed(file: BinaryIO, parts: Parts, whole: hashlib._Hash, told: Callable[[int], None]) -> int:
    """How many parts stand whole in a file that was cut off; it goes on behind them."""
    size = os.fstat(file.fileno()).st_size
    end = done = 0
    file.seek(0)
    while parts.part_bytes and end < size and done < len(parts.checksums):
        data = file.read(parts.part_bytes)
        if hashlib.sha256(data).hexdigest() != parts.checksums[done]:
            break
        whole.update(data)
        told(len(data))
        end += len(data)
        done += 1
    file.truncate(end)
    file.seek(end)
    return done


def checksum_of(path: Path) -> str:
    """The SHA-256 of a file."""
    whole = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            whole.update(data)
    return whole.hexdigest()
