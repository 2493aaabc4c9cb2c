"""The store: contents by their SHA-256, each kept once, read and written in parts of fixed size.

    objects/ab/abcd…        a content of at most one part: its bytes
    objects/ab/abcd….parts  a larger one: JSON with its size and the SHA-256 of its parts, each of which is an object by itself

A content is there once its last object is, so an upload that is cut off leaves parts that the next one finds and does not send again, on any storage. Every part that is read is checked
against its name. Memory is that of a part or two, whatever the size.
"""

from __future__ import annotations

import hashlib
import json
import time as clock
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from runstream.artifacts import _uris
from runstream.artifacts._errors import ArtifactError, DamagedArtifact, FileChanged, StoreFailed

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from runstream.artifacts._places import Place

R = TypeVar("R")

# Large enough that a store's answer time is small beside it, small enough to be held in memory twice.
PART_BYTES = 16 << 20
TRIES_MAX = 4
_PAUSE_S = 0.25  # Before the second try; four times as long before each one after that.
_PART_BYTES_MAX = 1 << 30  # Of parts that another version wrote.
_LIST_ENTRIES_MAX = 1 << 22  # Of a list of parts: 64 TiB.


@dataclass(frozen=True, slots=True)
class Content:
    """What is in the store: its SHA-256 in hexadecimal, bytes, and address. `fresh` is how many bytes were written for it, 0 where all of it was there."""

    checksum: str
    size: int
    uri: str
    fresh: int


@dataclass(frozen=True, slots=True)
class Parts:
    """The SHA-256 of each part of a content, in order, and the bytes of each but the last."""

    checksums: list[str]
    part_bytes: int


def _silent(_bytes: int) -> None:
    return


class Objects:
    """Contents at a place. Raises StoreFailed where the storage fails for good: each call is tried `tries` times. `uri` is what addresses begin with, if not the place's own."""

    def __init__(
        self, place: Place, *, uri: str | None = None, part_bytes: int = PART_BYTES, tries: int = TRIES_MAX, pause: Callable[[float], None] = clock.sleep
    ) -> None:
        self.place = place
        self._uri = place.uri if uri is None else uri
        self._tries = tries
        self._part_bytes = part_bytes
        self._pause = pause

    # ---- in ----------------------------------------------------------------------------------------------------------------------------

    def add_bytes(self, data: bytes, *, durable: bool = True) -> Content:
        """Keeps some bytes."""
        whole = hashlib.sha256(data).hexdigest()
        if len(data) <= self._part_bytes:
            fresh = self.put(_key(whole), data, durable=durable)
            return Content(whole, len(data), self.uri_of(whole), fresh)
        parts: list[str] = []
        fresh = 0
        for start in range(0, len(data), self._part_bytes):
            part = data[start : start + self._part_bytes]
            parts.append(hashlib.sha256(part).hexdigest())
            fresh += self.put(_key(parts[-1]), part, durable=durable)
        return self._add_list(whole, len(data), parts, fresh, durable=durable)

    def add_file(self, path: Path, told: Callable[[int], None] = _silent) -> Content:
        """Keeps what a file holds; `told` hears of bytes as they are done.

        Raises:
            OSError: it cannot be read.
            FileChanged: it did not stay as it was meanwhile.
        """
        import os

        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            whole = hashlib.sha256()
            parts: list[str] = []
            size = fresh = 0
            while part := _read(file, self._part_bytes):
                whole.update(part)
                size += len(part)
                if size > before.st_size:
                    break
                parts.append(hashlib.sha256(part).hexdigest() if size < before.st_size or parts else whole.hexdigest())
                fresh += self.put(_key(parts[-1]), part)
                told(len(part))
            _check_unchanged(path, before, os.fstat(file.fileno()), size)
        checksum = whole.hexdigest()
        if len(parts) > 1:
            return self._add_list(checksum, size, parts, fresh)
        if not parts:
            self.put(_key(checksum), b"")
        return Content(checksum, size, self.uri_of(checksum), fresh)

    def _add_list(self, checksum: str, size: int, parts: list[str], fresh: int, *, durable: bool = True) -> Content:
        listed = json.dumps({"size": size, "part_bytes": self._part_bytes, "parts": parts}).encode()
        self.put(_key(checksum) + ".parts", listed, durable=durable)
        return Content(checksum, size, self.uri_of(checksum), fresh)

    def put(self, key: str, data: bytes, *, durable: bool = True) -> int:
        """Writes an object unless it is there, of the same size; returns the bytes that were written."""
        if self._tried(f"looking for {key}", lambda: self.place.size(key)) == len(data):
            return 0
        self._tried(f"writing {len(data):,} bytes to {key}", lambda: self.place.put(key, data, durable=durable))
        return len(data)

    # ---- out ---------------------------------------------------------------------------------------------------------------------------

    def uri_of(self, checksum: str) -> str:
        """The address of a content, as it may be shown."""
        return f"{self._uri}/{_key(checksum)}"

    def has(self, checksum: str) -> bool:
        """Whether a content is there."""
        key = _key(checksum)
        return any(self._tried(f"looking for {one}", lambda one=one: self.place.size(one)) is not None for one in (key, f"{key}.parts"))

    def parts_of(self, checksum: str) -> Parts:
        """What a content is made of.

        Raises:
            FileNotFoundError: the store does not have it.
            DamagedArtifact: its list of parts is none.
            ArtifactError: it is no checksum.
        """
        if not is_checksum(checksum):
            raise ArtifactError(f"expected the SHA-256 of a content, 64 hexadecimal digits, got {checksum[:80]!r}")
        key = _key(checksum)
        if self._tried(f"looking for {key}", lambda: self.place.size(key)) is not None:
            return Parts([checksum], 0)
        raw = self._tried(f"reading {key}.parts", lambda: self.place.get(f"{key}.parts"))
        try:
            listed: Any = json.loads(raw)
            parts = Parts(cast("list[str]", listed["parts"]), int(listed["part_bytes"]))
            if not (0 < len(parts.checksums) <= _LIST_ENTRIES_MAX and all(map(is_checksum, parts.checksums)) and 0 < parts.part_bytes <= _PART_BYTES_MAX):
                raise ValueError("no list of checksums")
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedArtifact(
                f"expected a list of parts at {self.uri_of(checksum)}.parts, got {len(raw)} bytes that are none ({error}): remove that object and log the artifact again"
            ) from error
        return parts

    def part(self, checksum: str) -> bytes:
        """The bytes of a part; raises FileNotFoundError, or DamagedArtifact where they are not what they were."""
        key = _key(checksum)
        data = self._tried(f"reading {key}", lambda: self.place.get(key))
        found = hashlib.sha256(data).hexdigest()
        if found != checksum:
            raise DamagedArtifact(
                f"expected bytes with SHA-256 {checksum} at {self.uri_of(checksum)}, got {len(data):,} bytes with {found}: "
                "what the store holds is damaged, so remove that object and log the artifact again"
            )
        return data

    def chunks(self, checksum: str) -> Iterator[bytes]:
        """All of a content, part by part, each checked; raises as `part` does."""
        for part in self.parts_of(checksum).checksums:
            yield self.part(part)

    def _tried(self, what: str, work: Callable[[], R]) -> R:
        """What the storage answers, within some tries. That there is no such object is an answer."""
        pause_s = _PAUSE_S
        for number in range(1, self._tries + 1):
            try:
                return work()
            except (FileNotFoundError, MemoryError):
                raise
            except Exception as error:
                if number == self._tries:
                    raise StoreFailed(
                        f"{what} at {self.place.uri} {_times(self._tries)} {type(error).__name__}: {_uris.in_message(str(error))}. "
                        "Check that the store (setting artifact_url) can be reached and written to, then make the call again: what has arrived is not sent again"
                    ) from error
                self._pause(pause_s)
                pause_s *= 4
        raise AssertionError


def _times(tries: int) -> str:
    return "failed with" if tries == 1 else f"failed {tries} times, the last time with"


def is_checksum(text: object) -> bool:
    """Whether it is a SHA-256 in hexadecimal."""
    return isinstance(text, str) and len(text) == 64 and not set(text) - set("0123456789abcdef")


def _key(checksum: str) -> str:
    return f"objects/{checksum[:2]}/{checksum}"


def _read(file: BinaryIO, size: int) -> bytes:
    """As many bytes as are left, up to a size: some file systems give fewer at a time."""
    data = file.read(size)
    while 0 < len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data


def _check_unchanged(path: Path, before: os.stat_result, after: os.stat_result, size: int) -> None:
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or size != before.st_size:
        raise FileChanged(
            f"expected {path} to stay as it was while it is stored, {before.st_size:,} bytes, got {max(size, after.st_size):,} bytes or another time of change: "
            "finish writing it, then log it again"
        )
