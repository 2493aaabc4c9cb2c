"""Which files an upload means: single ones and folders, in a fixed order, with what is left out and why. Reads folders and no contents."""

from __future__ import annotations

import mimetypes
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    Refuse = Callable[[str], None]

# Before the system's list, which differs from machine to machine.
_TYPES = {
    ".pt": "application/x-pytorch",
    ".pth": "application/x-pytorch",
    ".safetensors": "application/x-safetensors",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".parquet": "application/vnd.apache.parquet",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".onnx": "application/onnx",
    ".keras": "application/x-keras",
    ".joblib": "application/x-joblib",
    ".pkl": "application/x-pickle",
    ".h5": "application/x-hdf5",
    ".md": "text/markdown",
    ".log": "text/plain",
}


@dataclass(frozen=True, slots=True)
class Listed:
    """A file to be stored: where it is, its path within the artifact (with /), and its bytes as of now."""

    source: Path
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Group:
    """A single file, or a folder with all of its files. `name` is what it is called."""

    name: str
    folder: bool
    files: tuple[Listed, ...]


def mime_type_of(name: str) -> str:
    """The type of a file by its name; empty where it says nothing."""
    suffix = PurePosixPath(name).suffix.lower()
    return _TYPES.get(suffix) or mimetypes.guess_type(name, strict=False)[0] or ""


def group_at(given: Any, refuse: Refuse) -> Group | None:
    """What a path means; None, with the reason told, where it is nothing that can be stored.

    Links to files are taken as what they lead to, wherever that is. In folders, links to folders are left out, since they may lead in circles, and so is what is neither file nor folder.
    """
    path = Path(given)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        refuse(f"expected a file or folder that can be read, got {path} ({getattr(error, 'strerror', None) or error})")
        return None
    name = (path.name if path.name != ".." else "") or path.resolve().name or "root"
    if not _is_text(name):
        refuse(f"expected a name that UTF-8 can hold, got {os.fsencode(path)!r}")
        return None
    if stat.S_ISREG(found.st_mode):
        return Group(name, False, (Listed(path, name, found.st_size),))
    if stat.S_ISDIR(found.st_mode):
        return Group(name, True, tuple(_files_in(path, refuse)))
    refuse(f"expected a file or folder, got {path}, which is {_kind(found.st_mode)}")
    return None


def _files_in(folder: Path, refuse: Refuse) -> list[Listed]:
    files: list[Listed] = []
    waiting = [folder]
    while waiting:
        one = waiting.pop()
        try:
            entries = sorted(os.scandir(one), key=lambda entry: entry.name)
        except OSError as error:
            refuse(f"expected a folder that can be read, got {one} ({error.strerror}): it was left out")
            continue
        for entry in entries:
            path = Path(entry.path)
            if not _is_text(entry.name):
                refuse(f"expected names that UTF-8 can hold, got {os.fsencode(entry.path)!r}: it was left out")
                continue
            try:
                found = path.stat()
            except OSError as error:
                refuse(f"expected a file that can be read, got {path} ({error.strerror}): it was left out")
                continue
            if stat.S_ISREG(found.st_mode):
                files.append(Listed(path, path.relative_to(folder).as_posix(), found.st_size))
            elif not stat.S_ISDIR(found.st_mode):
                refuse(f"expected a file or folder, got {path}, which is {_kind(found.st_mode)}: it was left out")
            elif entry.is_symlink():
                refuse(f"expected a file or folder, got {path}, which is a link to a folder: it was left out; log that folder by its own path")
            else:
                waiting.append(path)
    return sorted(files, key=lambda listed: listed.path)


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISFIFO, "a named pipe"), (stat.S_ISSOCK, "a socket"), (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))
    return next((word for asks, word in kinds if asks(mode)), "something else")
