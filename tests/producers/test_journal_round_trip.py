"""What is logged is read back, bit for bit, through rotation and from any acknowledged position."""

from __future__ import annotations

import datetime as dt
import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runstream_producers.errors import JournalError
from runstream_producers.journal import format as fmt
from runstream_producers.journal import plans
from runstream_producers.journal.reader import Reader
from runstream_producers.journal.segments import check_local, file_system_of
from runstream_schemas.topics import MESSAGE_BYTES_MAX
from tests.producers.journals import START, Logged, Reports, bits, identity, make_writer, raw_rows, read_back, read_writer, segments

names = st.text(st.characters(codec="utf-8"), max_size=12)
values = st.floats() | st.integers(-(1 << 70), 1 << 70) | st.booleans()
steps = st.none() | st.integers(-(1 << 63), (1 << 63) - 1)
calls = st.fixed_dictionaries(
    {
        "data": st.dictionaries(names, values, min_size=1, max_size=5),
        "step": steps,
        "time": st.none() | st.floats(-2_208_988_800.0, 10_413_791_999.0),
        "context": st.sampled_from([None, "training", "validation", "Ünïcode"]),
        "subject": st.sampled_from(["", "model/bert/3"]),
    }
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(calls, min_size=1, max_size=30))
@example([{"data": {"a": 1.0}, "step": -(1 << 63), "time": None, "context": None, "subject": ""}] * 3)
@example([{"data": {"a": float("nan"), "b": float("-inf"), "": -0.0}, "step": (1 << 63) - 1, "time": 0.0, "context": "x", "subject": "y"}] * 2)
def test_every_call_is_read_back(made: list[dict[str, Any]]) -> None:
    """Names, values to the bit, steps, times, contexts and subjects come back in order, with growing seqs and the counted steps of each context."""
    counters: dict[tuple[str, str], int] = {}
    expected: list[Logged] = []
    with tempfile.TemporaryDirectory() as folder:
        writer = make_writer(Path(folder))
        for call in made:
            writer.log(call["data"], call["step"], time=call["time"], context=call["context"], subject=call["subject"])
            place = (call["context"] or "", call["subject"])
            step = call["step"]
            if step is None:
                step = counters.get(place, 0)
                counters[place] = step + 1
            expected.append(Logged(writer.seq - 1, step, call["time"] or 0.0, *place, {name: bits(float(value)) for name, value in call["data"].items()}))
        found = read_writer(writer)
        points = writer.points
        writer.close("finished", "")
    assert points == sum(len(call["data"]) for call in made)
    assert [one.seq for one in expected] == sorted({one.seq for one in expected})
    for row, wanted, call in zip(found, expected, made, strict=True):
        assert row.time_s == wanted.time_s if call["time"] is not None else row.time_s > 1.7e9
        assert row == Logged(wanted.seq, wanted.step, row.time_s, wanted.context, wanted.subject, wanted.values)


def test_rows_go_on_over_many_segments(tmp_path: Path) -> None:
    """Key sets are defined anew in each segment, and rows of several of them stay in order over dozens of segments."""
    writer = make_writer(tmp_path)
    for number in range(20_000):
        writer.log({f"name-{number % 7}/{one}": float(number + one) for one in range(1 + number % 3)}, step=number, context="b" if number % 2 else None)
    assert len(segments(writer.folder.path)) > 20
    found = read_writer(writer)
    assert [row.seq for row in found] == list(range(20_000))
    assert all(row.values == {f"name-{row.step % 7}/{one}": bits(row.step + one) for one in range(1 + row.step % 3)} for row in found)
    assert all(row.context == ("b" if row.step % 2 else "") for row in found)


def test_a_row_larger_than_a_segment_gets_a_segment_of_its_size(tmp_path: Path) -> None:
    """100,000 names in one call are one row."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    data = {f"layer-{one}/grad_norm": float(one) for one in range(100_000)}
    writer.log({"before": 1})
    writer.log(data)
    writer.log({"after": 2})
    assert [len(row.values) for row in read_writer(writer)] == [1, 100_000, 1]
    assert reports.told == []


def test_a_row_that_no_message_can_carry_is_refused(tmp_path: Path) -> None:
    """Such a row keeps its seq, is counted as dropped, and is told once with its size; the rows around it are kept."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.log({"before": 1.0})
    writer.log({f"{one:06d}" + "x" * 200: 1.0 for one in range(MESSAGE_BYTES_MAX // 200)})
    writer.record(fmt.Kind.EVENT, {"name": "x" * MESSAGE_BYTES_MAX})
    writer.log({"after": 1.0})
    assert [row.seq for row in read_writer(writer)] == [0, 3]
    assert writer.dropped == {"too_large": MESSAGE_BYTES_MAX // 200}
    assert len(reports.keys) == 2
    assert writer.rows == 2


def test_reading_goes_on_from_any_position(tmp_path: Path) -> None:
    """A reader that begins at any position that another one stood at gets the rest of the rows, with the key sets that it needs."""
    writer = make_writer(tmp_path)
    for number in range(5000):
        writer.log({f"name-{number % 11}": number, "b": 1.0}, step=number, context=str(number % 3))
    expected = read_writer(writer)
    reader = Reader(writer.folder.path, writer.identity.writer, START)
    positions: list[tuple[fmt.Position, int]] = [(START, 0)]
    seen = 0
    while rows := list(reader.rows(3000)):
        seen += sum(row.kind == fmt.Kind.METRICS for row in rows)
        positions.append((reader.position, seen))
    assert len({position.segment for position, _ in positions}) > 3
    for position, before in positions[:: max(1, len(positions) // 25)]:
        assert read_writer(writer, position) == expected[before:]


def test_a_reader_follows_a_writer(tmp_path: Path) -> None:
    """Rows appear as they are written, over rotations, none twice."""
    writer = make_writer(tmp_path)
    reader = Reader(writer.folder.path, writer.identity.writer, START)
    seqs: list[int] = []
    for number in range(6000):
        writer.log({"a": float(number)})
        if number % 7 == 0:
            seqs += [row.seq for row in reader.rows(1 << 20) if row.kind == fmt.Kind.METRICS]
            assert seqs[-1] == number
    assert seqs == list(range(5999 // 7 * 7 + 1))


def test_a_read_is_bounded_by_bytes_names_included(tmp_path: Path) -> None:
    """What one read yields makes a frame of about the bytes asked for, though each row brings long names of its own; one row always comes."""
    writer = make_writer(tmp_path, segment_bytes=1 << 22)
    for _ in range(2):
        for number in range(200):
            writer.log({f"{number}-{'x' * 2000}": 1.0})
    rows = list(raw_rows(writer.folder.path, writer.identity.writer, bytes_max=1))
    assert sum(row.kind == fmt.Kind.METRICS for row in rows) == 400
    reader = Reader(writer.folder.path, writer.identity.writer, START)
    while cut := list(reader.rows(20_000)):
        assert sum(row.kind == fmt.Kind.METRICS for row in cut) <= 10


def test_records_of_other_kinds_keep_their_place(tmp_path: Path) -> None:
    """Events, params and rules have seqs of their own between the rows, and their payload comes back."""
    writer = make_writer(tmp_path)
    writer.log({"a": 1.0})
    writer.record(fmt.Kind.EVENT, {"name": "späte Änderung", "metadata": {"x": "1"}})
    writer.log({"a": 2.0})
    writer.record(fmt.Kind.PARAM, {"key": "lr", "value": float("nan")})
    rows = [row for row in raw_rows(writer.folder.path, writer.identity.writer) if row.kind != fmt.Kind.KEY_SET]
    assert [(row.kind, row.seq) for row in rows] == [(fmt.Kind.METRICS, 0), (fmt.Kind.EVENT, 1), (fmt.Kind.METRICS, 2), (fmt.Kind.PARAM, 3)]
    assert json.loads(rows[1].payload) == {"name": "späte Änderung", "metadata": {"x": "1"}}


def test_half_a_surrogate_pair_becomes_a_question_mark(tmp_path: Path) -> None:
    """Texts that UTF-8 cannot hold do not make a frame that cannot be sent: they are logged with question marks."""
    writer = make_writer(tmp_path)
    writer.log({"a\udc80": 1.0}, context="c\ud800", subject="s\udfff")
    writer.record(fmt.Kind.EVENT, {"name": "n\ud800"})
    [row] = read_writer(writer)
    assert (row.context, row.subject, list(row.values)) == ("c?", "s?", ["a?"])
    [event] = [row for row in raw_rows(writer.folder.path, writer.identity.writer) if row.kind == fmt.Kind.EVENT]
    assert json.loads(event.payload) == {"name": "n?"}


def test_what_json_cannot_hold_is_told(tmp_path: Path) -> None:
    """A record with an object in it raises nothing: it is told, takes no seq, and the writer goes on."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.record(fmt.Kind.EVENT, {"name": object()})
    writer.log({"a": 1.0})
    assert reports.keys == {"record:event"}
    assert [row.seq for row in read_writer(writer)] == [0]


def test_a_closed_journal_says_how_it_ended(tmp_path: Path) -> None:
    """`end.json` has the state, the counts and the drops, the lock is free, and what is logged later is told once and kept out."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    writer.log({"a": 1.0, "b": None})
    writer.close("failed", "ValueError: no")
    writer.log({"a": 2})
    writer.record(fmt.Kind.EVENT, {})
    writer.close("finished", "")
    end = fmt.End.from_json((writer.folder.path / "end.json").read_text())
    assert end == fmt.End("failed", "ValueError: no", 1, 1, {"bad_value": 1})
    assert [row.seq for row in read_writer(writer)] == [0]
    assert reports.keys == {"value:b", "closed"}


def test_the_identity_comes_back_and_others_are_refused(tmp_path: Path) -> None:
    """writer.json round-trips; another version or other fields are refused with ValueError or TypeError."""
    one = identity()
    assert fmt.Identity.from_json(one.to_json()) == one
    with pytest.raises(ValueError, match="version 1, got 2"):
        fmt.Identity.from_json(one.to_json().replace('"version": 1', '"version": 2'))
    with pytest.raises(TypeError):
        fmt.Identity.from_json('{"version": 1, "shoe_size": 43}')


def test_another_writers_segment_is_not_read(tmp_path: Path) -> None:
    """The header of a segment names its writer and number; one that does not fit is no segment of this journal."""
    writer = make_writer(tmp_path)
    writer.log({"a": 1})
    assert read_back(writer.folder.path, writer.identity.writer + 1) == []


def test_network_file_systems_are_known_by_their_mount() -> None:
    """The longest mount point that holds the path says its type, spaces included."""
    mounts = "/dev/sda / ext4 rw 0 0\nserver:/a /home nfs4 rw 0 0\nserver:/b /home/local\\040disk xfs rw 0 0\n/dev/sdb /homes ext4 rw 0 0\n"
    assert file_system_of(Path("/home/me"), mounts) == "nfs4"
    assert file_system_of(Path("/home/local disk/x"), mounts) == "xfs"
    assert file_system_of(Path("/homes/x"), mounts) == "ext4"
    assert file_system_of(Path("/var"), mounts) == "ext4"


def test_a_network_file_system_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals on NFS are refused, and the error names the setting that moves them."""
    real = Path.read_text

    def mounts(path: Path, *args: Any, **options: Any) -> str:
        return f"server:/x {tmp_path} nfs rw 0 0\n" if str(path) == "/proc/self/mounts" else real(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", mounts)
    with pytest.raises(JournalError, match="RUNSTREAM_JOURNAL_DIR"):
        check_local(tmp_path)


def test_a_datetime_is_a_time(tmp_path: Path) -> None:
    """`time=` takes seconds or a datetime, aware or local."""
    writer = make_writer(tmp_path)
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, 250_000, tzinfo=dt.UTC)
    writer.log({"a": 1}, time=moment)
    writer.log({"a": 1}, time=moment.astimezone().replace(tzinfo=None))
    assert [row.time_s for row in read_writer(writer)] == [moment.timestamp()] * 2


@pytest.mark.parametrize("count", [1, 2, 999])
def test_rows_are_packed_as_the_format_says(count: int) -> None:
    """What a plan packs is little-endian and without gaps, whatever the machine's own layout is."""
    values = [0.5 + one for one in range(count)]
    _, _, pack, into, length, size, _, head = plans.make(7, tuple(f"{one}" for one in range(count)))
    body = pack(head, 1, -2, 3, 4.5, *values)
    assert body == fmt.ROW_HEAD.pack(head, 1, -2, 3, 4.5) + struct.pack(f"<{count}d", *values)
    row = bytearray(size)
    into(row, 0, length, 6, body)
    assert row == fmt.ROW_LEAD.pack(length, 6) + body
    assert size == plans.row_bytes(count)
