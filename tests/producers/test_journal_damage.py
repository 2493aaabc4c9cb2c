"""Damaged segments: a reader never crashes, never yields what was not written, and stops where it must."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Reader, row_at
from tests.producers.journals import START, Logged, make_writer, raw_rows, read_back, segments

ROWS = 4000


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int, dict[int, Logged]]:
    """The folder of a journal of several segments, its writer, and its rows by seq."""
    writer = make_writer(tmp_path_factory.mktemp("journal"))
    for number in range(ROWS):
        writer.log({f"name-{number % 5}": number * 0.5, "b": float(number)}, step=number)
    writer.close("finished", "")
    folder, who = writer.folder.path, writer.identity.writer
    assert len(segments(folder)) > 3
    return folder, who, {row.seq: row for row in read_back(folder, who)}


def damaged(journal: tuple[Path, int, dict[int, Logged]], target: Path) -> Path:
    """A copy of the journal that may be damaged."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(journal[0], target)
    return target


def seqs_read(folder: Path, writer: int, known: dict[int, Logged]) -> list[int]:
    """The seqs of the rows that are read, each of which must be a row that was written."""
    payloads = {seq: b"".join(row.values.values()) for seq, row in known.items()}
    seqs: list[int] = []
    for row in raw_rows(folder, writer):
        if row.kind == fmt.Kind.METRICS:
            assert payloads[row.seq] == row.payload
            assert (row.step, row.points) == (known[row.seq].step, 2 * (row.seq + 1))
            seqs.append(row.seq)
    assert seqs == sorted(set(seqs))
    return seqs


@pytest.mark.parametrize("seed", range(40))
def test_corrupted_bytes_invent_nothing(journal: tuple[Path, int, dict[int, Logged]], tmp_path: Path, seed: int) -> None:
    """Random bytes in random places cost rows from there to the end of the segment, and no others: the next segment is read again."""
    folder = damaged(journal, tmp_path / "j")
    draw = random.Random(seed)
    _, writer, known = journal
    paths = segments(folder)
    number = draw.randrange(len(paths) - 1)
    data = bytearray(paths[number].read_bytes())
    at = draw.randrange(len(data))
    for place in range(at, min(len(data), at + draw.choice((1, 8, 500)))):
        data[place] ^= draw.randrange(1, 256)
    paths[number].write_bytes(data)
    seqs = seqs_read(folder, writer, known)
    first_seqs = [fmt.SEGMENT_HEADER.unpack_from(path.read_bytes())[4] for path in segments(journal[0])] + [ROWS]
    for other in range(len(paths)):
        if other != number:
            assert set(range(first_seqs[other], first_seqs[other + 1])) <= set(seqs)
    damaged_rows = [seq for seq in seqs if first_seqs[number] <= seq < first_seqs[number + 1]]
    assert damaged_rows == list(range(first_seqs[number], first_seqs[number] + len(damaged_rows)))


@pytest.mark.parametrize("seed", range(30))
def test_truncated_segments_end_the_reading(journal: tuple[Path, int, dict[int, Logged]], tmp_path: Path, seed: int) -> None:
    """A last segment cut anywhere, its header included, yields a prefix."""
    folder = damaged(journal, tmp_path / "j")
    draw = random.Random(seed)
    _, writer, known = journal
    last = segments(folder)[-1]
    size = draw.choice((0, draw.randrange(fmt.HEADER_BYTES), draw.randrange(last.stat().st_size), draw.randrange(4096)))
    last.write_bytes(last.read_bytes()[:size])
    seqs = seqs_read(folder, writer, known)
    assert seqs == list(range(len(seqs)))


def test_a_missing_segment_costs_its_rows_alone(journal: tuple[Path, int, dict[int, Logged]], tmp_path: Path) -> None:
    """What stands before and after a segment that is gone is read."""
    folder = damaged(journal, tmp_path / "j")
    _, writer, known = journal
    paths = segments(folder)
    lost = paths[1].read_bytes()
    paths[1].unlink()
    first, after = fmt.SEGMENT_HEADER.unpack_from(lost)[4], fmt.SEGMENT_HEADER.unpack_from(paths[2].read_bytes())[4]
    assert seqs_read(folder, writer, known) == [*range(first), *range(after, ROWS)]


def test_an_unfinished_row_is_not_read_until_it_is_whole(journal: tuple[Path, int, dict[int, Logged]], tmp_path: Path) -> None:
    """With any part of its bytes missing a row is not there, and its bytes count as torn; once they all are, it is."""
    folder = damaged(journal, tmp_path / "j")
    _, writer, _ = journal
    whole = bytes(segments(folder)[0].read_bytes())
    offset = fmt.HEADER_BYTES
    for _ in range(30):
        found = row_at(bytearray(whole), offset, len(whole))
        assert found is not None
        offset = found[1]
    row = row_at(bytearray(whole), offset, len(whole))
    assert row is not None
    size = row[1] - offset
    for path in segments(folder)[1:]:
        path.unlink()
    for kept in range(size):
        segments(folder)[0].write_bytes(whole[: offset + kept] + bytes(len(whole) - offset - kept))
        reader = Reader(folder, writer, START)
        list(reader.rows(1 << 20))
        reached = reader.position.offset
        if reached != offset:
            assert reached == row[1]  # The bytes that are missing happen to be zeros.
            assert not any(whole[offset + kept : row[1]])
        else:
            # All of the length's bytes must be there before it says how much is torn.
            assert reader.torn_bytes() <= size
            assert (reader.torn_bytes() > 0) == any(whole[offset : offset + min(kept, 4)])
        reader.close()


def test_noise_is_no_row() -> None:
    """Random bytes are read as no row at any offset, whatever length they claim."""
    draw = random.Random(5)
    for _ in range(200):
        data = bytearray(draw.randbytes(256))
        for offset in range(0, 256, 8):
            fmt.ROW_LEAD.pack_into(data, 0, draw.choice((0, 1, 40, 200, 1 << 31, (1 << 32) - 1)), draw.getrandbits(32))
            assert row_at(data, offset, len(data)) is None
