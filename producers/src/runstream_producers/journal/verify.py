"""Reads every byte of a journal and says whether it is whole: checksums, seqs, points, what a reader skips and why. Changes nothing.

`reader` takes what it can and goes on; this looks for reasons to complain.
"""

from __future__ import annotations

import json
import mmap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Row, row_at
from runstream_producers.journal.segments import map_file
from runstream_producers.journal.survey import read_ack, segments_of

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_producers.journal.survey import Journal

_SEQS_AHEAD_MAX = 1 << 32  # How far ahead a row found behind damage may be: what claims more is no row.
# Of the reasons for which points are dropped, the one that drops no whole row and so leaves no gap.
_VALUES_ALONE = "bad_value"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was noticed at a place; `wrong` where a journal should not have it."""

    segment: int
    offset: int
    wrong: bool
    text: str


@dataclass(slots=True)
class Report:
    """What a journal holds: rows that can be read, seqs that are missing, and what was noticed."""

    rows: int = 0
    records: int = 0
    points: int = 0
    first_seq: int = 0
    next_seq: int = 0
    missing: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    dropped: dict[str, int] = field(default_factory=dict[str, int])
    findings: list[Finding] = field(default_factory=list[Finding])

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(one.wrong for one in self.findings)


def verify(journal: Journal) -> Report:
    """Reads a whole journal. Never raises for what it holds."""
    return _Check(journal).report


class _Check:
    def __init__(self, journal: Journal) -> None:
        self.report = Report()
        self._journal = journal
        self._expected: int | None = None
        self._points: int | None = None
        self._key_sets: dict[int, int] = {}
        self._interrupted = False
        self._damaged = False
        segments = segments_of(journal.folder)
        # Read after the list was made: what a shipper removed before it, it had acknowledged.
        self._ack = read_ack(journal.folder)
        before = self._ack.position.segment - 1
        for number, path in segments.items():
            if number > before + 1:
                self._wrong(before + 1, 0, f"segments {before + 1} to {number - 1} are missing, and not all of them are acknowledged")
                self._damaged = True
            before = max(before, number)
            self._segment(number, path, last=number == max(segments))
        if not segments:
            self._without_segments(journal)
        self._end()

    def _without_segments(self, journal: Journal) -> None:
        """A process that was killed while it began its journal leaves none, and wrote nothing; otherwise there is one always, since the newest is never removed."""
        if self._ack.next_seq or (journal.end is not None and journal.end.next_seq):
            self._wrong(0, 0, "there is no segment")
        else:
            self._note(0, 0, "there is no segment: the process ended before it wrote anything")

    def _wrong(self, segment: int, offset: int, text: str) -> None:
        self.report.findings.append(Finding(segment, offset, True, text))

    def _note(self, segment: int, offset: int, text: str) -> None:
        self.report.findings.append(Finding(segment, offset, False, text))

    def _segment(self, number: int, path: Path, *, last: bool) -> None:
        try:
            data = map_file(path, write=False)
        except FileNotFoundError:
            self._note(number, 0, "the segment was shipped and removed while it was about to be read")
            self._expected = self._points = None
            return
        except (OSError, ValueError) as error:
            self._wrong(number, 0, f"the segment cannot be read ({error}): none of its rows is shipped")
            self._damaged = True
            return
        with data:
            if not fmt.header_fits(data[: fmt.HEADER_BYTES], number, self._journal.identity.writer):
                self._wrong(number, 0, "the segment's header does not fit: none of its rows is shipped")
                self._damaged = True
                return
            *_, first_seq, points = fmt.SEGMENT_HEADER.unpack_from(data)
            self._reach(first_seq)
            self._count(points, number, 0)
            self._key_sets = {}
            offset, size = fmt.HEADER_BYTES, len(data)
            while (found := row_at(data, offset, size)) is not None:
                self._row(found[0], number, offset)
                offset = found[1]
            self._rest(data, number, offset, last=last)

    def _reach(self, seq: int) -> None:
        """The next row has this seq: what was expected before it is missing."""
        if self._expected is None:
            self.report.first_seq = seq
        elif seq > self._expected and not (self._interrupted and seq == self._expected + 1):
            self.report.missing.append((self._expected, seq))
        self._interrupted = False
        self._expected = seq

    def _count(self, points: int, segment: int, offset: int) -> None:
        """The writer's own count before the next row is this."""
        if self._points is not None and points != self._points and not self._damaged:
            self._wrong(segment, offset, f"the writer counted {points} points by here, and its rows come to {self._points}")
        self._points = points
        self._damaged = False

    def _row(self, row: Row, segment: int, offset: int) -> None:
        if self._expected is not None and row.seq < self._expected:
            self._wrong(segment, offset, f"a row has seq {row.seq} where at least {self._expected} was due")
        self._reach(row.seq)
        values = 0
        if row.kind == fmt.Kind.METRICS:
            values = len(row.payload) // 8
            if self._key_sets.get(row.key_set) != values:
                self._wrong(
                    segment, offset, f"row {row.seq} has {values} values under key set {row.key_set}, which this segment does not define with so many names"
                )
            self.report.rows += 1
            self.report.points += values
        else:
            self._other(row, segment, offset)
        self._count(row.points - values, segment, offset)
        self._points = row.points
        if row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP):
            self._expected = row.seq + 1

    def _other(self, row: Row, segment: int, offset: int) -> None:
        try:
            if row.kind == fmt.Kind.KEY_SET:
                one = fmt.key_set_of(row.payload)
                self._key_sets[one.number] = len(one.keys)
            elif row.kind == fmt.Kind.DROP:
                self.report.dropped = fmt.drops_of(row.payload)
            else:
                fmt.Kind(row.kind)
                json.loads(row.payload)
                self.report.records += 1
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            self._wrong(segment, offset, f"a row of kind {row.kind} with seq {row.seq} holds what this version cannot read ({error})")

    def _rest(self, data: mmap.mmap, number: int, offset: int, *, last: bool) -> None:
        """What stands behind the last row that fits: nothing, a row in the making, or damage."""
        rest = data[offset:]
        if rest.count(0) == len(rest):
            return
        size = min(len(rest), fmt.LEAD_BYTES + fmt.ROW_LEAD.unpack_from(rest.ljust(fmt.LEAD_BYTES, b"\0"))[0])
        beyond = self._rows_beyond(data, offset + 8)
        if beyond and self._journal.alive and row_at(data, offset, len(data)) is not None:
            self._note(number, offset, "rows were written meanwhile")
        elif beyond:
            self._damaged = True
            self._wrong(number, offset, f"a row's checksum does not fit: this row and the {beyond} rows behind it in the segment are not shipped")
        elif last and self._journal.alive:
            self._note(number, offset, "a row is being written")
        elif last:
            self._note(number, offset, f"{size} bytes of a row that its writer did not finish are left out")
        else:
            self._interrupted = True
            self._note(number, offset, f"{size} bytes of a row that was interrupted are left out")

    def _rows_beyond(self, data: mmap.mmap, offset: int) -> int:
        """How many whole rows stand behind a place where none begins."""
        count, size, due = 0, len(data), self._expected or 0
        while offset + fmt.LEAD_BYTES + fmt.HEAD_BYTES <= size:
            kind, seq, *_ = fmt.ROW_HEAD.unpack_from(data, offset + fmt.LEAD_BYTES)
            plausible = 0 < kind & 0xFF <= max(fmt.Kind) and due <= seq < due + _SEQS_AHEAD_MAX
            found = row_at(data, offset, size) if plausible else None
            if found is None:
                offset += 8
            else:
                count += found[0].kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP)
                offset = found[1]
        return count

    def _end(self) -> None:
        report, end, ack = self.report, self._journal.end, self._ack
        if end is not None:
            if self._expected is not None:
                self._interrupted = self._interrupted and end.next_seq == self._expected + 1
                self._reach(end.next_seq)
            if self._points is not None:
                self._count(end.points, 0, 0)
            report.dropped = dict(end.dropped)
        report.next_seq = self._expected or 0
        if self._expected is not None and ack.next_seq > self._expected and not self._journal.alive:
            self._wrong(0, 0, f"rows are acknowledged up to seq {ack.next_seq}, and the journal ends at {self._expected}")
        count = sum(until - first for first, until in report.missing)
        if count:
            reasons = {reason: points for reason, points in report.dropped.items() if reason != _VALUES_ALONE}
            shown = ", ".join(f"{first} to {until - 1}" if until - first > 1 else str(first) for first, until in report.missing[:5])
            more = "" if len(report.missing) <= 5 else f" and {len(report.missing) - 5} more places"
            if reasons:
                told = ", ".join(f"{reason}: {points} points" for reason, points in sorted(reasons.items()))
                self._note(0, 0, f"{count} rows were dropped and counted ({told}): seqs {shown}{more}")
            else:
                self._wrong(0, 0, f"{count} seqs are missing, and no drop was counted: {shown}{more}")
