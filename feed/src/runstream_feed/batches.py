"""Batches of records as Kafka stores them: where each begins and ends, and its records, of which no more is made than a bound.

The four codecs of Kafka are undone here, since a megabyte can become a gigabyte and no client asks before it lets it. The layout is that of Kafka's record batch, version 2 (KIP-98), which
brokers have written for years. What is read is decided elsewhere.
"""

# aiokafka and cramjam are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple, cast

import cramjam
from aiokafka.record.default_records import DefaultRecordBatch

from runstream_schemas.topics import BATCH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Protocol

    from runstream_feed.records import Headers

    class RawRecord(Protocol):
        """A record as aiokafka's parser gives it."""

        offset: int
        timestamp: int
        key: bytes | None
        value: bytes | None
        headers: Headers


# Base offset, length, epoch of the leader, format, checksum, attributes, last offset and timestamps as they lie, producer, its epoch, sequence, number of records.
_HEADER = struct.Struct(">qiibIhiqqqhii")
_LENGTH = struct.Struct(">qi")  # What a length does not count: the base offset and itself.
_LEAST_BYTES = 17  # Up to the format, which every version has at the same place.
_ATTRIBUTES_AT = 21
_FORMAT = 2
_CODEC, _CONTROL = 0x07, 0x20
_ABORT = 0
_MARK = struct.Struct(">hh")  # The key of a control record: version and type.

_GZIP = 31  # zlib's word for its format, header and checksum included.
_MEMBERS_MAX = 100  # Clients write one.
_XERIAL = b"\x82SNAPPY\x00"  # Snappy as Java frames it: this, two versions, then blocks that are led by their lengths.
_XERIAL_HEADER_BYTES = 16
# The most that a byte can become; a buffer need not be larger.
_LZ4_RATIO = 255


class BatchRefused(Exception):
    """A batch is not what its codec says, or expands past the bound."""


class Batch(NamedTuple):
    """A batch that nobody has looked into yet: its first offset, the one behind it, and its bytes."""

    first: int
    end: int
    epoch: int
    version: int
    attributes: int
    producer: int
    nbytes: int
    data: bytes

    @property
    def is_control(self) -> bool:
        """Whether it marks the end of a transaction, and holds no record of anybody's."""
        return bool(self.attributes & _CONTROL)


def batches_of(answer: bytes) -> list[Batch]:
    """The whole batches of what a broker gave for a partition; the last one may be cut off and is left out."""
    out: list[Batch] = []
    view, at = memoryview(answer), 0
    while at + _LEAST_BYTES <= len(view):
        first, length = _LENGTH.unpack_from(view, at)
        end = at + _LENGTH.size + length
        if length < _LEAST_BYTES - _LENGTH.size or end > len(view):
            break
        data = bytes(view[at:end])  # A copy, since a view would keep all of the answer for as long as one batch waits.
        version = data[_LEAST_BYTES - 1]
        if version == _FORMAT and len(data) >= _HEADER.size:
            _, _, epoch, _, _, attributes, delta, _, _, producer, _, _, _ = _HEADER.unpack_from(data)
            out.append(Batch(first, first + max(0, delta) + 1, epoch, version, attributes, producer, len(data), data))
        else:
            out.append(Batch(first, first + 1, -1, version, 0, -1, len(data), data))
        at = end
    return out


def records_of(batch: Batch, limit: int = BATCH_BYTES_MAX) -> Iterator[RawRecord]:
    """The records of a batch, one by one.

    Raises:
        BatchRefused: it expands past `limit` bytes, is broken, or is in a format that brokers have not written for years. What stands before a broken record is given first.
    """
    if batch.version != _FORMAT:
        raise BatchRefused(f"it is in format {batch.version}, expected {_FORMAT}")
    codec = batch.attributes & _CODEC
    try:
        yield from cast("Iterator[RawRecord]", DefaultRecordBatch(batch.data if codec == 0 else _plain(batch, codec, limit)))
    except BatchRefused:
        raise
    except Exception as error:  # noqa: BLE001 - whatever the parser makes of bytes that are no records
        raise BatchRefused(f"it is broken: {type(error).__name__}: {error}") from None


def aborts(batch: Batch) -> bool:
    """Whether a control batch says that the transaction of its producer was aborted."""
    try:
        key = next(records_of(batch)).key
        return key is not None and _MARK.unpack_from(key)[1] == _ABORT
    except (BatchRefused, StopIteration, struct.error):
        return False


def _plain(batch: Batch, codec: int, limit: int) -> bytes:
    """The same batch, not compressed."""
    decode = _DECODE.get(codec)
    if decode is None:
        raise BatchRefused(f"its codec {codec} is none of Kafka's")
    header = bytearray(batch.data[: _HEADER.size])
    struct.pack_into(">h", header, _ATTRIBUTES_AT, batch.attributes & ~_CODEC)
    return bytes(header) + decode(memoryview(batch.data)[_HEADER.size :], limit)


# ---- the codecs ----------------------------------------------------------------------------------------------------------------------------


def gzip_decode(payload: bytes | memoryview, limit: int = BATCH_BYTES_MAX) -> bytes:
    """Undoes gzip; raises BatchRefused past `limit` bytes, of which no more than one is made, and past a hundred members, since each costs a copy of what is behind it."""
    out: list[bytes] = []
    left, room = bytes(payload), limit
    while left:
        if len(out) == _MEMBERS_MAX:
            raise BatchRefused(f"its gzip has more than {_MEMBERS_MAX} members")
        member = zlib.decompressobj(wbits=_GZIP)
        try:
            out.append(member.decompress(left, room + 1))
        except zlib.error as error:
            raise BatchRefused(f"its gzip is broken: {error}") from None
        room -= len(out[-1])
        if room < 0:
            raise _too_large(limit)
        if not member.eof:
            raise BatchRefused("its gzip ends early")
        left = member.unused_data
    return b"".join(out)


def lz4_decode(payload: bytes | memoryview, limit: int = BATCH_BYTES_MAX) -> bytes:
    """Undoes lz4; raises BatchRefused past `limit` bytes."""
    return _into(cramjam.lz4.decompress_into, bytes(payload), min(limit, _LZ4_RATIO * len(payload)), limit)


def zstd_decode(payload: bytes | memoryview, limit: int = BATCH_BYTES_MAX) -> bytes:
    """Undoes zstd; raises BatchRefused past `limit` bytes."""
    return _into(cramjam.zstd.decompress_into, bytes(payload), limit, limit)


def snappy_decode(payload: bytes | memoryview, limit: int = BATCH_BYTES_MAX) -> bytes:
    """Undoes snappy, framed or not; raises BatchRefused past `limit` bytes, by what it claims to become."""
    blocks = list(_blocks(bytes(payload)))
    try:
        if sum(cramjam.snappy.decompress_raw_len(block) for block in blocks) > limit:
            raise _too_large(limit)
        return b"".join(bytes(cramjam.snappy.decompress_raw(block)) for block in blocks)
    except cramjam.DecompressionError as error:
        raise BatchRefused(f"its snappy is broken: {error}") from None


_DECODE: dict[int, Callable[[memoryview, int], bytes]] = {1: gzip_decode, 2: snappy_decode, 3: lz4_decode, 4: zstd_decode}


def _blocks(payload: bytes) -> Iterator[bytes]:
    if not payload.startswith(_XERIAL):
        yield payload
        return
    at = _XERIAL_HEADER_BYTES
    while at < len(payload):
        length = struct.unpack_from(">I", payload, at)[0] if at + 4 <= len(payload) else len(payload)
        if at + 4 + length > len(payload):
            raise BatchRefused("its snappy ends early")
        yield payload[at + 4 : at + 4 + length]
        at += 4 + length


def _into(decompress: Callable[[bytes, bytearray], int], payload: bytes, room: int, limit: int) -> bytes:
    # Of zeroed memory only what is written to is taken from the system.
    out = bytearray(room)
    try:
        length = decompress(payload, out)
    except cramjam.DecompressionError as error:
        # The library says of a buffer that is too small that not all could be written.
        raise (_too_large(limit) if "write" in str(error) else BatchRefused(f"it cannot be decompressed: {error}")) from None
    return bytes(memoryview(out)[:length])


def _too_large(limit: int) -> BatchRefused:
    return BatchRefused(f"it expands to more than {limit} bytes")
