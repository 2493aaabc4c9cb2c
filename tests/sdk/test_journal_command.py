"""`runstream journal`: what it lists, shows and exports is what was logged, by other tools' reading too; and it finds what is wrong with a journal."""

# fastavro's and pyarrow's answers carry no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import fastavro
import pyarrow.parquet as pq
import pytest

from runstream import cli
from runstream_producers.journal import format as fmt
from runstream_producers.journal.survey import extent_of, open_journal
from runstream_producers.journal.verify import Report, verify
from runstream_producers.journal.writer import JournalWriter
from runstream_schemas import frame
from tests.producers.journals import make_writer, raw_rows, segments
from tests.producers.ledger import check_account, ledger_of
from tests.waiting import wait_for

RUN_ID = "0193a1f0-0000-7000-8000-000000000001"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The journal root of the settings."""
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path / "journals"))
    return tmp_path / "journals"


def said(capsys: pytest.CaptureFixture[str], *arguments: str | Path, code: int = 0) -> str:
    """What the command prints, checked for its exit code."""
    assert cli.main(["journal", *map(str, arguments)]) == code
    return capsys.readouterr().out


def lines(text: str) -> list[dict[str, Any]]:
    """JSON lines."""
    return [json.loads(line) for line in text.splitlines()]


def filled(root: Path, rows: int = 2000, *, end: str = "finished") -> JournalWriter:
    """A writer over several segments with rows, NaN and infinities, and one record of each other kind."""
    writer = make_writer(root / "offline")
    writer.record(fmt.Kind.RUN, {"time_ms": 1, "name": "n", "tags": ["a"]})
    writer.record(fmt.Kind.PARAM, {"time_ms": 2, "key": "lr", "context": "", "kind": "float", "value": "0.1"})
    for number in range(rows):
        writer.log({"loss": number * 0.5, "special": (math.nan, math.inf, -math.inf)[number % 3], f"layer-{number % 5}": 1.0}, step=number)
    writer.log({"acc": 1.0}, step=3, time=1.7e9, context="validation", subject="model/x/1")
    writer.record(fmt.Kind.EVENT, {"event_id": "e", "time_ms": 3, "name": "saved", "metadata": {"bytes": "5"}})
    writer.record(fmt.Kind.RULE, {"rule_id": "r", "version": 1, "time_ms": 4, "name": "n", "kind": "non_finite", "metric": "loss"})
    if end:
        writer.close(end, "")
    else:
        writer.folder.close()
    return writer


def checked(writer: JournalWriter) -> Report:
    """What verify finds."""
    return verify(open_journal(writer.folder.path))


def test_a_journal_whose_process_was_killed_while_it_began_is_empty_and_not_broken(root: Path) -> None:
    """Without a segment and without a row acknowledged there was nothing to lose; where rows were acknowledged, or the end names some, a segment is missing."""
    begun = filled(root, 10, end="")
    for segment in begun.folder.path.glob("*.s*"):
        segment.unlink()
    report = checked(begun)
    assert report.ok
    assert "before it wrote anything" in report.findings[0].text
    ended = filled(root, 10)
    for segment in ended.folder.path.glob("*.s*"):
        segment.unlink()
    assert not checked(ended).ok


def test_journals_are_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every journal of the user is there with its run, rank, state, rows, points and bytes; a folder lists its own alone."""
    assert said(capsys, "ls") == "no journals\n"
    finished, crashed = filled(root), filled(root, 10, end="")
    found = {one["writer"]: one for one in lines(said(capsys, "ls", "--json"))}
    assert set(found) == {finished.identity.writer, crashed.identity.writer}
    one = found[finished.identity.writer]
    assert (one["run_id"], one["rank"], one["state"], one["rows"], one["points"]) == (RUN_ID, 3, "finished", 2005, 6001)
    assert (one["rows_acknowledged"], one["bytes"]) == (0, sum(path.stat().st_size for path in segments(finished.folder.path)))
    assert (found[crashed.identity.writer]["state"], found[crashed.identity.writer]["rows"]) == ("crashed", 15)
    text = said(capsys, "ls", crashed.folder.path)
    assert len(text.splitlines()) == 2
    assert "crashed" in text


def test_an_extent_is_what_reading_gives(root: Path) -> None:
    """Rows and points that are counted from headers and the last segment agree with reading everything, also while the writer writes and after a torn row."""
    writer = make_writer(root)
    for number in range(3000):
        writer.log({"a": 1.0, f"b-{number % 30}": 2.0}, step=number)
        if number % 97 == 0:
            extent = extent_of(open_journal(writer.folder.path))
            assert (extent.rows, extent.points) == (number + 1, 2 * number + 2)
    offset, path = writer.tail.offset, segments(writer.folder.path)[-1]
    writer.folder.close()
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(fmt.ROW_LEAD.pack(72, 1) + b"\x07" * 40)
    extent = extent_of(open_journal(writer.folder.path))
    assert (extent.rows, extent.points) == (3000, 6000)


def test_rows_are_shown(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Head, tail and all, by kind, for people and as JSON; a journal is named by its folder, its writer, or its run."""
    writer = filled(root)
    head = lines(said(capsys, "show", RUN_ID[:13], "--json", "--head", "3"))
    assert [(one["kind"], one["seq"]) for one in head] == [("run", 0), ("param", 1), ("metrics", 2)]
    assert head[2]["values"] == {"loss": 0.0, "special": "NaN", "layer-0": 1.0}
    tail = lines(said(capsys, "show", str(writer.identity.writer), "--json", "--tail", "2", "--kind", "metrics"))
    assert [one["seq"] for one in tail] == [2001, 2002]
    assert tail[1] == {"kind": "metrics", "seq": 2002, "time": 1.7e9, "step": 3, "context": "validation", "subject": "model/x/1", "values": {"acc": 1.0}}
    assert len(said(capsys, "show", writer.folder.path, "--all").splitlines()) == 2005
    assert "saved" in said(capsys, "show", writer.folder.path.name, "--kind", "event")
    assert "validation" in said(capsys, "show", writer.folder.path, "--tail", "3")


def test_what_is_not_there_is_one_sentence(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A name that means no journal, and one that means several where one is needed, are refused with exit code 2."""
    filled(root, 5)
    filled(root, 5)
    for arguments in (["show", "nothing"], ["show", RUN_ID], ["export", RUN_ID, "--format", "avro"]):
        assert cli.main(["journal", *arguments]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_a_whole_journal_verifies(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is wrong with journals that ended, live, or died in the middle of a row; the last is said."""
    live = make_writer(root / "offline")
    live.log({"a": 1.0})
    filled(root)
    crashed = filled(root, 10, end="")
    with segments(crashed.folder.path)[-1].open("r+b") as file:
        file.seek(crashed.tail.offset)
        file.write(fmt.ROW_LEAD.pack(72, 1) + b"\x07" * 40)
    # The lock of a writer of this process would be given up by looking at it from here.
    told = subprocess.run([sys.executable, "-m", "runstream.cli", "journal", "verify"], capture_output=True, text=True, timeout=60, check=False)
    assert told.returncode == 0, told.stdout
    assert "2,001 rows, 4 other records, 6,001 points, seqs 0 to 2005" in told.stdout
    assert "80 bytes of a row that its writer did not finish are left out" in told.stdout
    assert "(running): 1 rows" in told.stdout
    assert "3 journals, 0 with something wrong" in told.stdout
    live.close("finished", "")


def test_a_journal_in_use_verifies_at_any_moment(tmp_path: Path) -> None:
    """Reading while the writer writes as fast as it can, and after it was killed in the middle, finds nothing wrong."""
    counts = tmp_path / "counts"
    counts.write_bytes(bytes(16))
    with subprocess.Popen([sys.executable, "-m", "tests.producers.logging_child", str(tmp_path), str(counts), "3"]) as child:
        wait_for(lambda: bool(struct.unpack("<Q", counts.read_bytes()[:8])[0]), 20, "the writer")
        [folder] = tmp_path.glob("w-*")
        checks = 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            report = verify(open_journal(folder))
            assert report.ok, report.findings
            checks += 1
        child.kill()
    assert checks > 3
    assert verify(open_journal(folder)).ok
    assert extent_of(open_journal(folder)).rows >= struct.unpack("<Q", counts.read_bytes()[:8])[0]


def test_drops_that_were_counted_are_no_fault(root: Path) -> None:
    """Rows that found no room leave gaps in the seqs; the counts say why, and the journal is whole for all that."""
    writer = make_writer(root, bytes_max=1 << 20)
    for number in range(5000):
        writer.log({f"name-{one}": 1.0 for one in range(50)}, step=number)
    writer.log({"a": None})
    writer.close("finished", "")
    report = checked(writer)
    assert writer.dropped["journal_full"] > 0
    assert report.ok
    assert report.dropped == writer.dropped
    assert sum(until - first for first, until in report.missing) == 5000 - report.rows


def damaged(writer: JournalWriter, number: int, offset: int) -> None:
    """Flips bits of a byte of a segment."""
    path = segments(writer.folder.path)[number]
    with path.open("r+b") as file:
        file.seek(offset)
        [byte] = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ 0x55]))


@pytest.mark.parametrize("number", [0, 1, -1])
def test_a_flipped_byte_is_found(root: Path, capsys: pytest.CaptureFixture[str], number: int) -> None:
    """Damage in the middle of a segment is told with its place and with how many rows it costs; readers go on behind it, and export has the rest."""
    writer = filled(root)
    before = sum(row.kind not in (fmt.Kind.KEY_SET, fmt.Kind.DROP) for row in raw_rows(writer.folder.path, writer.identity.writer))
    damaged(writer, number, fmt.HEADER_BYTES + 2000)
    out = said(capsys, "verify", code=1)
    assert "checksum does not fit" in out
    assert "1 with something wrong" in out
    report = checked(writer)
    assert before - report.rows - report.records > 0
    # Behind damage in the last segment the end alone tells what is missing.
    assert sum(until - first for first, until in report.missing) == before - report.rows - report.records
    assert len(said(capsys, "show", writer.folder.path, "--all").splitlines()) == report.rows + report.records


def test_lost_segments_and_headers_are_found(root: Path) -> None:
    """A segment that is gone though not acknowledged, and a header that does not fit, are wrong."""
    lost, headless = filled(root), filled(root)
    segments(lost.folder.path)[1].unlink()
    damaged(headless, 1, 20)
    assert next(one.text for one in checked(lost).findings if one.wrong).startswith("segments 2 to 2 are missing")
    assert "header does not fit" in next(one.text for one in checked(headless).findings if one.wrong)
    first = filled(root)
    segments(first.folder.path)[0].unlink()
    assert not checked(first).ok


def test_acknowledged_segments_are_not_missed(root: Path) -> None:
    """What was shipped and removed is no fault."""
    writer = filled(root)
    second = fmt.Position(2, fmt.HEADER_BYTES)
    *_, first_seq, points = fmt.SEGMENT_HEADER.unpack_from(segments(writer.folder.path)[1].read_bytes())
    ack = fmt.Ack(1, first_seq, second, first_seq, points)
    with (writer.folder.path / "ack").open("r+b") as file:
        file.seek(fmt.ACK_SLOT_BYTES)
        file.write(ack.pack())
    segments(writer.folder.path)[0].unlink()
    report = checked(writer)
    assert (report.ok, report.first_seq, report.next_seq) == (True, first_seq, 2005)
    extent = extent_of(open_journal(writer.folder.path))
    assert (extent.rows, extent.rows_waiting) == (2005, 2005 - first_seq)


def test_a_row_with_other_counts_is_found(root: Path) -> None:
    """A row whose own count of points does not follow from the one before is wrong though its checksum fits."""
    import zlib

    writer = make_writer(root)
    for _ in range(3):
        writer.log({"a": 1.0})
    writer.close("finished", "")
    path = segments(writer.folder.path)[0]
    data = bytearray(path.read_bytes())
    offset = fmt.HEADER_BYTES
    for _ in range(2):
        offset += fmt.LEAD_BYTES + fmt.ROW_LEAD.unpack_from(data, offset)[0]
    length, _ = fmt.ROW_LEAD.unpack_from(data, offset)
    body = offset + fmt.LEAD_BYTES
    kind, seq, step, points, time_s = fmt.ROW_HEAD.unpack_from(data, body)
    fmt.ROW_HEAD.pack_into(data, body, kind, seq, step, points + 7, time_s)
    fmt.ROW_LEAD.pack_into(data, offset, length, zlib.crc32(data[body : body + length]))
    path.write_bytes(data)
    assert [one.wrong for one in checked(writer).findings] == [True, True]
    assert "the writer counted" in checked(writer).findings[0].text


def test_any_bytes_are_judged_without_a_crash(root: Path) -> None:
    """Whatever stands in segments, ack and end, verify and extent give an answer."""
    import random

    source = random.Random(4)
    for _ in range(60):
        writer = filled(root, 200)
        for path in (*segments(writer.folder.path), writer.folder.path / "ack", writer.folder.path / "end.json"):
            data = bytearray(path.read_bytes())
            for _ in range(source.randrange(4)):
                start = source.randrange(len(data))
                data[start : start + source.randrange(64)] = source.randbytes(source.randrange(64))
            path.write_bytes(data[: source.randrange(len(data))] if source.random() < 0.3 else data)
        checked(writer)
        extent_of(open_journal(writer.folder.path))


def test_avro_is_read_by_other_tools(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """fastavro reads the container files: frames with every point and every seq, the other records, and the writers' states."""
    writer = filled(root)
    out = said(capsys, "export", RUN_ID, "--format", "avro", "--out", tmp_path / "out")
    found: dict[str, list[Any]] = {}
    for path in (tmp_path / "out").iterdir():
        with path.open("rb") as file:
            found[path.name] = list(fastavro.reader(file))
        assert f"{path}: {len(found[path.name])} records" in out
    assert {name: len(records) for name, records in found.items() if name != "metric.avro"} == {
        "run.avro": 1,
        "param.avro": 1,
        "event.avro": 1,
        "rule.avro": 1,
        "writer.avro": 1,
    }
    frames = [frame.from_datum(one) for one in found["metric.avro"]]
    assert check_account(frames, until=2005) == 0
    ledger = ledger_of(frames)
    assert len(ledger) == 2001
    assert ("", "", "special", 0, struct.pack("<d", math.nan)) in ledger[2]
    [state] = found["writer.avro"]
    assert (state["writer"], state["state"], state["rows_logged"], state["points_logged"]) == (writer.identity.writer, "finished", 2005, 6001)
    assert found["rule.avro"][0]["ordinal"] == 1
    assert cli.main(["journal", "export", RUN_ID, "--format", "avro", "--out", str(tmp_path / "out")]) == 2
    assert "is there already" in capsys.readouterr().err


def test_json_lines_are_strict_json(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each row is one line with its run, writer, rank and seq; NaN and infinities stand as texts, so that any JSON reader takes them."""
    writer = filled(root, 30)
    text = said(capsys, "export", writer.folder.path)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    rows = [json.loads(line, parse_constant=refuse) for line in text.splitlines()]
    assert [one["seq"] for one in rows] == list(range(35))
    assert {(one["run_id"], one["writer"], one["rank"]) for one in rows} == {(RUN_ID, writer.identity.writer, 3)}
    assert [one["values"]["special"] for one in rows[2:5]] == ["NaN", "Infinity", "-Infinity"]
    assert rows[-2]["record"]["name"] == "saved"
    said(capsys, "export", writer.folder.path, "--out", tmp_path / "rows.jsonl")
    assert (tmp_path / "rows.jsonl").read_text() == text


def test_parquet_has_a_line_a_point(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pyarrow reads every point with who, when and where, and every other record as JSON."""
    writer = filled(root, 30)
    said(capsys, "export", writer.folder.path, "--format", "parquet", "--out", tmp_path / "out")
    points = pq.read_table(tmp_path / "out" / "points.parquet").to_pylist()
    assert len(points) == 91
    assert {(one["run_id"], one["kind"], one["rank"], one["writer"]) for one in points} == {(RUN_ID, "rank", 3, writer.identity.writer)}
    assert [one["value"] for one in points if one["name"] == "loss"] == [number * 0.5 for number in range(30)]
    last = points[-1]
    assert (last["name"], last["context"], last["subject"], last["step"], last["time"].timestamp()) == ("acc", "validation", "model/x/1", 3, 1.7e9)
    records = pq.read_table(tmp_path / "out" / "records.parquet").to_pylist()
    assert [one["kind"] for one in records] == ["run", "param", "event", "rule"]
    assert json.loads(records[2]["record"])["name"] == "saved"


def test_without_pyarrow_a_sentence_says_so(root: Path, tmp_path: Path) -> None:
    """Where pyarrow is missing, parquet is refused with what to do, and exit code 2."""
    writer = filled(root, 5)
    script = "import sys; sys.modules['pyarrow'] = None; from runstream import cli; sys.exit(cli.main(sys.argv[1:]))"
    argv = [sys.executable, "-c", script, "journal", "export", str(writer.folder.path), "--format", "parquet", "--out", str(tmp_path / "out")]
    told = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (told.returncode, told.stderr.count("\n")) == (2, 1)
    assert "pyarrow" in told.stderr
