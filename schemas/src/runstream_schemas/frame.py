"""The packed codec of `MetricFrame`: standard Avro, written and read at the speed of memory.

Avro's binary `array<double>` is a count, the little-endian doubles and a zero, so a whole matrix is one copy to write and one view to read. The key list of a group is
written as a block with a negative count, which Avro follows by the block's size in bytes: a reader that has met those bytes before takes the names from a memo.
Any Avro tool reads what this writes, and this reads what any Avro tool writes, arrays in several blocks included; fastavro is the oracle in the tests.
Every count is checked against the bytes that are there before anything is allocated.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame, MetricGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]
    Head = tuple[str, int, int, str, int, str]

_VARINT_BYTES_MAX = 10
_EXACT_MAX = 1 << 53  # Whole numbers up to here are exact as doubles.
_MEMO_ENTRIES_MAX = 4096  # A memo that is full is emptied: a bound on memory that costs one slow read a name list.
_HEAD_MEMO_BYTES = 46  # A UUID with its length and 9 bytes of the writer: what tells one frame head from another.
_NONE = b"\x00"

_key_memo: dict[bytes, tuple[str, ...]] = {}
_head_memo: dict[bytes, tuple[bytes, Head]] = {}


def _long(value: int) -> bytes:
    """Avro's zigzag variable-length form of one integer."""
    rest = (value << 1) ^ (value >> 63)
    if rest < 0x80:
        return bytes((rest,))
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


def _text(value: str) -> bytes:
    raw = value.encode()
    return _long(len(raw)) + raw


@lru_cache(maxsize=_MEMO_ENTRIES_MAX)
def _head_bytes(run_id: str, writer: int, started: int, attempt: str, rank: int, node: str) -> bytes:
    return b"".join((_text(run_id), _long(writer), _long(started), _text(attempt), _long(rank), _text(node)))


@lru_cache(maxsize=_MEMO_ENTRIES_MAX)
def _names_bytes(context: str, subject: str, keys: tuple[str, ...]) -> bytes:
    """Context, subject and key list; the list as one block with its size in bytes."""
    if not keys:
        return _text(context) + _text(subject) + _NONE
    block = b"".join(map(_text, keys))
    return b"".join((_text(context), _text(subject), _long(-len(keys)), _long(len(block)), block, _NONE))


def _group_parts(group: MetricGroup) -> list[bytes]:
    rows = len(group.seqs)
    values = group.values
    if not (len(group.steps) == len(group.times) == rows and values.shape == (rows, len(group.keys))):
        raise MalformedRecord(
            f"a group's shapes must agree: seqs {group.seqs.shape}, steps {group.steps.shape}, times {group.times.shape}, "
            f"values {values.shape}, keys ({len(group.keys)},)"
        )
    parts = [_names_bytes(group.context, group.subject, group.keys)]
    if not rows:
        parts.append(b"\x00\x00\x00\x00\x00")
        return parts
    whole = np.empty((3, rows), dtype="<f8")
    whole[0], whole[1], whole[2] = group.seqs, group.steps, group.times
    count = _long(rows)
    raw = whole.tobytes()
    size = 8 * rows
    parts += (count, raw[:size], _NONE, count, raw[size : 2 * size], _NONE, count, raw[2 * size :], _NONE)
    if values.size:
        parts += (_long(values.size), values.astype("<f8", copy=False).tobytes(), _NONE)
    else:
        parts.append(_NONE)
    if int(group.steps.min()) >= -_EXACT_MAX and int(group.steps.max()) <= _EXACT_MAX:
        parts.append(_NONE)
    else:
        parts += (count, *map(_long, group.steps.tolist()), _NONE)
    return parts


def encode(frame: MetricFrame) -> bytes:
    """The Avro body of a frame, without prefix; raises MalformedRecord when a group's shapes disagree."""
    parts = [
        _head_bytes(frame.run_id, frame.writer, frame.started, frame.attempt, frame.rank, frame.node),
        _long(frame.first_seq),
        _long(frame.next_seq),
        _long(frame.rules_seen),
    ]
    if frame.groups:
        parts.append(_long(len(frame.groups)))
        for group in frame.groups:
            parts += _group_parts(group)
    parts.append(_NONE)
    return b"".join(parts)


class _Reader:
    """A place in the bytes, and the ways of reading on from it."""

    __slots__ = ("at", "data", "end")

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.end = len(data)

    def long(self) -> int:
        data, at, end = self.data, self.at, self.end
        value = shift = 0
        while at < end and shift < 7 * _VARINT_BYTES_MAX:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 1 << 64:
                    break
                self.at = at
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise MalformedRecord(f"expected an integer of at most 10 bytes at byte {self.at} of {end}")

    def block(self, item_bytes_min: int) -> tuple[int, int]:
        """A block's number of items, checked against the bytes that are left, and its size in bytes where it says so, else -1."""
        count = self.long()
        size = -1
        if count < 0:
            count = -count
            size = self.long()
            if not 0 <= size <= self.end - self.at:
                raise MalformedRecord(f"a block of {size} bytes cannot stand in the {self.end - self.at} bytes left")
        if count * item_bytes_min > self.end - self.at:
            raise MalformedRecord(f"a block of {count} items of at least {item_bytes_min} bytes cannot stand in the {self.end - self.at} bytes left")
        return count, size

    def text(self) -> str:
        size = self.long()
        start = self.at
        if not 0 <= size <= self.end - start:
            raise MalformedRecord(f"a text of {size} bytes cannot stand in the {self.end - start} bytes left")
        self.at = start + size
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError as error:
            raise MalformedRecord(f"the text at byte {start} is not UTF-8") from error

    def head(self) -> Head:
        """Run, writer, start, attempt, rank and node: the same bytes in every frame of a writer, so they are read once."""
        start = self.at
        mark = self.data[start : start + _HEAD_MEMO_BYTES]
        known = _head_memo.get(mark)
        if known is not None and self.data.startswith(known[0], start):
            self.at = start + len(known[0])
            return known[1]
        head = (self.text(), self.long(), self.long(), self.text(), self.long(), self.text())
        if len(_head_memo) >= _MEMO_ENTRIES_MAX:
            _head_memo.clear()
        _head_memo[mark] = (self.data[start : self.at], head)
        return head

    def names(self) -> tuple[str, ...]:
        """A list of names in however many blocks; a sized block that was met before is not read again."""
        out: tuple[str, ...] = ()
        while True:
            count, size = self.block(1)
            if count == 0:
                return out
            if size < 0:
                out += tuple(self.text() for _ in range(count))
                continue
            start = self.at
            raw = self.data[start : start + size]
            names = _key_memo.get(raw)
            if names is None or len(names) != count:
                names = tuple(self.text() for _ in range(count))
                if self.at != start + size:
                    raise MalformedRecord(f"a block of {size} bytes at byte {start} holds {self.at - start} bytes of names")
                if len(_key_memo) >= _MEMO_ENTRIES_MAX:
                    _key_memo.clear()
                _key_memo[raw] = names
            self.at = start + size
            out = out + names if out else names

    def longs(self) -> Longs:
        """An array of integers in however many blocks, one by one: only steps beyond 2^53 come this way."""
        out: list[int] = []
        while count := self.block(1)[0]:
            out += [self.long() for _ in range(count)]
        return np.array(out, dtype=np.int64)

    def doubles(self) -> Doubles:
        """An array of doubles in however many blocks: a view of the bytes where it is one."""
        blocks: list[Doubles] = []
        while count := self.block(8)[0]:
            blocks.append(np.frombuffer(self.data, dtype="<f8", count=count, offset=self.at))
            self.at += 8 * count
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks) if blocks else np.empty(0, dtype=np.float64)

    def rows(self) -> Longs:
        """`seqs`, `steps` and `times` as int64[3, R]: one strided view where each is one plain block of R, the way this codec writes them."""
        start = self.at
        rows = self.long()
        width = self.at - start
        stride = 8 * rows + width + 1
        if rows > 0 and start + 3 * stride <= self.end:
            data = self.data
            count = data[start : start + width]
            second, third = start + stride, start + 2 * stride
            if data.startswith(count, second) and data.startswith(count, third) and not (data[second - 1] or data[third - 1] or data[third + stride - 1]):
                self.at = third + stride
                return _whole(np.ndarray((3, rows), "<f8", data, start + width, (stride, 8)))
        self.at = start
        seqs, steps, times = self.doubles(), self.doubles(), self.doubles()
        if not len(seqs) == len(steps) == len(times):
            raise MalformedRecord(f"a group of {len(seqs)} seqs has {len(steps)} steps and {len(times)} times")
        return _whole(np.array((seqs, steps, times)))

    def group(self) -> MetricGroup:
        context, subject, keys = self.text(), self.text(), self.names()
        seqs, steps, times = self.rows()
        values = self.doubles()
        if self.at < self.end and self.data[self.at] == 0:
            self.at += 1
        else:
            steps = self.longs()
        return _group(context, subject, keys, seqs, steps, times, values)


def _whole(values: Doubles) -> Longs:
    """Doubles that stand for whole numbers, as integers; raises MalformedRecord where one does not."""
    with np.errstate(invalid="ignore"):
        out = values.astype(np.int64)
    if not (out == values).all():
        raise MalformedRecord("seqs, steps and times must be whole numbers that an int64 holds")
    return out


def _group(context: str, subject: str, keys: tuple[str, ...], seqs: Longs, steps: Longs, times: Longs, values: Doubles) -> MetricGroup:
    rows = len(seqs)
    if not (len(steps) == len(times) == rows and values.size == rows * len(keys)):
        raise MalformedRecord(f"a group of {rows} seqs and {len(keys)} keys has {len(steps)} steps, {len(times)} times and {values.size} values")
    return MetricGroup(context, subject, keys, seqs, steps, times, values.reshape(rows, len(keys)))


def decode(data: bytes, start: int = 0) -> MetricFrame:
    """The frame in an Avro body that begins at byte `start`; `values` are views of `data` and cannot be written to. Raises MalformedRecord."""
    reader = _Reader(data, start)
    head = reader.head()
    first_seq, next_seq, rules_seen = reader.long(), reader.long(), reader.long()
    groups: tuple[MetricGroup, ...] = ()
    while count := reader.block(8)[0]:
        groups += tuple([reader.group() for _ in range(count)])
    if reader.at != reader.end:
        raise MalformedRecord(f"the frame ends after {reader.at} bytes, but {reader.end} came")
    return _checked(MetricFrame(*head, first_seq, next_seq, rules_seen, groups))


def _checked(frame: MetricFrame) -> MetricFrame:
    """Refuses what would break the account: seqs that do not rise, or lie out of the range that the frame speaks for."""
    if not 0 <= frame.first_seq <= frame.next_seq:
        raise MalformedRecord(f"a frame must account for seqs first_seq <= next_seq, got [{frame.first_seq}, {frame.next_seq})")
    if not 0 <= frame.writer < 1 << 63:
        raise MalformedRecord(f"a frame's writer must have 63 bits, got {frame.writer}")
    for group in frame.groups:
        seqs = group.seqs
        rising = len(seqs) < 2 or bool((seqs[1:] > seqs[:-1]).all())
        if len(seqs) and not (rising and frame.first_seq <= seqs[0] and seqs[-1] < frame.next_seq):
            raise MalformedRecord(f"a frame's seqs must rise within [{frame.first_seq}, {frame.next_seq})")
    return frame


def to_datum(frame: MetricFrame) -> dict[str, Any]:
    """The frame as the dictionary that general Avro libraries take."""
    names = ("run_id", "writer", "started", "attempt", "rank", "node", "first_seq", "next_seq", "rules_seen")
    groups: list[dict[str, Any]] = []
    for group in frame.groups:
        steps: list[int] = group.steps.tolist()
        exact = all(abs(step) <= _EXACT_MAX for step in steps)
        groups.append(
            {
                "context": group.context,
                "subject": group.subject,
                "keys": list(group.keys),
                "seqs": group.seqs.tolist(),
                "steps": steps,
                "times": group.times.tolist(),
                "values": group.values.ravel().tolist(),
                "steps_exact": [] if exact else steps,
            }
        )
    return {name: getattr(frame, name) for name in names} | {"groups": groups}


def from_datum(datum: Mapping[str, Any]) -> MetricFrame:
    """The frame in a dictionary that a general Avro library read; raises MalformedRecord when its shapes disagree."""
    groups: list[MetricGroup] = []
    for group in cast("list[dict[str, Any]]", datum["groups"]):
        lengths = {len(group[name]) for name in ("seqs", "steps", "times")}
        if len(lengths) != 1:
            raise MalformedRecord("a group's seqs, steps and times must be of one length")
        seqs, steps, times = _whole(np.array([group["seqs"], group["steps"], group["times"]], dtype=np.float64))
        if group["steps_exact"]:
            steps = np.array(group["steps_exact"], dtype=np.int64)
        groups.append(_group(group["context"], group["subject"], tuple(group["keys"]), seqs, steps, times, np.array(group["values"], dtype=np.float64)))
    rest = {name: value for name, value in datum.items() if name != "groups"}
    return _checked(MetricFrame(**rest, groups=tuple(groups)))
