"""The packed codec of `MetricFrame`: standard Avro, written and read at the speed of memory.

Avro's binary `array<double>` is a count, the little-endian doubles and a zero, so a whole matrix is one copy to write and one view to read. The key list of a
group is written as a block with a negative count, which Avro follows by the block's size in bytes: a reader that does not want the names can skip them, and one
that has met them before finds them in a memo. Any Avro tool reads what this writes, and this reads what any Avro tool writes, arrays in several blocks included;
fastavro is the oracle in the tests. Every count is checked against the bytes that are there before anything is allocated. Groups without rows say nothing and are left
out, in writing and in reading.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np

from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame, MetricGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]
    Head = tuple[str, int, int, str, int, str, str]
    Names = tuple[str, str, tuple[str, ...]]

_VARINT_BYTES_MAX = 10
_INT_END = 1 << 31
_LONG_END = 1 << 63
EXACT_END = float(1 << 53)  # Below it a double is the whole number that it was made from; 2^53 itself may have been 2^53 + 1.
_GROUP_BYTES_MIN = 8  # Two empty texts and six empty arrays.
_MEMO_ENTRIES_MAX = 4096
_MEMO_BYTES_MAX = 16 << 20  # Of encoded bytes; the names that they stand for take a few times as much.
_HEAD_MARK_BYTES = 46  # A UUID with its length and 9 bytes of the writer: what tells one frame head from another.
_NAMES_MARK_BYTES = 64  # Context, subject, number and size of the names and the first of them: what mostly tells one list from another.
_NONE = b"\x00"
_F8 = np.dtype("<f8")
_I8 = np.dtype(np.int64)

Key = TypeVar("Key")
Value = TypeVar("Value")


class _Memo(Generic[Key, Value]):
    """What was written or read before, within a bound on entries and bytes: a memo that is full is emptied, which costs one slow pass each."""

    __slots__ = ("_bytes", "_entries", "get")

    def __init__(self) -> None:
        self._entries: dict[Key, Value] = {}
        self._bytes = 0
        self.get: Callable[[Key], Value | None] = self._entries.get

    def put(self, key: Key, value: Value, size: int) -> None:
        if size > _MEMO_BYTES_MAX >> 2:
            return
        if self._bytes + size > _MEMO_BYTES_MAX or len(self._entries) >= _MEMO_ENTRIES_MAX:
            self.clear()
        self._entries[key] = value
        self._bytes += size

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0


_head_out: _Memo[Head, bytes] = _Memo()
_names_out: _Memo[Names, bytes] = _Memo()
_head_in: _Memo[bytes, tuple[bytes, Head]] = _Memo()
_names_in: _Memo[bytes, tuple[bytes, Names]] = _Memo()


def _long(value: int) -> bytes:
    """Avro's zigzag variable-length form of one integer."""
    if 0 <= value < 64:
        return bytes((value << 1,))
    value = int(value)
    if not -_LONG_END <= value < _LONG_END:
        raise MalformedRecord(f"an integer of a frame must fit 64 bits, got {value}")
    rest = (value << 1) ^ (value >> 63)
    out = bytearray()
    while rest > 0x7F:
        out.append((rest & 0x7F) | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_count = lru_cache(maxsize=_MEMO_ENTRIES_MAX)(_long)


def _text(value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError as error:
        raise MalformedRecord("a text of a frame has half a surrogate pair, which UTF-8 cannot hold") from error
    return _long(len(raw)) + raw


def _head_bytes(head: Head) -> bytes:
    run_id, writer, started, attempt, rank, node, project = head
    out = b"".join((_text(run_id), _long(writer), _long(started), _text(attempt), _long(rank), _text(node), _text(project)))
    _head_out.put(head, out, len(out))
    return out


def _names_bytes(names: Names) -> bytes:
    """Context, subject and key list; the list as one block with its size in bytes."""
    context, subject, keys = names
    block = b"".join(map(_text, keys))
    tail = (_long(-len(keys)), _long(len(block)), block, _NONE) if keys else (_NONE,)
    out = b"".join((_text(context), _text(subject), *tail))
    _names_out.put(names, out, len(out))
    return out


def _group_parts(group: MetricGroup) -> list[bytes]:
    names: Names = group[:3]
    values = group.values
    rows = len(group.seqs)
    if not (group.seqs.shape == group.steps.shape == group.times.shape and values.shape == (rows, len(group.keys))):
        raise MalformedRecord(
            f"a group's shapes must agree: seqs {group.seqs.shape}, steps {group.steps.shape}, times {group.times.shape}, "
            f"values {values.shape}, keys ({len(group.keys)},)"
        )
    whole = np.empty((3, rows), _F8)
    whole[0], whole[1], whole[2] = group.seqs, group.steps, group.times
    count = _count(rows)
    raw = whole.tobytes()
    size = 8 * rows
    parts = [_names_out.get(names) or _names_bytes(names), count, raw[:size], _NONE, count, raw[size : 2 * size], _NONE, count, raw[2 * size :], _NONE]
    if values.size:
        parts += (_count(values.size), values.astype(_F8, copy=False).tobytes(), _NONE)
    else:
        parts.append(_NONE)
    exact = np.abs(whole) < EXACT_END
    if _NONE not in exact.tobytes():  # The quickest `all` on the short arrays of a frame.
        parts.append(_NONE)
    elif not exact[::2].all():
        raise MalformedRecord("a group's seqs and times must be whole numbers below 2^53")
    else:
        parts += (count, *map(_long, group.steps.tolist()), _NONE)
    return parts


def encode(frame: MetricFrame) -> bytes:
    """The Avro body of a frame, without prefix.

    Raises:
        MalformedRecord: a group's shapes disagree, or a number or text does not fit the schema.
    """
    if not (-_INT_END <= frame.rank < _INT_END and -_INT_END <= frame.rules_seen < _INT_END):
        raise MalformedRecord(f"a frame's rank and rules_seen must fit 32 bits, got {frame.rank} and {frame.rules_seen}")
    head: Head = frame[:7]
    parts = [_head_out.get(head) or _head_bytes(head), _long(frame.first_seq), _long(frame.next_seq), _long(frame.rules_seen)]
    groups = [group for group in frame.groups if len(group.seqs)]
    if groups:
        parts.append(_long(len(groups)))
        for group in groups:
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
        raise MalformedRecord(f"expected an integer of at most 64 bits in at most 10 bytes at byte {self.at} of {end}")

    def block(self, item_bytes_min: int) -> tuple[int, int]:
        """A block's number of items, checked against the bytes that are left, and where it says to end, or -1 where it does not say."""
        count = self.long()
        if not count:
            return 0, -1
        stop = -1
        room = self.end - self.at
        if count < 0:
            count = -count
            size = self.long()
            room = self.end - self.at
            if not 0 <= size <= room:
                raise MalformedRecord(f"a block of {size} bytes cannot stand in the {room} bytes left")
            room = size
            stop = self.at + size
        if count * item_bytes_min > room:
            raise MalformedRecord(f"a block of {count} items of at least {item_bytes_min} bytes cannot stand in {room} bytes")
        return count, stop

    def ends(self, stop: int) -> None:
        """Refuses a block that holds other than the bytes it says: who skips it by its size would read another record."""
        if self.at != stop and stop >= 0:
            raise MalformedRecord(f"a block must end at byte {stop} by its size, and ends at {self.at}")

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

    def recall(self, memo: _Memo[bytes, tuple[bytes, Value]], mark_bytes: int) -> Value | None:
        """What these bytes were read as before, or None. The mark only finds the entry: all of its bytes are compared, and since
        each text, number and list says where it ends, bytes that begin in the same way can be read in no other."""
        start = self.at
        known = memo.get(self.data[start : start + mark_bytes])
        if known is None or not self.data.startswith(known[0], start):
            return None
        self.at = start + len(known[0])
        return known[1]

    def head(self) -> Head:
        """Run, writer, start, attempt, rank, node and project: the same bytes in every frame of a writer."""
        start = self.at
        head = self.recall(_head_in, _HEAD_MARK_BYTES)
        if head is None:
            head = (self.text(), self.long(), self.long(), self.text(), self.long(), self.text(), self.text())
            raw = self.data[start : self.at]
            _head_in.put(self.data[start : start + _HEAD_MARK_BYTES], (raw, head), len(raw))
        return head

    def names(self) -> Names:
        """Context, subject and key list: the same bytes in every frame of a run."""
        start = self.at
        names = self.recall(_names_in, _NAMES_MARK_BYTES)
        if names is None:
            names = (self.text(), self.text(), self.keys())
            raw = self.data[start : self.at]
            _names_in.put(self.data[start : start + _NAMES_MARK_BYTES], (raw, names), len(raw))
        return names

    def keys(self) -> tuple[str, ...]:
        """A list of texts in however many blocks."""
        out: list[str] = []
        while True:
            count, stop = self.block(1)
            if not count:
                return tuple(out)
            out += [self.text() for _ in range(count)]
            self.ends(stop)

    def longs(self) -> Longs:
        """An array of integers in however many blocks, one by one: only steps beyond 2^53 come this way."""
        out: list[int] = []
        while True:
            count, stop = self.block(1)
            if not count:
                return np.array(out, _I8)
            out += [self.long() for _ in range(count)]
            self.ends(stop)

    def doubles(self) -> Doubles:
        """An array of doubles in however many blocks: a view of the bytes where it is one."""
        blocks: list[Doubles] = []
        while True:
            count, stop = self.block(8)
            if not count:
                break
            blocks.append(np.frombuffer(self.data, _F8, count, self.at))
            self.at += 8 * count
            self.ends(stop)
        if len(blocks) == 1:
            return blocks[0]
        return np.concatenate(blocks) if blocks else np.empty(0, _F8)

    def rows(self) -> Doubles:
        """`seqs`, `steps` and `times` as float64[3, R]: one strided view where each is one plain block of R, the way this codec writes them."""
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
                return np.ndarray((3, rows), _F8, data, start + width, (stride, 8))
        self.at = start
        seqs, steps, times = self.doubles(), self.doubles(), self.doubles()
        if not len(seqs) == len(steps) == len(times):
            raise MalformedRecord(f"a group of {len(seqs)} seqs has {len(steps)} steps and {len(times)} times")
        return np.array((seqs, steps, times))

    def group(self) -> MetricGroup | None:
        names = self.names()
        rows = self.rows()
        values = self.doubles()
        if self.at < self.end and not self.data[self.at]:
            self.at += 1
            return _group(names, rows, None, values)
        return _group(names, rows, self.longs(), values)

    def groups(self) -> tuple[MetricGroup, ...]:
        out: list[MetricGroup] = []
        while True:
            count, stop = self.block(_GROUP_BYTES_MIN)
            if not count:
                return tuple(out)
            for _ in range(count):
                group = self.group()
                if group is not None:
                    out.append(group)
            self.ends(stop)

    def frame(self) -> MetricFrame:
        frame = MetricFrame(*self.head(), self.long(), self.long(), self.long(), self.groups())
        if self.at != self.end:
            raise MalformedRecord(f"the frame ends after {self.at} bytes, but {self.end} came")
        return _checked(frame)


def _whole(values: Doubles) -> Longs:
    """Doubles that stand for whole numbers, as integers; raises MalformedRecord where one does not. The caller silences numpy's word on invalid casts."""
    out = values.astype(_I8)
    # Looking for a zero byte is the quickest `not all` on the short arrays of a frame.
    if _NONE in ((out == values) & (np.abs(values) < EXACT_END)).tobytes():
        raise MalformedRecord("seqs and times, and steps without steps_exact, must be whole numbers below 2^53 in size")
    return out


def _group(names: Names, rows: Doubles, exact: Longs | None, values: Doubles) -> MetricGroup | None:
    """The group of what was read, its shapes checked; None where it has no rows."""
    context, subject, keys = names
    count = rows.shape[1]
    if values.size != count * len(keys):
        raise MalformedRecord(f"a group of {count} rows and {len(keys)} keys has {values.size} values")
    if exact is None or not exact.size:
        if not count:
            return None
        whole = _whole(rows)
        seqs, steps, times = whole[0], whole[1], whole[2]
    else:
        if exact.size != count or not np.array_equal(exact.astype(_F8), rows[1]):
            raise MalformedRecord("a group's steps_exact must be its steps again")
        steps = exact
        seqs, times = _whole(rows[::2])
    return MetricGroup(context, subject, keys, seqs, steps, times, values.reshape(count, len(keys)))


def decode(data: bytes, start: int = 0) -> MetricFrame:
    """The frame in an Avro body that begins at byte `start`; `values` are views of `data` and cannot be written to. Raises MalformedRecord."""
    with np.errstate(invalid="ignore"):
        return _Reader(data, start).frame()


def _checked(frame: MetricFrame) -> MetricFrame:
    """Refuses what would break the account: seqs that do not rise, or lie out of the range that the frame speaks for."""
    first_seq, next_seq = frame.first_seq, frame.next_seq
    if not 0 <= first_seq <= next_seq:
        raise MalformedRecord(f"a frame must account for seqs first_seq <= next_seq, got [{first_seq}, {next_seq})")
    if not 0 <= frame.writer < _LONG_END:
        raise MalformedRecord(f"a frame's writer must have 63 bits, got {frame.writer}")
    if not (-_INT_END <= frame.rank < _INT_END and -_INT_END <= frame.rules_seen < _INT_END):
        raise MalformedRecord(f"a frame's rank and rules_seen must fit 32 bits, got {frame.rank} and {frame.rules_seen}")
    for group in frame.groups:
        seqs = group.seqs
        if not first_seq <= seqs[0] <= seqs[-1] < next_seq or _NONE in (seqs[1:] > seqs[:-1]).tobytes():
            raise MalformedRecord(f"a frame's seqs must rise within [{first_seq}, {next_seq})")
    return frame


def known_head(data: bytes, start: int) -> tuple[int, Head] | None:
    """The size and the fields of a frame's head, if `decode` has met the same bytes before."""
    known = _head_in.get(data[start : start + _HEAD_MARK_BYTES])
    return (len(known[0]), known[1]) if known is not None and data.startswith(known[0], start) else None


def fits_head(head: Head) -> bool:
    """Whether writer and rank are within what a frame may have."""
    return 0 <= head[1] < _LONG_END and -_INT_END <= head[4] < _INT_END


def to_datum(frame: MetricFrame) -> dict[str, Any]:
    """The frame as the dictionary that general Avro libraries take."""
    groups: list[dict[str, Any]] = []
    for group in frame.groups:
        steps: list[int] = group.steps.tolist()
        if not steps:
            continue
        exact = all(abs(step) < EXACT_END for step in steps)
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
    return frame._asdict() | {"groups": groups}


def from_datum(datum: Mapping[str, Any]) -> MetricFrame:
    """The frame in a dictionary that a general Avro library read; raises MalformedRecord when its shapes disagree."""
    groups: list[MetricGroup] = []
    with np.errstate(invalid="ignore"):
        for one in cast("list[dict[str, Any]]", datum["groups"]):
            if not len(one["seqs"]) == len(one["steps"]) == len(one["times"]):
                raise MalformedRecord(f"a group of {len(one['seqs'])} seqs has {len(one['steps'])} steps and {len(one['times'])} times")
            rows = np.array((one["seqs"], one["steps"], one["times"]), _F8)
            exact = np.array(one["steps_exact"], _I8)
            group = _group((one["context"], one["subject"], tuple(one["keys"])), rows, exact, np.array(one["values"], _F8))
            if group is not None:
                groups.append(group)
    rest = {name: value for name, value in datum.items() if name != "groups"}
    return _checked(MetricFrame(**rest, groups=tuple(groups)))
