"""The packed codec of `SummaryFrame`: the bytes that fastavro writes, column by column instead of value by value.

A summary is nearly all numbers: seven columns of doubles, each of which stands in Avro as it stands in memory, and eight of integers of variable length, which numpy packs and unpacks
together. Names are the same in every summary of a block and are remembered. What is not in the form that `encode` writes (arrays in several blocks, columns of unequal length, anything
malformed) is not judged here: `decode` says None, and fastavro has the word. Short frames are left to it, too, since it is quicker there.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from runstream_schemas.records import SummaryFrame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

SERIES_MIN = 48  # Below it fastavro is quicker, in writing and in reading.
_BYTES_MIN = SERIES_MIN * 64  # What so many series take at least: doubles, and a byte for everything else.
_VARINT_BYTES_MAX = 10
_INT_END, _LONG_END = 1 << 31, 1 << 63
_LISTS_MAX = 256  # Lists of names that are remembered in writing.
_MARK_BYTES = 64  # What mostly tells one list of names from another in reading.
_MEMO_BYTES_MAX = 16 << 20
_NONE = b"\x00"
_F8, _I8, _U8 = np.dtype("<f8"), np.dtype(np.int64), np.dtype(np.uint64)
# The columns after the texts, in the schema's order: true for integers.
_IS_LONG = (True, True, False, False, False, False, True, False, True, False, True, False, True, True, True)


def encode(frame: SummaryFrame) -> bytes | None:
    """The Avro body of a frame, without prefix; None where it is left to fastavro, which also says what does not fit."""
    count = len(frame.names)
    columns = columns_of(frame)
    if count < SERIES_MIN or any(len(one) != count for one in (frame.contexts, frame.subjects, *columns)):
        return None
    numbers = (frame.writer, frame.block, frame.next_seq, frame.rank, frame.started, frame.time_ms)
    if not (all(-_LONG_END <= one < _LONG_END for one in numbers) and max(frame.block, frame.rank) < _INT_END and min(frame.block, frame.rank) >= -_INT_END):
        return None
    try:
        longs = np.array([one for one, is_long in zip(columns, _IS_LONG, strict=True) if is_long], _I8)
        doubles = [np.array(one, _F8).tobytes() for one, is_long in zip(columns, _IS_LONG, strict=True) if not is_long]
        run_id, attempt = _text(frame.run_id), _text(frame.attempt)
        texts = [_texts(tuple(one)) for one in (frame.names, frame.contexts, frame.subjects)]
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None
    writer, block, next_seq, rank, started, time_ms = map(_long, numbers)
    parts = [run_id, writer, block, next_seq, rank, attempt, started, time_ms]
    of_longs, of_doubles, size = iter(_packed(longs)), iter(doubles), _long(count)
    for one in (*texts, *(next(of_longs if is_long else of_doubles) for is_long in _IS_LONG)):
        parts += (size, one, _NONE)
    return b"".join(parts)


def decode(data: bytes, at: int) -> SummaryFrame | None:
    """The frame whose body begins at a place of `data` and ends with it; None where fastavro is to read it, and to say what is wrong with it."""
    if len(data) - at < _BYTES_MIN:
        return None
    try:
        return _Reader(data, at).frame()
    except (_NotPlainError, IndexError, UnicodeDecodeError):
        return None


def columns_of(frame: SummaryFrame) -> tuple[Sequence[float], ...]:
    """What a frame says of its series, a column each, in the order of a summary's fields."""
    return (
        frame.counts,
        frame.non_finites,
        frame.sums,
        frame.means,
        frame.m2s,
        frame.mins,
        frame.min_steps,
        frame.maxs,
        frame.max_steps,
        frame.firsts,
        frame.first_steps,
        frame.lasts,
        frame.last_steps,
        frame.first_times,
        frame.last_times,
    )


def _long(value: int) -> bytes:
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _long(len(raw)) + raw


@lru_cache(maxsize=_LISTS_MAX)
def _texts(values: tuple[str, ...]) -> bytes:
    return b"".join(map(_text, values))


def _packed(columns: NDArray[np.int64]) -> list[bytes]:
    """Each row of integers in Avro's zigzag variable-length form, one after the other."""
    count = columns.shape[1]
    flat = columns.ravel()
    rest = ((flat << 1) ^ (flat >> 63)).view(_U8)
    widths = np.ones(len(rest), np.int64)
    for place in range(1, _VARINT_BYTES_MAX):
        more = rest >= np.uint64(1 << 7 * place)
        if not more.any():
            break
        widths += more
    ends = np.cumsum(widths)
    first = ends - widths
    out = np.empty(int(ends[-1]), np.uint8)
    for place in range(int(widths.max())):
        here = slice(None) if place == 0 else np.flatnonzero(widths > place)
        low = (rest[here] >> np.uint64(7 * place)).astype(np.uint8) & np.uint8(0x7F)
        out[first[here] + place] = low | ((widths[here] > place + 1).astype(np.uint8) << 7)
    raw, cuts = out.tobytes(), [0, *ends[count - 1 :: count].tolist()]
    return [raw[begin:end] for begin, end in pairwise(cuts)]


def _unpacked(pieces: Sequence[NDArray[np.uint8]], widths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The integers in these bytes, one for each width, which end where their bytes say."""
    raw = np.concatenate(pieces)
    ends = np.cumsum(widths)
    first = ends - widths
    widest = int(widths.max())
    if widest >= _VARINT_BYTES_MAX and (widest > _VARINT_BYTES_MAX or raw[ends[widths == _VARINT_BYTES_MAX] - 1].max() > 1):
        raise _NotPlainError  # More than 64 bits.
    rest = (raw[first] & np.uint8(0x7F)).astype(_U8)
    for place in range(1, widest):
        here = np.flatnonzero(widths > place)
        rest[here] |= (raw[first[here] + place] & np.uint8(0x7F)).astype(_U8) << np.uint64(7 * place)
    return (rest >> np.uint64(1)).view(_I8) ^ -(rest & np.uint64(1)).view(_I8)


class _NotPlainError(Exception):
    """These bytes are not in the form that `encode` writes."""


class _Names:
    """Lists of names that were read before, by their bytes; emptied when full."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[bytes, tuple[str, ...]]] = {}
        self._bytes = 0

    def recall(self, data: bytes, at: int) -> tuple[int, tuple[str, ...]] | None:
        """The list that these bytes were read as before, and its size; all of its bytes are compared."""
        known = self._known.get(data[at : at + _MARK_BYTES])
        return (len(known[0]), known[1]) if known is not None and data.startswith(known[0], at) else None

    def put(self, raw: bytes, mark: bytes, names: tuple[str, ...]) -> None:
        """Remembers a list."""
        if len(raw) > _MEMO_BYTES_MAX >> 4:
            return
        if self._bytes + len(raw) > _MEMO_BYTES_MAX:
            self._known.clear()
            self._bytes = 0
        self._known[mark] = raw, names
        self._bytes += len(raw)


_names_in = _Names()


class _Reader:
    """A place in the bytes, and the ways of reading on from it; raises _NotPlainError, IndexError or UnicodeDecodeError where something else stands there."""

    __slots__ = ("at", "bytes", "count", "data")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.bytes = np.frombuffer(data, np.uint8)
        self.count = 0

    def frame(self) -> SummaryFrame:
        run_id, writer, block, next_seq, rank = self.text(), self.long(), self.long(), self.long(), self.long()
        attempt, started, time_ms = self.text(), self.long(), self.long()
        if not (-_INT_END <= block < _INT_END and -_INT_END <= rank < _INT_END):
            raise _NotPlainError
        names = self.names()
        contexts, subjects = self.texts(), self.texts()
        pieces: list[NDArray[np.uint8]] = []
        widths: list[NDArray[np.int64]] = []
        of_doubles: list[tuple[float, ...]] = []
        for is_long in _IS_LONG:
            if is_long:
                piece, width = self.longs()
                pieces.append(piece)
                widths.append(width)
            else:
                of_doubles.append(self.doubles())
        if self.at != len(self.data):
            raise _NotPlainError
        of_longs: list[list[int]] = _unpacked(pieces, np.concatenate(widths)).reshape(-1, self.count).tolist()
        longs, doubles = map(tuple, of_longs), iter(of_doubles)
        columns = [next(longs) if is_long else next(doubles) for is_long in _IS_LONG]
        return SummaryFrame(run_id, writer, block, next_seq, rank, attempt, started, time_ms, names, contexts, subjects, *columns)  # pyright: ignore[reportArgumentType]  # integers where they belong

    def long(self) -> int:
        value = 0
        for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 64:
                    break
                return (value >> 1) ^ -(value & 1)
        raise _NotPlainError

    def text(self) -> str:
        size = self.long()
        start = self.at
        if not 0 <= size <= len(self.data) - start:
            raise _NotPlainError
        self.at = start + size
        return self.data[start : self.at].decode()

    def names(self) -> tuple[str, ...]:
        """The first list, whose length is that of all columns."""
        start, known = self.at, _names_in.recall(self.data, self.at)
        if known is not None:
            size, names = known
            self.at += size
        else:
            count = self.long()
            if not 0 < count <= len(self.data) - self.at:
                raise _NotPlainError
            names = tuple(self.text() for _ in range(count))
            self.end()
            _names_in.put(self.data[start : self.at], self.data[start : start + _MARK_BYTES], names)
        self.count = len(names)
        return names

    def texts(self) -> tuple[str, ...]:
        self.begin()
        if self.data.startswith(bytes(self.count), self.at):  # Contexts and subjects mostly are empty.
            self.at += self.count
            out = ("",) * self.count
        else:
            out = tuple(self.text() for _ in range(self.count))
        self.end()
        return out

    def longs(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The bytes of a column of integers, and how many each of them takes."""
        self.begin()
        window = self.bytes[self.at : self.at + _VARINT_BYTES_MAX * self.count]
        ends = np.flatnonzero(window < 0x80)[: self.count]
        if len(ends) < self.count:
            raise _NotPlainError
        size = int(ends[-1]) + 1
        self.at += size
        self.end()
        return window[:size], np.diff(ends, prepend=-1)

    def doubles(self) -> tuple[float, ...]:
        self.begin()
        if len(self.data) - self.at < 8 * self.count:
            raise _NotPlainError
        out: list[float] = np.frombuffer(self.data, _F8, self.count, self.at).tolist()
        self.at += 8 * self.count
        self.end()
        return tuple(out)

    def begin(self) -> None:
        """A block as long as the list of names begins here."""
        if self.long() != self.count:
            raise _NotPlainError

    def end(self) -> None:
        """And ends here, and the array with it."""
        if self.data[self.at] != 0:
            raise _NotPlainError
        self.at += 1
