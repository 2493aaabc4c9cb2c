"""What stands in journal folders, without reading every row: for lists, dry runs and progress bars. `verify` reads everything; `reader` reads for shipping.

Counts come from segment headers and from the last segment, whose rows are hopped over by their lengths.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import row_at
from runstream_producers.journal.segments import locked, map_file

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

    from runstream_producers.journal.reader import Row


@dataclass(frozen=True, slots=True)
class Journal:
    """A writer's journal folder as it is now. `end` is None while the writer lives and where it died without a word."""

    folder: Path
    identity: fmt.Identity
    alive: bool
    end: fmt.End | None
    ack: fmt.Ack

    @property
    def state(self) -> str:
        """`running`, the state in which the writer ended, or `crashed`."""
        if self.end is not None:
            return self.end.state
        return "running" if self.alive else "crashed"


@dataclass(frozen=True, slots=True)
class Extent:
    """How far a journal reaches. `rows` and `points` are all that the writer logged, `rows_waiting` those that no shipper has had acknowledged.

    Rows that were dropped kept their seqs and count here. Bytes are those of segments: all that are held, and from the acknowledged position to the end. Times are epoch
    seconds of the first row that waits and of the last one; 0 where there is none.
    """

    rows: int
    points: int
    rows_waiting: int
    bytes_held: int
    bytes_waiting: int
    first_s: float
    last_s: float


def is_journal(folder: Path) -> bool:
    """Whether a folder is a writer's journal."""
    return folder.name.startswith("w-") and (folder / "writer.json").is_file()


def journals_in(base: Path) -> list[Path]:
    """The journal folders of a folder, in the order of their names; none where it is not there."""
    try:
        return sorted(path for path in base.iterdir() if path.name.startswith("w-") and path.is_dir())
    except OSError:
        return []


def open_journal(folder: Path) -> Journal:
    """A journal as it is now.

    Raises:
        OSError, ValueError, TypeError: its identity cannot be read.
    """
    identity = fmt.Identity.from_json((folder / "writer.json").read_text(encoding="utf-8"))
    # In this order: a writer that ends between the two looks has left its end by the second.
    alive = locked(folder / "lock")
    return Journal(folder, identity, alive, read_end(folder), read_ack(folder))


def read_ack(folder: Path) -> fmt.Ack:
    """What has been acknowledged of a journal; the beginning where that cannot be read."""
    try:
        return fmt.read_ack((folder / "ack").read_bytes()[: 2 * fmt.ACK_SLOT_BYTES])
    except OSError:
        return fmt.Ack()


def read_end(folder: Path) -> fmt.End | None:
    """How the writer ended; None where it has not said, or not in words that can be read."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return fmt.End.from_json((folder / "end.json").read_text(encoding="utf-8"))
    return None


def segments_of(folder: Path) -> dict[int, Path]:
    """The segments that are still there, by number, in order."""
    return {int(path.stem): path for path in sorted(folder.glob("*.seg")) if path.stem.isdecimal()}


def extent_of(journal: Journal) -> Extent:
    """How far a journal reaches by now. Never raises for what it holds."""
    place = journal.ack.position
    held = waiting = 0
    first_s = last_s = 0.0
    next_seq, points = journal.ack.next_seq, journal.ack.points
    segments = segments_of(journal.folder)
    newest = max(segments, default=0)
    for number, path in segments.items():
        with contextlib.suppress(OSError, ValueError), _mapped(path) as data:
            size = len(data)
            held += size
            if not fmt.header_fits(data[: fmt.HEADER_BYTES], number, journal.identity.writer):
                continue
            *_, first_seq, before = fmt.SEGMENT_HEADER.unpack_from(data)
            next_seq, points = max(next_seq, first_seq), max(points, before)
            used = size
            if number == newest:
                row, used = _last_row(data)
                if row is not None:
                    next_seq, points, last_s = max(next_seq, _after(row)), max(points, row.points), row.time_s
            begin = place.offset if number == place.segment else fmt.HEADER_BYTES
            if number >= place.segment and used > begin:
                waiting += used - begin
                first_s = first_s or _first_time(data, begin)
    if journal.end is not None:
        next_seq, points = max(next_seq, journal.end.next_seq), max(points, journal.end.points)
    return Extent(next_seq, points, next_seq - journal.ack.next_seq, held, waiting, first_s, last_s)


def _mapped(path: Path) -> contextlib.closing[mmap.mmap]:
    return contextlib.closing(map_file(path, write=False))


def _after(row: Row) -> int:
    """The first seq after a row."""
    return row.seq + (row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP))


def _first_time(data: mmap.mmap, offset: int) -> float:
    found = row_at(data, offset, len(data))
    return 0.0 if found is None else found[0].time_s


def _last_row(data: mmap.mmap) -> tuple[Row | None, int]:
    """The last whole row of a segment and where it ends. Only the last two are checked, so one that is broken further ahead goes unseen."""
    before = last = 0
    at, size = fmt.HEADER_BYTES, len(data)
    while at + fmt.LEAD_BYTES + fmt.HEAD_BYTES <= size:
        length = fmt.ROW_LEAD.unpack_from(data, at)[0]
        if length < fmt.HEAD_BYTES or at + fmt.LEAD_BYTES + length > size:
            break
        before, last = last, at
        at += fmt.LEAD_BYTES + length
    for start in filter(None, (last, before)):
        found = row_at(data, start, size)
        if found is not None:
            return found
    return None, fmt.HEADER_BYTES
