"""The targets `journal` and `seals`: whatever stands in a journal folder, readers take what fits and say what does not, and no row comes out that does not stand in it.

`journal` takes bytes as a segment, as they are and once more with the checksum of each row made right: a hostile writer can do that, too, and a search never would by chance.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zlib
from dataclasses import asdict
from pathlib import Path

from runstream_producers.frames import Cutter
from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Reader, Row
from runstream_producers.journal.survey import extent_of, open_journal
from runstream_producers.journal.verify import verify
from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame
from tests.fuzz.target import Target, hold
from tests.producers.journals import identity, make_writer, segments

WRITER = 77
START = fmt.Position(1, fmt.HEADER_BYTES)
_HEADER = fmt.segment_header(1, WRITER, 0, 0).ljust(fmt.HEADER_BYTES, b"\0")


def sealed(data: bytes) -> bytes:
    """The rows of a segment with their checksums made right, as far as their lengths go."""
    out = bytearray(data)
    at = fmt.HEADER_BYTES
    while at + fmt.LEAD_BYTES + fmt.HEAD_BYTES <= len(out):
        length = min(fmt.ROW_LEAD.unpack_from(out, at)[0], len(out) - at - fmt.LEAD_BYTES)
        if length < fmt.HEAD_BYTES:
            break
        body = at + fmt.LEAD_BYTES
        fmt.ROW_LEAD.pack_into(out, at, length, zlib.crc32(out[body : body + length]))
        at = body + length
    return bytes(out)


class _Place:
    """A journal folder of this process, written anew for every input."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="runstream-fuzz-"))
        self.folder = self.base / fmt.folder_name(WRITER)
        self.folder.mkdir()
        self.identity = identity(WRITER)
        (self.folder / "writer.json").write_text(self.identity.to_json())


class _Shared:
    """Made at first use, since it makes a folder."""

    place: _Place | None = None


def place() -> _Place:
    """The folder in use."""
    if _Shared.place is None:
        _Shared.place = _Place()
    return _Shared.place


def remove() -> None:
    """Removes the folder."""
    if _Shared.place is not None:
        shutil.rmtree(_Shared.place.base, ignore_errors=True)
        _Shared.place = None


def _check_segment(segment: bytes) -> None:
    where = place()
    (where.folder / fmt.segment_name(1)).write_bytes(segment)
    reader = Reader(where.folder, WRITER, START)
    cutter = Cutter(where.identity, next_seq=0, rules=0)
    at = START
    try:
        while True:
            rows = list(reader.rows(4096))
            for row in rows:
                raw = fmt.ROW_HEAD.pack(row.kind | row.key_set << fmt.KEY_SET_SHIFT, row.seq, row.step, row.points, row.time_s)
                hold(len(raw) == fmt.HEAD_BYTES and segment.find(row.payload) >= 0, "each row stands in the segment")
            if not rows:
                break
            hold(at < reader.position <= fmt.Position(1, len(segment)), "reading goes on, and not past the segment's end")
            at = reader.position
            _ship(cutter, rows)
    finally:
        reader.close()
    hold(reader.torn_bytes() <= len(segment), "no more is torn than there is")
    reader.close()
    journal = open_journal(where.folder)
    report = verify(journal)
    hold(report.rows + report.records >= 0, "a journal is told of, whatever it holds")
    extent_of(journal)


def _ship(cutter: Cutter, rows: list[Row]) -> None:
    """What a shipper makes of rows: records that can be written and read, and what is set aside; each row is one of them."""
    before = cutter.next_seq
    cut = cutter.cut(rows)
    told = sum(row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP) for row in rows)
    if cut is None:
        hold(not told, "no row goes unsaid")
        return
    frame = cut.frame.record
    hold(isinstance(frame, MetricFrame), "a cut has a frame")
    shipped = sum(len(group.seqs) for group in frame.groups) if isinstance(frame, MetricFrame) else 0
    hold(cut.rows == told == shipped + len(cut.others) + len(cut.unreadable), "each row is shipped or set aside")
    hold(cut.next_seq >= before, "the account goes on")
    for keyed in (cut.frame, *cut.others):
        try:
            raw = wire.encode(keyed.record)
        except MalformedRecord:
            continue
        wire.decode(raw)


def check_journal(data: bytes) -> None:
    """Bytes as a segment: as they are, and sealed, each behind a header that fits and behind their own."""
    segment = _HEADER + data
    _check_segment(segment)
    again = sealed(segment)
    if again != segment:
        _check_segment(again)
    _check_segment(data or b"\0")


def _journal_seeds() -> list[bytes]:
    out: list[bytes] = []
    base = Path(tempfile.mkdtemp(prefix="runstream-fuzz-seeds-"))
    try:
        writer = make_writer(base, segment_bytes=1 << 12)
        for step in range(3):
            writer.log({"loss": 0.5 * step, "n": step}, step=step)
        writer.log({"a": float("nan")}, context="val", subject="model")
        writer.log({"text": "word", "bad": 1j})
        writer.record(fmt.Kind.EVENT, {"event_id": "e", "time_ms": 1, "name": "n", "subject": "", "metadata": {}})
        writer.record(fmt.Kind.PARAM, {"time_ms": 1, "key": "lr", "value": "0.1"})
        writer.flush_drops()
        out = [path.read_bytes()[fmt.HEADER_BYTES :].rstrip(b"\0") + bytes(8) for path in segments(writer.folder.path)]
        writer.close("finished", "")
    finally:
        shutil.rmtree(base)
    return out


def check_seals(data: bytes) -> None:
    """The first byte chooses what the rest is: who writes, how it ended, or what is acknowledged."""
    where = place()
    kind, text = data[:1], data[1:]
    names = ("writer.json", "end.json", "ack")
    name = names[(kind or b"\0")[0] % 3]
    (where.folder / fmt.segment_name(1)).write_bytes(_HEADER + bytes(64))
    try:
        (where.folder / name).write_bytes(text)
        try:
            journal = open_journal(where.folder)
        except (OSError, ValueError, TypeError):
            hold(name == "writer.json", "a journal whose identity can be read is opened, whatever else cannot")
            return
        verify(journal)
        extent_of(journal)
        hold(journal.state != "", "a journal has a state")
    finally:
        for other in names[1:]:
            (where.folder / other).unlink(missing_ok=True)
        (where.folder / "writer.json").write_text(where.identity.to_json())


def _seal_seeds() -> list[bytes]:
    end = fmt.End("finished", "", 7, 9, {"bad_value": 1})
    return [
        b"\0" + identity(WRITER).to_json().encode(),
        b"\1" + json.dumps(asdict(end)).encode(),
        b"\2" + fmt.Ack(3, 7, START, 7, 9).pack().ljust(fmt.ACK_SLOT_BYTES, b"\0"),
    ]


JOURNAL = Target("journal", "a segment is read as far as it fits, and holds each row that is read", check_journal, _journal_seeds, 2048)
SEALS = Target("seals", "identity, end and acknowledgements are read or refused", check_seals, _seal_seeds, 1024)
