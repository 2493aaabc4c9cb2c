"""Reads a writer's journal from a position on, while it is written or after its writer died.

A reader never trusts a length alone: a row counts once its checksum fits. What does not fit is "not yet" while the writer lives, and "torn" when it is dead.
"""

from __future__ import annotations

import mmap
import os
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


def row_at(data: mmap.mmap | bytearray, offset: int, size: int) -> tuple[Row, int] | None:
    """The row that begins at a byte of `size` bytes of a segment, and where the next one begins; None where no whole one does."""
    body = offset + fmt.LEAD_BYTES
    if body + fmt.HEAD_BYTES > size:
        return None
    length, crc = fmt.ROW_LEAD.unpack_from(data, offset)
    end = body + length
    if length < fmt.HEAD_BYTES or end > size:
        return None
    raw = bytes(data[body:end])
    if zlib.crc32(raw) != crc:
        return None
    kind, seq, step, points, time_s = fmt.ROW_HEAD.unpack_from(raw)
    return Row(kind & 0xFF, kind >> fmt.KEY_SET_SHIFT, seq, step, points, time_s, raw[fmt.HEAD_BYTES :]), end


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
        self._names_bytes: dict[int, int] = {}

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
            found = row_at(data, offset, self._segment.size)
            if found is None:
                return
            row, offset = found
            if row.kind in (fmt.Kind.KEY_SET, fmt.Kind.DROP):
                self._learn(row)
                yield row

    def rows(self, bytes_max: int) -> Iterator[Row]:
        """Rows that are whole by now: at least one if there is one, and no more than make a frame of about `bytes_max` bytes, names included."""
        budget = bytes_max
        named: set[int] = set()
        first = True
        while True:
            found = self._next()
            if found is None:
                return
            row, place = found
            cost = 0
            self._learn(row)
            if row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP):
                cost = len(row.payload) + fmt.HEAD_BYTES
                if row.kind == fmt.Kind.METRICS and row.key_set not in named:
                    # A frame carries the names of each key set once, wherever the journal defines them.
                    cost += self._names_bytes.get(row.key_set, 0)
                    named.add(row.key_set)
                if cost > budget and not first:
                    return
                first = False
            budget -= cost
            self._at = place
            yield row

    def _next(self) -> tuple[Row, fmt.Position] | None:
        """The row at the position, or the first of the segments after it, and the place behind it."""
        while True:
            number, offset = self._at.segment, self._at.offset
            data = self._open(number)
            found = None if data is None else row_at(data, offset, self._segment.size)
            following = 0
            if found is None:
                # The writer names a segment only after the last row of the one before, so where the next one stands this one is complete:
                # look once more, since its last rows may have come between the two looks.
                following = self._following(number)
                if following is None:
                    return None
                data = self._open(number)
                found = None if data is None else row_at(data, offset, self._segment.size)
            if found is not None:
                return found[0], fmt.Position(number, found[1])
            self._at = fmt.Position(following, fmt.HEADER_BYTES)

    def _learn(self, row: Row) -> None:
        if row.kind == fmt.Kind.KEY_SET:
            self._names_bytes[row.key_set] = len(row.payload)

    def torn_bytes(self) -> int:
        """Bytes of an incomplete row at the position: what a dead writer did not finish. 0 where the journal ends cleanly."""
        data = self._open(self._at.segment)
        if data is None or self._at.offset + fmt.LEAD_BYTES > self._segment.size:
            return 0
        length, _ = fmt.ROW_LEAD.unpack_from(data, self._at.offset)
        return min(int(length), self._segment.size - self._at.offset) if length else 0

    def _following(self, number: int) -> int | None:
        """The number of the segment that comes next, which is not `number + 1` where one was lost; None where there is none yet."""
        try:
            names = os.listdir(self._folder)  # noqa: PTH208 - asked ten times a second, and pathlib takes five times as long
        except FileNotFoundError:
            return None
        numbers = (int(name[:-4]) for name in names if name.endswith(".seg") and name[:-4].isdecimal())
        return min((one for one in numbers if one > number), default=None)

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
