"""Avro object container files (Avro specification, "Object Container Files"), uncompressed: written from bodies that our codecs made, so that nothing is encoded twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from runstream_schemas import wire
from runstream_schemas.catalogue import bundled

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_schemas.records import Record

_MAGIC = b"Obj\x01"
_BLOCK_BYTES = 1 << 20


def _long(value: int) -> bytes:
    """A number as Avro writes it: zigzag, then seven bits a byte."""
    value = value << 1 if value >= 0 else (~value << 1) | 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _bytes(raw: bytes) -> bytes:
    return _long(len(raw)) + raw


class Container:
    """One file of records of one type; the file must not be there yet."""

    def __init__(self, path: Path, record: str) -> None:
        self.path = path
        self.count = 0
        self._mark = os.urandom(16)
        self._bodies: list[bytes] = []
        self._size = 0
        self._file = path.open("xb")
        schema = bundled().newest(record).text.encode()
        head = _long(2) + _bytes(b"avro.schema") + _bytes(schema) + _bytes(b"avro.codec") + _bytes(b"null") + _long(0)
        self._file.write(_MAGIC + head + self._mark)

    def add(self, record: Record) -> None:
        """Adds a record; raises MalformedRecord where a field does not fit its schema."""
        body = wire.encode(record)[wire.PREFIX_BYTES :]
        self._bodies.append(body)
        self._size += len(body)
        self.count += 1
        if self._size > _BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._bodies:
            self._file.write(_long(len(self._bodies)) + _long(self._size) + b"".join(self._bodies) + self._mark)
            self._bodies, self._size = [], 0

    def close(self) -> None:
        """Writes what is left."""
        self._flush()
        self._file.close()
