"""The series of one writer: their places in blocks of at most 1,000, fewer where their names are long, in the order in which they first appeared by seq.

That order is a property of the rows and not of the frames they came in, so that any grouping of the same rows gives the same places.

A fleet's ranks log the same names in the same order, and names take more memory than what is kept of a series. So what follows from names alone is one object for all writers that have
the same; it goes with the last of them.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakValueDictionary

import numpy as np

from runstream_rules.errors import StateUnreadable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Places = NDArray[np.int64]

BLOCK_SERIES_MAX = 1000
# A block's names stand in its state and in its summary, each of which goes into one message: one that has so many takes no more series.
BLOCK_NAMES_BYTES_MAX = 512 << 10
SERIES_NAME_BYTES_MAX = 128 << 10  # Name, context and subject of 10,000 characters each, whatever they are, need less.
_COUNT = struct.Struct("<I")
_ROUTES_MAX = 4096  # Lists of names remembered for one directory.


class Series(NamedTuple):
    """What names a series of a writer; run and writer are the state's."""

    metric: str
    context: str
    subject: str


class Part(NamedTuple):
    """The columns of a list of names that live in one block: `columns` (None: all of them), their places in the block, their names."""

    block: int
    columns: Places | None
    places: Places
    names: tuple[str, ...]


class Route(NamedTuple):
    """Where the columns of a list of names go. `indices` has one entry a column, -1 where the column does not count."""

    indices: Places
    parts: tuple[Part, ...]


class Names:
    """The series of a block in their order, and that as bytes: each text after its length. One object for all writers that log the same, as a fleet's ranks do; made by `names_of` and
    `names_in`."""

    __slots__ = ("__weakref__", "raw", "series")

    def __init__(self, raw: bytes, series: tuple[Series, ...]) -> None:
        self.raw = raw
        self.series = series


_names: WeakValueDictionary[bytes, Names] = WeakValueDictionary()
_directories: WeakValueDictionary[tuple[int, ...], Directory] = WeakValueDictionary()


def names_of(series: tuple[Series, ...]) -> Names:
    """The object of some series."""
    texts = (text.encode() for one in series for text in one)
    raw = b"".join(part for text in texts for part in (_COUNT.pack(len(text)), text))
    found = _names.get(raw)
    if found is None:
        found = _names[raw] = Names(raw, series)
    return found


def names_in(raw: bytes) -> Names:
    """The object of series as bytes; raises StateUnreadable where they are none."""
    found = _names.get(raw)
    if found is None:
        found = _names[raw] = Names(raw, _series(raw))
    return found


def _series(raw: bytes) -> tuple[Series, ...]:
    texts: list[str] = []
    at = 0
    while at < len(raw):
        start = at + _COUNT.size
        at = start + _COUNT.unpack_from(raw.ljust(start, b"\xff"), at)[0]
        if at > len(raw):
            raise StateUnreadable(f"the names of a state's series need {at} bytes, and {len(raw)} are there")
        texts.append(raw[start:at].decode())
    return tuple(map(Series, texts[::3], texts[1::3], texts[2::3]))


def directory_of(blocks: Sequence[Names]) -> Directory:
    """The directory of blocks with these series; one object for all writers that have the same."""
    key = tuple(map(id, blocks))
    found = _directories.get(key)
    if found is None:
        found = _directories[key] = Directory(tuple(blocks))
    return found


class Directory:
    """Series and their indices. What it answers never changes; a writer with more series has another one.

    Routes are found by the identity of the list of names first, since the codec gives the same list for the same bytes.
    """

    def __init__(self, blocks: tuple[Names, ...]) -> None:
        """Takes the series of each block. Use `directory_of`."""
        self._blocks = blocks  # Held, so that nobody else gets their ids.
        self._indices = {series: number * BLOCK_SERIES_MAX + place for number, names in enumerate(blocks) for place, series in enumerate(names.series)}
        self._routes: dict[tuple[str, str, tuple[str, ...]], Route] = {}
        self._met: dict[tuple[int, str, str], tuple[tuple[str, ...], Route]] = {}

    def __len__(self) -> int:
        return len(self._indices)

    def missing(self, context: str, subject: str, names: tuple[str, ...]) -> list[Series]:
        """The series of a list of names that have no index yet; a list that was routed before has none."""
        if self._known(context, subject, names) is not None:
            return []
        wanted = (Series(name, context, subject) for name in names)
        return [series for series in wanted if series not in self._indices]

    def route(self, context: str, subject: str, names: tuple[str, ...]) -> Route:
        """Where a list of names goes. Of a name that stands twice the last column counts; a series without an index is left out."""
        found = self._known(context, subject, names)
        if found is None:
            every = [self._indices.get(Series(name, context, subject), -1) for name in names]
            last = {index: column for column, index in enumerate(every)}
            indices = [index if last[index] == column else -1 for column, index in enumerate(every)]
            found = Route(np.array(indices, dtype=np.int64), _parts(indices, names))
            if -1 in every:
                return found  # A later directory may know the series that found no room in this one.
            if len(self._routes) >= _ROUTES_MAX:
                self._routes.clear()
            self._routes[context, subject, names] = found
        return found

    def _known(self, context: str, subject: str, names: tuple[str, ...]) -> Route | None:
        met = self._met.get((id(names), context, subject))
        if met is not None and met[0] is names:
            return met[1]
        found = self._routes.get((context, subject, names))
        if found is not None:
            if len(self._met) >= _ROUTES_MAX:
                self._met.clear()
            self._met[id(names), context, subject] = (names, found)
        return found


def name_bytes(series: Series) -> int:
    """Bytes that the names of a series take in its block."""
    return sum(_COUNT.size + len(text.encode()) for text in series)


def free_indices(blocks: Sequence[tuple[int, int]], wanted: Iterable[int]) -> list[int]:
    """The next indices to give to series whose names take `wanted` bytes, where blocks with so many series and bytes of names exist: each goes into the first block that is not full.

    Whether a block is full is a matter of what is in it, and not of what would come in, so that it is filled in one way alone. Only after a crash between two entries is a block not
    full that is not the last one; the same rows then come again and fill it as they would have.
    """
    out: list[int] = []
    number = -1
    used, size = BLOCK_SERIES_MAX, 0
    for more in wanted:
        while used >= BLOCK_SERIES_MAX or size >= BLOCK_NAMES_BYTES_MAX:
            number += 1
            used, size = blocks[number] if number < len(blocks) else (0, 0)
        out.append(number * BLOCK_SERIES_MAX + used)
        used += 1
        size += more
    return out


def _parts(indices: list[int], names: tuple[str, ...]) -> tuple[Part, ...]:
    by_block: dict[int, list[int]] = {}
    for column, index in enumerate(indices):
        if index >= 0:
            by_block.setdefault(index // BLOCK_SERIES_MAX, []).append(column)
    return tuple(part_of(block, columns, indices, names) for block, columns in sorted(by_block.items()))


def part_of(block: int, columns: list[int], indices: list[int], names: tuple[str, ...]) -> Part:
    """The part of some columns that live in one block."""
    places = np.array([indices[column] % BLOCK_SERIES_MAX for column in columns], dtype=np.int64)
    if len(columns) == len(names):
        return Part(block, None, places, names)
    return Part(block, np.array(columns, dtype=np.int64), places, tuple(names[column] for column in columns))
