"""An artifact back on this machine: one file, or a folder with all of its files."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from runstream.artifacts import _uris
from runstream.artifacts._download import fetch, inside
from runstream.artifacts._errors import ArtifactError, DamagedArtifact
from runstream.artifacts._objects import is_checksum
from runstream.artifacts._places import open_at
from runstream.artifacts._progress import Bar
from runstream.artifacts._stores import Stores
from runstream_producers.journal.values import told
from runstream_schemas.settings import load

if TYPE_CHECKING:
    from runstream.artifacts._objects import Objects
    from runstream.artifacts._types import Artifact

_READ_BYTES = 1 << 20
_LIST_BYTES_MAX = 1 << 30  # Of a folder's list of files.


def download(artifact: Artifact, target: str | Path, progress: bool | None = None) -> Path:
    """See `Artifact.download`."""
    if not isinstance(cast("object", target), (str, os.PathLike)):
        raise ArtifactError(f"target of download must be the path of a folder, got {told(target)}")
    folder = Path(target)
    if not artifact.uri:
        raise ArtifactError(f"expected an artifact that is stored, got {artifact.kind} {artifact.name!r}, of which only a description was logged")
    name = artifact.path.rpartition("/")[2] or artifact.name
    bar = Bar(name, max(0, artifact.size), progress)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if artifact.kind == "tracked" or "/objects/" not in artifact.uri:
            return _fetch_tracked(artifact, inside(folder, name), bar)
        objects = Stores(load()).at(artifact.uri)
        if artifact.kind == "folder":
            return _fetch_folder(objects, artifact, inside(folder, name), bar)
        return fetch(objects, artifact.checksum, inside(folder, name), bar)
    finally:
        bar.end()


def read_bytes(uri: str, checksum: str) -> bytes:
    """All of a content, checked; for values that fit into memory. Raises as `download` does."""
    objects = Stores(load()).at(uri)
    try:
        data = b"".join(objects.chunks(checksum))
    except FileNotFoundError as error:
        raise ArtifactError(f"expected {uri} to be there, got nothing: it was never stored whole, or has been removed from the store") from error
    found = hashlib.sha256(data).hexdigest()
    if found != checksum:
        raise DamagedArtifact(f"expected content with SHA-256 {checksum} at {uri}, got {len(data):,} bytes with {found}: what the store holds is damaged")
    return data


def _fetch_folder(objects: Objects, artifact: Artifact, folder: Path, bar: Bar) -> Path:
    for path, checksum in _files_of(objects, artifact):
        fetch(objects, checksum, inside(folder, path), bar)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _files_of(objects: Objects, artifact: Artifact) -> list[tuple[str, str]]:
    """Paths and checksums of a folder's files."""
    raw = bytearray()
    for part in objects.chunks(artifact.checksum):
        raw += part
        if len(raw) > _LIST_BYTES_MAX:
            raise DamagedArtifact(f"expected a list of files of at most {_LIST_BYTES_MAX} bytes at {artifact.uri}, got more")
    try:
        listed: Any = json.loads(bytes(raw))
        files = [(str(one["path"]), str(one["sha256"])) for one in cast("list[dict[str, Any]]", listed["files"])]
        if not all(is_checksum(checksum) for _, checksum in files):
            raise ValueError("no checksums")
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedArtifact(f"expected a list of files at {artifact.uri}, got {len(raw):,} bytes that are none ({error})") from error
    return files


def _fetch_tracked(artifact: Artifact, target: Path, bar: Bar) -> Path:
    """A file that stayed where it was: from its address, with whatever credentials the storage finds by itself."""
    partial = target.with_name(f".{target.name[:200]}.partial")
    whole = hashlib.sha256()
    try:
        with open_at(artifact.uri) as source, partial.open("wb") as file:
            while data := source.read(_READ_BYTES):
                file.write(data)
                whole.update(data)
                bar(len(data))
    except ArtifactError:
        raise
    except Exception as error:
        with suppress(OSError):
            partial.unlink()
        raise ArtifactError(f"expected {artifact.uri} to be readable, got {type(error).__name__}: {_uris.in_message(str(error))}") from error
    if artifact.checksum and whole.hexdigest() != artifact.checksum:
        partial.unlink()
        raise DamagedArtifact(
            f"expected content with SHA-256 {artifact.checksum} at {artifact.uri}, got {whole.hexdigest()}: the file was changed since it was tracked"
        )
    partial.replace(target)
    return target
