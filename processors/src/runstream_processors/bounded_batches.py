"""Record batches that expand past a bound are passed over instead of taking the worker's memory.

aiokafka, and so Faust, decompresses whatever it is given, and a megabyte can become a gigabyte. Here is how the four codecs of Kafka are undone within a bound, and what aiokafka does with a
batch that cannot be: its records are left out, its offsets are passed, and the log says where it is. The sinks meet the same batch and set it aside. Many batches that are just below the
bound come in portions: what is left of an answer once so much of it was handed out is fetched again.
"""

# aiokafka and cramjam are typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import logging
import struct
import sys
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import cramjam
from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from runstream_schemas.topics import BATCH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

_GZIP = 31  # zlib's word for its format, header and checksum included.
_XERIAL = b"\x82SNAPPY\x00"  # Snappy as Java frames it: this, two versions, then blocks that are led by their lengths.
_XERIAL_HEADER_BYTES = 16
# Of one partition in one answer of a broker, which may be 8 MiB as it comes: honest batches become two to four times as much. One batch more may be on top.
ANSWER_BYTES_MAX = 2 * BATCH_BYTES_MAX
# The most that a byte can become; a buffer need not be larger.
_LZ4_RATIO = 255
_COMPLAIN_INTERVAL_S = 10.0


class BatchRefused(Exception):
    """A batch is not what its codec says, or expands past the bound."""


def gzip_decode(payload: bytes | memoryview, limit: int = BATCH_BYTES_MAX) -> bytes:
    """Undoes gzip; raises BatchRefused past `limit` bytes, of which no more than one is made."""
    out: list[bytes] = []
    left, room = bytes(payload), limit
    while left:
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


class _Made(threading.local):
    """Bytes that were decompressed in a thread so far."""

    nbytes = 0


_made = _Made()


class _Batch:
    """A batch as aiokafka knows it, except that it is empty where it is refused."""

    def __init__(self, batch: Any, records: _Records) -> None:
        self._batch = batch
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        before = _made.nbytes
        try:
            # This is where aiokafka decompresses.
            return iter(self._batch)
        except BatchRefused as error:
            _say(self._records.place, self._batch, error)
            return iter(())
        finally:
            self._records.nbytes += _made.nbytes - before

    def __next__(self) -> Any:
        return next(self._batch)


class _Records:
    """The batches of one partition in an answer of a broker."""

    def __init__(self, records: Any, place: Any) -> None:
        self._records = records
        self.place = place
        self.nbytes = 0

    def has_next(self) -> bool:
        return self.nbytes < ANSWER_BYTES_MAX and self._records.has_next()

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        return None if batch is None else _Batch(batch, self)


class _PartitionRecords(fetcher.PartitionRecords):
    def __init__(self, tp: Any, records: Any, *rest: Any) -> None:
        super().__init__(tp, _Records(records, tp), *rest)


class _Complaint:
    """When the last batch was complained of, and how many were passed over since the start."""

    at = 0.0
    batches = 0


def _say(place: Any, batch: Any, error: BatchRefused) -> None:
    _Complaint.batches += 1
    if time.monotonic() >= _Complaint.at:
        _Complaint.at = time.monotonic() + _COMPLAIN_INTERVAL_S
        facts = {"topic": place.topic, "partition": place.partition, "first": batch.base_offset, "next": batch.next_offset}
        logger.warning("a batch of records was passed over", extra={**facts, "reason": str(error), "batches": _Complaint.batches})


def _counted(decode: Callable[[bytes | memoryview], bytes]) -> Callable[[bytes | memoryview], bytes]:
    def counting(payload: bytes | memoryview) -> bytes:
        plain = decode(payload)
        _made.nbytes += len(plain)
        return plain

    return counting


def install() -> None:
    """From now on every consumer of aiokafka in this process is bounded."""
    for batch in (DefaultRecordBatch, LegacyRecordBatch):
        codecs = sys.modules[batch.__module__]
        for decode in (gzip_decode, snappy_decode, lz4_decode, zstd_decode):
            if hasattr(codecs, decode.__name__):  # The old format knows no zstd.
                setattr(codecs, decode.__name__, _counted(decode))
    fetcher.PartitionRecords = _PartitionRecords
