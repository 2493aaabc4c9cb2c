"""Owns the bytes of a request's body: lengths and chunks, compression, and the file that an insert's rows wait in."""

from __future__ import annotations

import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from runstream_local.clickhouse.failures import QueryError

__all__ = ["BodyReader", "open_body", "spooled"]

_CHUNK_BYTES = 1 << 20
# Rows up to this size wait in memory; larger ones wait on disk, so that a great insert cannot eat the machine's memory.
_MEMORY_BYTES_MAX = 256 << 20


class _Decompressor(Protocol):
    """What zlib, lz4 and zstd have in common: one frame's decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes | None: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class BodyReader:
    """Reads one request's body, decompressed; never past its end, and in bounded memory."""

    def __init__(self, source: BinaryIO, *, length: int | None, new_decompressor: Callable[[], _Decompressor] | None) -> None:
        """Reads `length` bytes of `source`, or HTTP chunks where it is None."""
        self._raw = _chunked(source) if length is None else _counted(source, length)
        self._new_decompressor = new_decompressor

    def chunks(self) -> Generator[bytes]:
        """Yields the body piece by piece.

        Raises:
            QueryError: the body ends early or is not compressed as it says.
        """
        if self._new_decompressor is None:
            yield from self._raw
            return
        try:
            yield from _decompressed(self._raw, self._new_decompressor)
        except QueryError:
            raise
        except Exception as error:  # each codec has an error class of its own, and all mean the same here
            raise QueryError.of(271, f"Cannot decompress the request's body: {error}") from error


def open_body(source: BinaryIO, headers: Mapping[str, str]) -> BodyReader:
    """Returns a reader of the body that `headers` announce; one without any announces nothing and is empty.

    Raises:
        QueryError: its length or compression is none that this server understands.
    """
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        length = None
    else:
        text = headers.get("Content-Length", "0")
        if not text.isdecimal():
            raise QueryError.of(381, f"Content-Length must be a number, got {text!r}")
        length = int(text)
    return BodyReader(source, length=length, new_decompressor=_codec(headers.get("Content-Encoding", "").strip().lower()))


def _codec(encoding: str) -> Callable[[], _Decompressor] | None:
    if encoding in ("", "identity"):
        return None
    if encoding in ("gzip", "deflate"):
        return lambda: zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # 32: told by the header, zlib or gzip
    if encoding == "lz4":
        import lz4.frame

        # Its stubs leave out eof and unused_data, which it has.
        return cast("Callable[[], _Decompressor]", lz4.frame.LZ4FrameDecompressor)
    if encoding == "zstd":
        if sys.version_info >= (3, 14):
            from compression import zstd
        else:
            from backports import zstd
        return zstd.ZstdDecompressor
    raise QueryError.of(89, f"Unknown Content-Encoding {encoding!r}: expected gzip, deflate, lz4 or zstd")


def _decompressed(raw: Generator[bytes], new_decompressor: Callable[[], _Decompressor]) -> Generator[bytes]:
    """Yields what is in one frame after another; a frame that does not end is an error, so half a body never counts as whole."""
    frame: _Decompressor | None = None
    for piece in raw:
        left = piece
        while left:
            if frame is None:
                frame = new_decompressor()
            yield from _pieces(frame, left)
            left = b""
            if frame.eof:
                left = frame.unused_data or b""
                frame = None
    if frame is not None:
        raise QueryError.of(271, "Cannot decompress the request's body: it ends in the middle of a frame")


def _pieces(frame: _Decompressor, data: bytes) -> Generator[bytes]:
    """Yields what some bytes of a frame come to, a megabyte at a time: of zeros a megabyte is a gigabyte, or thirty."""
    while True:
        plain = frame.decompress(data, _CHUNK_BYTES)
        if plain:
            yield plain
        # zlib gives back what it has not looked at yet; the others keep it.
        data = getattr(frame, "unconsumed_tail", b"")
        if frame.eof or (not data and len(plain) < _CHUNK_BYTES):
            return


def _counted(source: BinaryIO, length: int) -> Generator[bytes]:
    left = length
    while left:
        piece = source.read(min(left, _CHUNK_BYTES))
        if not piece:
            raise QueryError.of(33, f"The request's body ended {left} bytes early")
        left -= len(piece)
        yield piece


def _chunked(source: BinaryIO) -> Generator[bytes]:
    while True:
        line = source.readline(256)
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise QueryError.of(33, "The request's chunked body ended early or is malformed") from None
        if size == 0:
            break
        yield from _counted(source, size)
        source.readline(8)
    while source.readline(8192).strip():  # trailers
        pass


@contextmanager
def spooled(first: bytes, body: Generator[bytes], folder: Path) -> Generator[Path]:
    """Writes `first` and the rest of `body` where the engine can read it, and yields the path; nothing is left afterwards.

    In memory without a name where the system can, so that even a hard kill leaves nothing; past 256 MB, in `folder`.
    """
    if not hasattr(os, "memfd_create"):
        with _on_disk(folder) as (path, file):
            _write_all(file, first, body, limit=None)
            yield path
        return
    with open(os.memfd_create("insert"), "w+b") as memory:  # noqa: PTH123  # a descriptor has no path
        if _write_all(memory, first, body, limit=_MEMORY_BYTES_MAX):
            yield Path(f"/proc/self/fd/{memory.fileno()}")
            return
        with _on_disk(folder) as (path, file):
            memory.seek(0)
            while piece := memory.read(_CHUNK_BYTES):
                file.write(piece)
            memory.truncate(0)
            _write_all(file, b"", body, limit=None)
            yield path


@contextmanager
def _on_disk(folder: Path) -> Generator[tuple[Path, BinaryIO]]:
    with tempfile.NamedTemporaryFile(prefix="insert-", dir=folder) as file:
        yield Path(file.name), cast("BinaryIO", file.file)


def _write_all(file: BinaryIO, first: bytes, body: Generator[bytes], *, limit: int | None) -> bool:
    """Writes until the body ends (True) or `limit` bytes are exceeded (False), and flushes."""
    written = file.write(first)
    for piece in body:
        written += file.write(piece)
        if limit is not None and written > limit:
            file.flush()
            return False
    file.flush()
    return True
