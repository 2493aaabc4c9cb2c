"""Many frames at once: frames of one layout are read as matrices, so that a small frame costs little more than its bytes.

Frames of one writer, and of writers that log the same names, differ only in their head, three integers and their arrays; everything between stands at the same
bytes and is the same. So a layout is found once, by reading one frame with the codec of `frame`; whoever equals it byte for byte outside of what may differ is
read by position, thousands in one step. What does not fit any layout is left to `frame.decode`, and so is everything that is wrong: this module refuses nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_schemas import frame
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame, MetricGroup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from runstream_schemas.frame import Doubles, Head, Longs

    Bytes = NDArray[np.uint8]
    Bools = NDArray[np.bool_]

# Fewer cost more as a matrix than they save, and larger ones lose more by being copied.
_ALIKE_MIN = 4
_FRAME_BYTES_MAX = 16 << 10
# Of frames with one length and one length of head: more come from writers that log other names, of which few happen to have the same lengths. And of all: 16 MiB at most.
_LAYOUTS_MAX = 8
_ALL_LAYOUTS_MAX = 1024
_VARINT_BYTES_MAX = 9  # 63 bits, which a matrix of integers can hold; the tenth byte is left to the codec.
_F8 = np.dtype("<f8")


class BatchGroup(NamedTuple):
    """One group of each of M frames: `seqs`, `steps` and `times` are int64[M, R], `values` is float64[M, R, K]."""

    context: str
    subject: str
    keys: tuple[str, ...]
    seqs: Longs
    steps: Longs
    times: Longs
    values: Doubles


class Batch(NamedTuple):
    """M frames of one layout: where they stood in what was given, their heads (run, writer, start, attempt, rank, node, project), and their columns."""

    places: list[int]
    heads: list[Head]
    first_seqs: Longs
    next_seqs: Longs
    rules_seen: Longs
    groups: tuple[BatchGroup, ...]

    def frame(self, at: int) -> MetricFrame:
        """One of the frames, as `frame.decode` gives it."""
        groups = tuple(MetricGroup(*one[:3], one.seqs[at], one.steps[at], one.times[at], one.values[at]) for one in self.groups)
        return MetricFrame(*self.heads[at], int(self.first_seqs[at]), int(self.next_seqs[at]), int(self.rules_seen[at]), groups)


class _Group(NamedTuple):
    names: tuple[str, str, tuple[str, ...]]
    rows: int
    seqs_at: int
    steps_at: int
    times_at: int
    values_at: int


class _Layout(NamedTuple):
    """Where things stand in frames of one length: three integers, then bytes that are always the same around arrays that are not."""

    integers: tuple[tuple[int, int], ...]  # place and width
    fixed: tuple[tuple[int, Bytes], ...]
    groups: tuple[_Group, ...]


_layouts: dict[tuple[int, int], list[_Layout]] = {}


def decode_many(values: Sequence[bytes], start: int = 0, wanted: Sequence[bool] | None = None) -> tuple[list[Batch], list[int]]:
    """Frames of one layout together, and the places of all others, which `frame.decode` is to read.

    A frame that is given in a batch is one that `frame.decode` reads, as the same frame to the bit. Raises nothing.

    Args:
        values: what came.
        start: where the Avro bodies begin.
        wanted: which of them may be frames of the newest schema; None is all.
    """
    rest: list[int] = []
    alike: dict[tuple[int, int], tuple[list[int], list[Head]]] = {}
    for place, data in enumerate(values):
        known = frame.known_head(data, start) if (wanted is None or wanted[place]) and len(data) <= _FRAME_BYTES_MAX else None
        if known is None:
            rest.append(place)
            continue
        size, head = known
        found = alike.get((len(data), size))
        if found is None:
            found = alike[len(data), size] = ([], [])
        found[0].append(place)
        found[1].append(head)
    batches: list[Batch] = []
    with np.errstate(invalid="ignore"):
        for kind, (places, heads) in alike.items():
            rest += _read(kind, places, heads, values, start, batches)
    return batches, rest


def _read(kind: tuple[int, int], places: list[int], heads: list[Head], values: Sequence[bytes], start: int, out: list[Batch]) -> list[int]:
    """Adds batches of frames of one length; gives back the places of those that fit none."""
    if len(places) < _ALIKE_MIN:
        return places
    matrix = np.frombuffer(b"".join([values[place] for place in places]), np.uint8).reshape(len(places), kind[0])
    left: NDArray[np.intp] = np.arange(len(places))
    wrong: list[int] = []
    known = list(_layouts.get(kind, ()))
    made = 0
    while len(left) >= _ALIKE_MIN:
        if known:
            layout = known.pop(0)
        else:
            found = _layout(values[places[int(left[0])]], start) if made < _LAYOUTS_MAX else None
            if found is None:
                break
            layout, made = found, made + 1
        fits = _fits(layout, matrix[left] if len(left) < len(places) else matrix)
        if not fits.any():
            continue
        _used(kind, layout)
        chosen = left[fits]
        left = left[~fits]
        batch, good = _columns(layout, matrix[chosen] if len(chosen) < len(places) else matrix, [places[at] for at in chosen], [heads[at] for at in chosen])
        if batch is not None:
            out.append(batch)
        wrong += [places[at] for at in chosen[~good]]
    return wrong + [places[at] for at in left]


def _used(kind: tuple[int, int], layout: _Layout) -> None:
    """Keeps a layout as the one used last; of too many the one goes that was used longest ago."""
    layouts = _layouts.setdefault(kind, [])
    if layouts and layouts[0] is layout:
        return
    layouts[:] = [layout, *(one for one in layouts if one is not layout)][:_LAYOUTS_MAX]
    if sum(map(len, _layouts.values())) > _ALL_LAYOUTS_MAX:
        _layouts.clear()


def _fits(layout: _Layout, matrix: Bytes) -> Bools:
    """Which rows have the layout's bytes where it has any."""
    fits = np.ones(len(matrix), np.bool_)
    for at, text in layout.fixed:
        fits &= (matrix[:, at : at + len(text)] == text).all(axis=1)
    for at, width in layout.integers:
        more = matrix[:, at : at + width] >= 0x80
        fits &= more[:, :-1].all(axis=1) & ~more[:, -1]
    return fits


def _columns(layout: _Layout, matrix: Bytes, places: list[int], heads: list[Head]) -> tuple[Batch | None, Bools]:
    """What stands in rows that have the layout, and which of them are right: the others `frame.decode` refuses, and says why."""
    first, after, rules_seen = (_integers(matrix, at, width) for at, width in layout.integers)
    good = (first >= 0) & (first <= after) & (rules_seen >= -(1 << 31)) & (rules_seen < 1 << 31)
    good &= np.array([frame.fits_head(head) for head in heads])
    groups: list[BatchGroup] = []
    for group in layout.groups:
        seqs, steps, times = (_wholes(matrix, at, group.rows, good) for at in group[2:5])
        good &= (seqs[:, 0] >= first) & (seqs[:, -1] < after) & (seqs[:, 1:] > seqs[:, :-1]).all(axis=1)
        values = _doubles(matrix, group.values_at, group.rows * len(group.names[2])).reshape(len(matrix), group.rows, len(group.names[2]))
        groups.append(BatchGroup(*group.names, seqs, steps, times, values))
    batch = Batch(places, heads, first, after, rules_seen, tuple(groups))
    if good.all():
        return batch, good
    chosen = np.flatnonzero(good)
    return (_some(batch, chosen) if len(chosen) else None), good


def _some(batch: Batch, chosen: NDArray[np.intp]) -> Batch:
    groups = tuple(BatchGroup(*one[:3], one.seqs[chosen], one.steps[chosen], one.times[chosen], one.values[chosen]) for one in batch.groups)
    places, heads = [batch.places[int(at)] for at in chosen], [batch.heads[int(at)] for at in chosen]
    return Batch(places, heads, batch.first_seqs[chosen], batch.next_seqs[chosen], batch.rules_seen[chosen], groups)


def _integers(matrix: Bytes, at: int, width: int) -> Longs:
    """Avro's integers that take the same number of bytes in every row."""
    out = np.zeros(len(matrix), np.int64)
    for place in range(width):
        out |= (matrix[:, at + place].astype(np.int64) & 0x7F) << (7 * place)
    return (out >> 1) ^ -(out & 1)


def _doubles(matrix: Bytes, at: int, count: int) -> Doubles:
    return np.ascontiguousarray(matrix[:, at : at + 8 * count]).view(_F8)


def _wholes(matrix: Bytes, at: int, count: int, good: Bools) -> Longs:
    """Doubles that stand for whole numbers; takes out of `good` the rows where one does not."""
    raw = _doubles(matrix, at, count)
    out = raw.astype(np.int64)
    good &= ((out == raw) & (np.abs(raw) < frame.EXACT_END)).all(axis=1)
    return out


def _layout(data: bytes, start: int) -> _Layout | None:
    """The layout of a frame; None where the frame is wrong, has no group, or is written in another way than `frame.encode` writes."""
    try:
        return _found(frame._Reader(data, start), data)
    except MalformedRecord:
        return None


def _found(walk: frame._Reader, data: bytes) -> _Layout | None:
    walk.head()
    integers: list[tuple[int, int]] = []
    for _ in range(3):
        at = walk.at
        walk.long()
        integers.append((at, walk.at - at))
    if max(width for _, width in integers) > _VARINT_BYTES_MAX:
        return None
    begun = walk.at
    arrays: list[tuple[int, int]] = []
    groups: list[_Group] = []
    for _ in range(walk.long()):
        names = walk.names()
        rows = walk.long()
        found: list[int] = []
        for count in (rows, rows, rows, rows * len(names[2])):
            if found and walk.long() != count:
                return None
            if not 0 < 8 * count < len(data) - walk.at:
                return None
            found.append(walk.at)
            arrays.append((walk.at, walk.at + 8 * count))
            walk.at += 8 * count
            if walk.long():
                return None
        if walk.long():
            return None
        groups.append(_Group(names, rows, *found))
    if not groups or walk.long() or walk.at != len(data):
        return None
    fixed: list[tuple[int, Bytes]] = []
    for at, end in (*arrays, (len(data), len(data))):
        fixed.append((begun, np.frombuffer(data[begun:at], np.uint8)))
        begun = end
    return _Layout(tuple(integers), tuple(fixed), tuple(groups))
