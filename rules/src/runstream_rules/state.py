"""What is known of one writer: how far it was read, its summaries and its open episodes; and that as bytes.

A state is one entry a block. Entry 0 holds the head too and is written last, so that a crash between entries leaves blocks that are ahead of the head and never one that
is behind: each block knows the seq it was read to, and rows below that or below the head's mark are not taken again. A state that changes is made anew; none is changed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from runstream_rules import summary
from runstream_rules.episodes import Episode
from runstream_rules.errors import StateUnreadable
from runstream_rules.series import directory_of, names_in, names_of
from runstream_rules.tracks import Track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numpy.typing import NDArray

    from runstream_rules.book import RuleKey
    from runstream_rules.series import Directory, Names, Series
    from runstream_schemas.records import MetricFrame

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]
    Episodes = Mapping[RuleKey, Mapping[int, Episode]]
    Tracks = Mapping[RuleKey, Track]

_VERSION = 2
_HEAD = struct.Struct("<BBqqiiqq")
_BLOCK = struct.Struct("<qII")
_COUNT = struct.Struct("<I")
_RULE = struct.Struct("<Iq")
_SHAPE = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Head:
    """What holds for the whole writer: all seqs below `mark` are accounted for. `gaps` counts ranges that never came, `gap_seqs` the seqs in them.

    `over` says that the writer has ended and its series were let go: the mark alone is kept, so that repeats are still known.
    """

    run_id: str
    project: str
    started: int
    attempt: str
    rank: int
    mark: int = 0
    rules_seen: int = 0
    gaps: int = 0
    gap_seqs: int = 0
    over: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """At most 1,000 series; its rows below `mark` are in. By rule and version, `episodes` holds where each place stands that is not quiet, and `tracks` what the rule keeps."""

    mark: int
    names: Names = field(repr=False)
    longs: Longs
    doubles: Doubles
    episodes: Episodes
    tracks: Tracks

    @property
    def series(self) -> tuple[Series, ...]:
        """Its series by place."""
        return self.names.series


@dataclass(frozen=True, slots=True)
class WriterState:
    """The state of one writer. `directory` follows from the blocks."""

    writer: int
    head: Head
    blocks: tuple[Block, ...]
    directory: Directory = field(compare=False, repr=False)

    @property
    def rules_seen(self) -> int:
        """The greatest `rules_seen` among the frames that were taken."""
        return self.head.rules_seen


def fresh(frame: MetricFrame) -> WriterState:
    """The state before a writer's first frame."""
    return WriterState(frame.writer, Head(frame.run_id, frame.project, frame.started, frame.attempt, frame.rank), (_EMPTY,), _NOWHERE)


def new_block(series: tuple[Series, ...]) -> Block:
    """A block whose series have seen nothing."""
    longs, doubles = summary.empty(len(series))
    return Block(0, names_of(series), longs, doubles, {}, {})


_EMPTY = new_block(())
_NOWHERE = directory_of([_EMPTY.names])


def let_go(state: WriterState) -> WriterState:
    """The state of a writer whose rows are all in: its series go, its mark stays."""
    return WriterState(state.writer, replace(state.head, over=True), (_EMPTY,), _NOWHERE)


def is_over(entry: bytes) -> bool:
    """Whether a state's entry 0 says that its writer was let go; it is not read beyond that."""
    return entry[:2] == bytes((_VERSION, 1))


def dump(state: WriterState, blocks: Iterable[int]) -> list[tuple[int, bytes]]:
    """The entries of some blocks, in the order in which they must be written: entry 0, which is always among them, comes last."""
    numbers = [*sorted(set(blocks) - {0}), 0]
    return [(number, (_head(state.head) if number == 0 else b"") + _block(state.blocks[number])) for number in numbers]


def load(writer: int, entry: Callable[[int], bytes | None]) -> WriterState | None:
    """The state in the entries that `entry` gives by number; None when there is none. Blocks without a head are leftovers of a crash and are not read.

    Raises:
        StateUnreadable: an entry is no state, or of another version.
    """
    first = entry(0)
    if first is None:
        return None
    reader = _Reader(first)
    head = reader.head()
    blocks = [reader.block()]
    while (data := entry(len(blocks))) is not None:
        blocks.append(_Reader(data).block())
    return WriterState(writer, head, tuple(blocks), directory_of([block.names for block in blocks]))


def _text(value: str) -> bytes:
    raw = value.encode()
    return _COUNT.pack(len(raw)) + raw


def _head(head: Head) -> bytes:
    packed = _HEAD.pack(_VERSION, head.over, head.mark, head.started, head.rank, head.rules_seen, head.gaps, head.gap_seqs)
    return packed + _text(head.run_id) + _text(head.project) + _text(head.attempt)


def _block(block: Block) -> bytes:
    parts = [_BLOCK.pack(block.mark, len(block.series), len(block.names.raw)), block.names.raw]
    parts += (block.longs.astype("<i8", copy=False).tobytes(), block.doubles.astype("<f8", copy=False).tobytes())
    parts.append(_COUNT.pack(len(block.episodes)))
    for key, episodes in sorted(block.episodes.items()):
        places = sorted(episodes)
        columns = np.array([episodes[place] for place in places], dtype="<i8")
        parts += (_rule(key), _COUNT.pack(len(places)), np.array(places, dtype="<u4").tobytes(), columns.tobytes())
    parts.append(_COUNT.pack(len(block.tracks)))
    for key, track in sorted(block.tracks.items()):
        parts += (_rule(key), _SHAPE.pack(*track.data.shape), track.places.astype("<u4").tobytes(), track.data.astype("<f8", copy=False).tobytes())
    return b"".join(parts)


def _rule(key: RuleKey) -> bytes:
    raw = key[0].encode()
    return _RULE.pack(len(raw), key[1]) + raw


class _Reader:
    """A place in an entry's bytes, and the ways of reading on from it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, size: int) -> bytes:
        start = self.at
        self.at += size
        if size < 0 or self.at > len(self.data):
            raise StateUnreadable(f"a state entry of {len(self.data)} bytes ends before byte {self.at}")
        return self.data[start : self.at]

    def unpack(self, layout: struct.Struct) -> tuple[int, ...]:
        return layout.unpack(self.take(layout.size))

    def text(self) -> str:
        return self.take(self.unpack(_COUNT)[0]).decode()

    def array(self, count: int, kind: str) -> NDArray[Any]:
        wanted = np.dtype(kind)
        return np.frombuffer(self.take(count * wanted.itemsize), dtype=wanted)

    def rule(self) -> RuleKey:
        size, version = self.unpack(_RULE)
        return self.take(size).decode(), version

    def head(self) -> Head:
        version, over, mark, started, rank, rules_seen, gaps, gap_seqs = self.unpack(_HEAD)
        if version != _VERSION:
            raise StateUnreadable(f"a state of version {version} came, this release reads version {_VERSION}: replay the topic into a new group")
        return Head(self.text(), self.text(), started, self.text(), rank, mark, rules_seen, gaps, gap_seqs, bool(over))

    def block(self) -> Block:
        mark, count, size = self.unpack(_BLOCK)
        names = names_in(self.take(size))
        if len(names.series) != count:
            raise StateUnreadable(f"a state entry names {len(names.series)} series and has {count}")
        longs = self.array(summary.LONGS * count, "<i8").reshape(summary.LONGS, count)
        doubles = self.array(summary.DOUBLES * count, "<f8").reshape(summary.DOUBLES, count)
        episodes: dict[RuleKey, Mapping[int, Episode]] = {}
        for _ in range(self.unpack(_COUNT)[0]):
            key, open_count = self.rule(), self.unpack(_COUNT)[0]
            places: list[int] = self.array(open_count, "<u4").tolist()
            columns: list[list[int]] = self.array(4 * open_count, "<i8").reshape(open_count, 4).tolist()
            episodes[key] = {place: Episode(*one) for place, one in zip(places, columns, strict=True)}
        tracks: dict[RuleKey, Track] = {}
        for _ in range(self.unpack(_COUNT)[0]):
            key, (rows, width) = self.rule(), self.unpack(_SHAPE)
            tracks[key] = Track(self.array(rows, "<u4").astype(np.int64), self.array(rows * width, "<f8").reshape(rows, width))
        if self.at != len(self.data):
            raise StateUnreadable(f"a state entry ends after {self.at} bytes, but {len(self.data)} came")
        return Block(mark, names, longs, doubles, episodes, tracks)
