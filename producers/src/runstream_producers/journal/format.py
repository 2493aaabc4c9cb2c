"""The bytes of a journal, version 1: what writer and reader agree on; `docs/journal.md` says it for people.

A writer owns one folder, `w-<16 hex digits of the writer>`:

    writer.json    who writes: the identity that goes into every frame (JSON, never changed)
    lock           the writer's process holds a POSIX lock on it while it lives
    00000001.seg   segments, in order; removed once everything in them is acknowledged
    ack            what the shipper has had acknowledged (two slots, written in turn)
    end.json       how the writer ended, once it has

A segment is a 64-byte header, then rows one after the other, then zeros. A row is its body's length and CRC-32, and the body: a fixed head and a payload. The payload of a
`METRICS` row is its values as little-endian doubles, of every other kind JSON. Rows begin at multiples of 8 bytes. A length of zero ends what has been written so far;
a checksum that does not fit ends it too, since the store may not be complete.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import asdict, dataclass, fields
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION = 1
SEGMENT_MAGIC = b"RSJ1"
HEADER_BYTES = 64
# magic, version, segment number, writer, first seq, points before the segment; then the CRC-32 of these
SEGMENT_HEADER = struct.Struct("<4sIQQQQ")
SEGMENT_HEADER_CRC = struct.Struct("<I")
# length of the body, CRC-32 of the body
ROW_LEAD = struct.Struct("<II")
LEAD_BYTES = ROW_LEAD.size
# kind and key set in one (the lowest byte, and the upper 32 bits), seq, step, points of the writer up to and with this row, time in seconds
ROW_HEAD_FORMAT = "QQqQd"
ROW_HEAD = struct.Struct("<" + ROW_HEAD_FORMAT)
HEAD_BYTES = ROW_HEAD.size
ACK_BYTES = 4096
ACK_SLOT_BYTES = 128
# generation, next seq, segment, offset, rows, points, rules, rows and points set aside, done; then the CRC-32 of these
ACK_SLOT = struct.Struct("<QQQQQQQQQQ")


KEY_SET_SHIFT = 32


class Kind(IntEnum):
    """What a row holds. `KEY_SET` and `DROP` take no seq of their own: they carry the seq of the row that follows."""

    METRICS = 1
    KEY_SET = 2
    DROP = 3
    RUN = 4
    EVENT = 5
    PARAM = 6
    RULE = 7
    VALUE = 8
    ALERT = 9
    MEDIA = 10
    ARTIFACT = 11


@dataclass(frozen=True, slots=True)
class Identity:
    """Who writes a journal: what frames and the writer's records need, fixed at its start. Times are epoch milliseconds."""

    writer: int
    run_id: str
    project: str
    kind: str
    rank: int
    local_rank: int
    world_size: int
    node: str
    host: str
    pid: int
    attempt: str
    started_ms: int
    environment: dict[str, str]

    def to_json(self) -> str:
        """The identity as JSON text."""
        return json.dumps({"version": VERSION} | asdict(self))

    @staticmethod
    def from_json(text: str) -> Identity:
        """The identity in JSON text; raises ValueError or TypeError for anything else."""
        told = _object_of(text)
        version = told.pop("version", None)
        if version != VERSION:
            raise ValueError(f"expected a journal of version {VERSION}, got {version!r}")
        return _checked(Identity(**told))


@dataclass(frozen=True, slots=True)
class End:
    """How a writer ended: its state, why, and its own count of what it logged and dropped (points by reason)."""

    state: str
    reason: str
    next_seq: int
    points: int
    dropped: dict[str, int]

    def to_json(self) -> str:
        """The end as JSON text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> End:
        """The end in JSON text; raises ValueError or TypeError for anything else."""
        return _checked(End(**_object_of(text)))


class KeySet(NamedTuple):
    """A key set as a segment defines it: the names that the values of its rows have, in order."""

    number: int
    context: str
    subject: str
    keys: tuple[str, ...]


def key_set_of(payload: bytes) -> KeySet:
    """The key set that a row defines; raises ValueError, TypeError or KeyError for anything else."""
    told = _object_of(payload)
    keys: list[Any] = told["keys"]
    if not _fits_list(keys) or type(told["id"]) is not int or type(told["context"]) is not str or type(told["subject"]) is not str:
        raise TypeError("expected a number, two texts and a list of texts")
    return KeySet(told["id"], told["context"], told["subject"], tuple(keys))


def drops_of(payload: bytes) -> dict[str, int]:
    """The drop counts in a row, by reason; raises ValueError or TypeError for anything else."""
    told = _object_of(payload)
    if not _fits_counts(told):
        raise TypeError("expected numbers by reason")
    return told


def _object_of(text: str | bytes) -> dict[str, Any]:
    """The JSON object in a text; raises ValueError where there is none."""
    try:
        told: Any = json.loads(text)
    except RecursionError as error:
        raise ValueError("expected JSON, got lists and objects inside each other too deep to read") from error
    if type(told) is not dict:
        raise ValueError(f"expected a JSON object, got {type(told).__name__}")
    return cast("dict[str, Any]", told)


def _fits_int(value: Any) -> bool:
    return type(value) is int and -_LONG_END <= value < _LONG_END


def _fits_list(value: Any) -> bool:
    return type(value) is list and all(type(one) is str for one in cast("list[Any]", value))


def _fits_counts(value: Any) -> bool:
    return type(value) is dict and all(map(_fits_int, cast("dict[str, Any]", value).values()))


_LONG_END = 1 << 63
# What fields may hold, by how they are declared: a journal is read by an agent that ships others, too, and by another user's tools.
_FITS: dict[str, Callable[[Any], bool]] = {
    "int": _fits_int,
    "str": lambda value: type(value) is str,
    "dict[str, str]": lambda value: type(value) is dict and all(type(one) is str for one in cast("dict[str, Any]", value).values()),
    "dict[str, int]": _fits_counts,
}


Told = TypeVar("Told", Identity, End)


def _checked(one: Told) -> Told:
    """The same; raises TypeError where a field holds what it is not declared to."""
    for field in fields(one):
        if not _FITS[str(field.type)](getattr(one, field.name)):
            raise TypeError(f"expected {field.name} to be {field.type}, got {getattr(one, field.name)!r:.100}")
    return one


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a journal: segment number and byte."""

    segment: int
    offset: int


@dataclass(frozen=True, slots=True)
class Ack:
    """What has been answered for: every seq below `next_seq`; the rows and points among them that Kafka holds, and those set aside since it refused them; where to read on.

    `rules` counts the alert rules, `done` is set once the writer's last state is stored.
    """

    generation: int = 0
    next_seq: int = 0
    position: Position = Position(1, HEADER_BYTES)
    rows: int = 0
    points: int = 0
    rules: int = 0
    rows_aside: int = 0
    points_aside: int = 0
    done: bool = False

    def pack(self) -> bytes:
        """The bytes of a slot."""
        place = self.position
        counts = (self.rows, self.points, self.rules, self.rows_aside, self.points_aside)
        raw = ACK_SLOT.pack(self.generation, self.next_seq, place.segment, place.offset, *counts, int(self.done))
        return raw + SEGMENT_HEADER_CRC.pack(zlib.crc32(raw))


def read_ack(data: bytes) -> Ack:
    """The newest whole slot of an `ack` file; the beginning where there is none."""
    best = Ack()
    for start in (0, ACK_SLOT_BYTES):
        raw = data[start : start + ACK_SLOT.size]
        crc = data[start + ACK_SLOT.size : start + ACK_SLOT.size + 4]
        if len(crc) == 4 and SEGMENT_HEADER_CRC.unpack(crc)[0] == zlib.crc32(raw):
            generation, next_seq, segment, offset, *counts, done = ACK_SLOT.unpack(raw)
            if generation > best.generation:
                best = Ack(generation, next_seq, Position(segment, offset), *counts, done=bool(done))
    return best


def segment_header(number: int, writer: int, first_seq: int, points: int) -> bytes:
    """The header of a segment."""
    raw = SEGMENT_HEADER.pack(SEGMENT_MAGIC, VERSION, number, writer, first_seq, points)
    return raw + SEGMENT_HEADER_CRC.pack(zlib.crc32(raw))


def header_fits(data: bytes, number: int, writer: int) -> bool:
    """Whether these are the first bytes of that writer's segment of that number."""
    raw = data[: SEGMENT_HEADER.size]
    crc = data[SEGMENT_HEADER.size : SEGMENT_HEADER.size + 4]
    if len(crc) != 4 or SEGMENT_HEADER_CRC.unpack(crc)[0] != zlib.crc32(raw):
        return False
    magic, version, segment, owner, _, _ = SEGMENT_HEADER.unpack(raw)
    return (magic, version, segment, owner) == (SEGMENT_MAGIC, VERSION, number, writer)


def segment_name(number: int) -> str:
    """The file name of a segment."""
    return f"{number:08d}.seg"


def folder_name(writer: int) -> str:
    """The folder name of a writer's journal."""
    return f"w-{writer:016x}"
