"""Folders where objects lie: a local one, and any that fsspec reaches, which is imported when first needed. Objects appear whole or not at all. The one module here that touches fsspec.

What objects there are is `_objects`' business.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (fsspec ships without type information.)

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, cast
from urllib.parse import unquote, urlsplit

from runstream.artifacts import _uris
from runstream.artifacts._errors import ArtifactError
from runstream_schemas.publishing import put_local, put_through

if TYPE_CHECKING:
    from collections.abc import Iterator

_SWEEP_AFTER_S = 3600.0  # Several ranks may write one object at a time, and none takes so long.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:://|::)")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs", "az": "az", "abfs": "az", "abfss": "az"}


class Place(Protocol):
    """A folder of objects, each under a key with /. What fails raises whatever the storage raises; FileNotFoundError where there is no such object."""

    @property
    def uri(self) -> str:
        """Its address as it may be shown."""
        ...

    def size(self, key: str) -> int | None:
        """Bytes of an object; None where there is none."""
        ...

    def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """Writes an object whole; `durable` ones survive a loss of power where that can be asked for."""
        ...

    def get(self, key: str) -> bytes:
        """All of an object."""
        ...

    def keys(self) -> Iterator[str]:
        """The keys of all objects."""
        ...

    def remove(self, key: str) -> None:
        """Takes an object away, if it is there."""
        ...


class LocalPlace:
    """A folder of this machine, or one that is mounted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def uri(self) -> str:
        """Its address."""
        return self.folder.as_uri()

    def size(self, key: str) -> int | None:
        """Bytes of an object."""
        try:
            return (self.folder / key).stat().st_size
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """Writes an object under another name and renames it."""
        target = self.folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        put_local(str(target), data, durable=durable, sweep_after_s=_SWEEP_AFTER_S)

    def get(self, key: str) -> bytes:
        """All of an object."""
        return (self.folder / key).read_bytes()

    def keys(self) -> Iterator[str]:
        """Keys of objects that are whole."""
        if self.folder.is_dir():
            for path in sorted(self.folder.rglob("*")):
                if path.is_file() and path.suffix != ".tmp":
                    yield path.relative_to(self.folder).as_posix()

    def remove(self, key: str) -> None:
        """Takes an object away."""
        (self.folder / key).unlink(missing_ok=True)


class RemotePlace:
    """Any folder that fsspec reaches."""

    def __init__(self, url: str) -> None:
        """Raises ArtifactError where nothing that is installed reaches such an address."""
        self._fs, self._root = _filesystem(url)
        protocols = self._fs.protocol
        self._protocols: frozenset[str] = frozenset({protocols} if isinstance(protocols, str) else protocols)
        self.uri = _uris.public(url.rstrip("/"))

    def size(self, key: str) -> int | None:
        """Bytes of an object."""
        # Listings are remembered by some storages, while others write to them.
        self._fs.invalidate_cache()
        try:
            return int(self._fs.info(f"{self._root}/{key}")["size"])
        except FileNotFoundError:
            return None

    def put(self, key: str, data: bytes, *, durable: bool) -> None:
        """Writes an object as this storage makes it appear whole."""
        put_through(self._fs, self._protocols, f"{self._root}/{key}", data, durable=durable, sweep_after_s=_SWEEP_AFTER_S)

    def get(self, key: str) -> bytes:
        """All of an object."""
        return bytes(self._fs.cat_file(f"{self._root}/{key}"))

    def keys(self) -> Iterator[str]:
        """Keys of objects that are whole."""
        self._fs.invalidate_cache()
        with suppress(FileNotFoundError):
            for path in cast("list[str]", sorted(self._fs.find(self._root))):
                if not path.endswith(".tmp"):
                    yield path.removeprefix(self._root).lstrip("/")

    def remove(self, key: str) -> None:
        """Takes an object away."""
        with suppress(FileNotFoundError):
            self._fs.rm(f"{self._root}/{key}")


def place_at(url: str) -> Place:
    """The folder at a path or URL; raises ArtifactError where nothing that is installed reaches it."""
    path = local_path(url)
    return RemotePlace(url) if path is None else LocalPlace(path)


def local_path(url: str) -> Path | None:
    """The path that an address means on this machine; None where it names another place."""
    if url.startswith("file://"):
        split = urlsplit(url)
        return Path(unquote(split.path)) if split.netloc in ("", "localhost") and not split.query else None
    return None if _SCHEME.match(url) else Path(url).expanduser().absolute()


def open_at(uri: str) -> BinaryIO:
    """What lies at an address, to be read. Raises ArtifactError or whatever the storage raises."""
    path = local_path(uri)
    if path is not None:
        return path.open("rb")
    fs, target = _filesystem(uri)
    return cast("BinaryIO", fs.open(target, "rb"))


def _filesystem(url: str) -> tuple[Any, str]:
    """The storage of an address and its path there."""
    shown, scheme = _uris.public(url), url.partition(":")[0].lower()
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        extra = _EXTRAS.get(scheme, "artifacts")
        raise ArtifactError(f"{shown} needs the package fsspec, which is not installed: pip install 'runstream[{extra}]'") from error
    try:
        fs, root = cast("tuple[Any, str]", url_to_fs(url))
    except (ValueError, ImportError) as error:
        hint = f": pip install 'runstream[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else ""
        raise ArtifactError(f"expected a folder or an fsspec URL whose package is installed, got {shown}: {_uris.in_message(str(error))}{hint}") from error
    return fs, root.rstrip("/")
