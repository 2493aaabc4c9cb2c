"""Reads a writer's journal from a position on, while it is written or after its writer died.

A reader never trusts a length alone: a row counts once its checksum fits. What does not fit is "not yet" while the writer lives, and "torn" when it is dead.
"""

from __future__ import annotations

import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runstream_producers.journal import format as fmt
from runstream_producers.journal.segments import map_file

if TYPE_CHECKING:
    from collections.abc import Iterator


class Row(NamedTuple):
    """One row: `payload` is the values as doubles for METRICS, JSON for every other kind. `time_s` is epoch seconds."""

    kind: int
    key_set: int
    seq: int
    step: int
    points: int
    time_s: float
    payload: bytes


@dataclass(slots=True)
class _Segment:
    number: int
    data: mmap.mmap | None
    size: int


class Reader:
    """Rows of one journal folder in order, from `position` on."""

    def __init__(self, folder: Path, writer: int, position: fmt.Position) -> None:
        self._folder = folder
        self._writer = writer
        self._at = position
        self._segment = _Segment(0, None, 0)

    @property
    def position(self) -> fmt.Position:
        """Where the next row will be read."""
        return self._at

    def close(self) -> None:
        """Unmaps what is mapped."""
        if self._segment.data is not None:
            self._segment.data.close()
        self._segment = _Segment(0, None, 0)

    def definitions(self) -> Iterator[Row]:
        """The key sets and drop counts that stand before the position in its segment: a reader that begins in the middle needs them."""
        end = self._at.offset
        data = self._open(self._at.segment)
        offset = fmt.HEADER_BYTES
        while data is not None and offset < end:
            found = self._row(data, offset)
            if found is None:
                return
            row, offset = found
            if row.kind in (fmt.Kind.KEY_SET, fmt.Kind.DROP):
                yield row

    def rows(self, bytes_max: int) -> Iterator[Row]:
        """Rows that are whole by now, until about `bytes_max` bytes have been read."""
        budget = bytes_max
        while budget > 0:
            data = self._open(self._at.segment)
            if data is None:
                return
            found = self._row(data, self._at.offset)
            if found is None:
                # The writer names a segment only after the last row of the one before, so where the next one stands this one is complete:
                # look once more, since its last rows may have come between the two looks.
                if not self._exists(self._at.segment + 1):
                    return
                found = self._row(data, self._at.offset)
                if found is None:
                    self._at = fmt.Position(self._at.segment + 1, fmt.HEADER_BYTES)
                    continue
            row, offset = found
            budget -= offset - self._at.offset
            self._at = fmt.Position(self._at.segment, offset)
            yield row

    def torn_bytes(self) -> int:
        """Bytes of an incomplete row at the position: what a dead writer did not finish. 0 where the journal ends cleanly."""
        data = self._open(self._at.segment)
        if data is None or self._at.offset + fmt.LEAD_BYTES > self._segment.size:
            return 0
        length, _ = fmt.ROW_LEAD.unpack_from(data, self._at.offset)
        return min(int(length), self._segment.size - self._at.offset) if length else 0

    def _exists(self, number: int) -> bool:
        return (self._folder / fmt.segment_name(number)).exists()

    def _open(self, number: int) -> mmap.mmap | None:
        if self._segment.number == number:
            return self._segment.data
        self.close()
        try:
            data = map_file(self._folder / fmt.segment_name(number), write=False)
        except (OSError, ValueError):
            return None
        if not fmt.header_fits(data[: fmt.HEADER_BYTES], number, self._writer):
            data.close()
            return None
        self._segment = _Segment(number, data, len(data))
        return data

    def _row(self, data: mmap.mmap, offset: int) -> tuple[Row, int] | None:
        body = offset + fmt.LEAD_BYTES
        if body + fmt.HEAD_BYTES > self._segment.size:
            return None
        length, crc = fmt.ROW_LEAD.unpack_from(data, offset)
        end = body + length
        if length < fmt.HEAD_BYTES or end > self._segment.size:
            return None
        raw = data[body:end]
        if zlib.crc32(raw) != crc:
            return None
        kind, _, _, key_set, seq, step, points, time_s = fmt.ROW_HEAD.unpack_from(raw)
        return Row(kind, key_set, seq, step, points, time_s, raw[fmt.HEAD_BYTES :]), end
