"""Record batches that expand past a bound are passed over instead of taking the worker's memory.

aiokafka, and so Faust, decompresses whatever it is given, and a megabyte can become a gigabyte. Here is what it does instead with a batch that expands past the bound, or that holds what its
parser does not take: the records from there on are left out, the offsets are passed, and the log says where it is. The sinks, which read by `runstream_feed`, meet the same batch and set it
aside. Many batches that are just below the bound come in portions: what is left of an answer once so much of it was handed out is fetched again.
"""

# aiokafka is typed in part.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.legacy_records import LegacyRecordBatch

from runstream_feed.batches import BatchRefused, gzip_decode, lz4_decode, snappy_decode, zstd_decode
from runstream_schemas.topics import BATCH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

# Of one partition in one answer of a broker, which may be 8 MiB as it comes: honest batches become two to four times as much. One batch more may be on top.
ANSWER_BYTES_MAX = 2 * BATCH_BYTES_MAX
_COMPLAIN_INTERVAL_S = 10.0


class _Made(threading.local):
    """Bytes that were decompressed in a thread so far."""

    nbytes = 0


_made = _Made()


class _Batch:
    """A batch as aiokafka knows it, except that it is empty where it is refused, and ends before what its parser does not take."""

    def __init__(self, batch: Any, records: _Records) -> None:
        self._batch = batch
        self._records = records

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        before = _made.nbytes
        try:
            # This is where aiokafka decompresses.
            return self._whole(iter(self._batch))
        except BatchRefused as error:
            _say(self._records.place, self._batch, error)
            return iter(())
        finally:
            self._records.nbytes += _made.nbytes - before

    def _whole(self, records: Iterator[Any]) -> Iterator[Any]:
        try:
            yield from records
        except Exception as error:  # noqa: BLE001 - whatever the parser makes of bytes that are no records; aiokafka would meet it again for ever
            _say(self._records.place, self._batch, error)

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


def _say(place: Any, batch: Any, error: Exception) -> None:
    _Complaint.batches += 1
    if time.monotonic() >= _Complaint.at:
        _Complaint.at = time.monotonic() + _COMPLAIN_INTERVAL_S
        facts = {"topic": place.topic, "partition": place.partition, "first": batch.base_offset, "next": batch.next_offset}
        reason = str(error) if isinstance(error, BatchRefused) else f"it is broken: {type(error).__name__}: {error}"
        logger.warning("a batch of records was passed over", extra={**facts, "reason": reason, "batches": _Complaint.batches})


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
