"""The folder of an archive, anywhere that fsspec reaches: files appear there whole or not at all. The one module that touches fsspec."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false
# (fsspec ships without type information.)

from __future__ import annotations

import json
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from fsspec.core import url_to_fs

from runstream_schemas.publishing import put_through
from runstream_schemas.settings import SettingsError
from runstream_sinks import parquet
from runstream_sinks.archive_files import File, Name, parse_name
from runstream_sinks.errors import SinksError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from runstream_sinks.archive_files import Raw

MARK = "runstream-archive.json"


class ArchiveError(SinksError):
    """The archive's folder cannot be used: the message says what for, and why."""


class Store:
    """An archive's folder."""

    def __init__(self, url: str) -> None:
        """Raises SettingsError where nothing that is installed reaches such an address."""
        try:
            fs, root = cast("tuple[Any, str]", url_to_fs(url))
        except (ValueError, ImportError) as error:
            raise SettingsError(f"archive_url must be a folder or an fsspec URL whose package is installed: {error}") from error
        self._fs = fs
        self._root = root.rstrip("/")
        self._protocols: set[str] = {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)

    def begin(self) -> None:
        """Makes the folder and its mark, so that whoever reads it knows what it is. Raises ArchiveError."""
        try:
            if not self._exists(MARK):
                self._put(MARK, json.dumps({"runstream_archive": 1}).encode())
        except Exception as error:
            raise ArchiveError(f"the archive's folder cannot be written to: {_said(error)}") from error

    def check(self) -> None:
        """Raises ArchiveError where there is no archive."""
        try:
            found = self._exists(MARK)
        except Exception as error:
            raise ArchiveError(f"the archive's folder cannot be read: {_said(error)}") from error
        if not found:
            raise ArchiveError(f"there is no archive at this address: it has no {MARK}")

    def has(self, name: Name) -> bool:
        """Whether a file is there. Raises ArchiveError."""
        try:
            return self._exists(name.path)
        except Exception as error:
            raise ArchiveError(f"the archive's folder cannot be read: {_said(error)}") from error

    def names(self, topics: Iterable[str]) -> Iterator[Name]:
        """The files of topics, in any order. Raises ArchiveError."""
        for name, _ in self.sizes(topics):
            yield name

    def sizes(self, topics: Iterable[str]) -> Iterator[tuple[Name, int]]:
        """The same with the bytes of each."""
        for topic in topics:
            try:
                self._fs.invalidate_cache()
                found = cast("dict[str, dict[str, Any]]", self._fs.find(f"{self._root}/{topic}", detail=True))
            except FileNotFoundError:
                continue
            except Exception as error:
                raise ArchiveError(f"the archive's folder cannot be read: {_said(error)}") from error
            for path, facts in found.items():
                name = parse_name(path.removeprefix(f"{self._root}/"))
                if name is not None:
                    yield name, int(facts.get("size") or 0)

    def write(self, file: File) -> None:
        """Writes a file; it is there, whole and for good, when this returns. One that is there already is replaced by the same. Raises ArchiveError."""
        buffer = BytesIO()
        parquet.write(buffer, file.name.place, file.records)
        try:
            self._put(file.name.path, buffer.getvalue())
        except Exception as error:
            raise ArchiveError(f"a file of the archive was not written: {_said(error)}") from error

    def read(self, name: Name) -> Iterator[Raw]:
        """The records of a file, some at a time, in bounded memory whatever it is. Raises ArchiveError."""
        try:
            with self._fs.open(f"{self._root}/{name.path}", "rb") as source:
                yield from parquet.read(source, name)
        except parquet.Refused as error:
            raise ArchiveError(f"{name.path} is no file of this archive's: {error}; move it elsewhere to replay the others") from None
        except Exception as error:  # Each storage has errors of its own.
            raise ArchiveError(f"{name.path} cannot be read: {_said(error)}") from error

    def _exists(self, path: str) -> bool:
        # Object stores are listed once and remembered, while others write to them: a file that looks missing would be written again, perhaps from less than it was made of.
        self._fs.invalidate_cache()
        return bool(self._fs.exists(f"{self._root}/{path}"))

    def _put(self, path: str, data: bytes) -> None:
        put_through(self._fs, self._protocols, f"{self._root}/{path}", data)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:300]
