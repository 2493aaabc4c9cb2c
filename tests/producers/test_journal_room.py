"""Journals without room: one warning, drops that are counted with their seqs, and rows that go on once there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream_producers.errors import JournalError
from runstream_producers.journal import segments as allocating
from runstream_producers.journal import writer as writing
from tests.producers.journals import Reports, dropped_as_told, make_writer, read_writer, segments


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is looked for again at once."""
    monkeypatch.setattr(writing, "RETRY_S", 0.0)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=False, capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a file system; the limit of bytes is tested without one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(writer: writing.JournalWriter, rows: int) -> None:
    """Logs rows of 50 values, each of which is its step."""
    for _ in range(rows):
        writer.log({f"name-{one}": float(writer.seq) for one in range(50)}, step=writer.seq)


def check_gap(writer: writing.JournalWriter, total: int) -> int:
    """Checks that what is read is what was logged but for the seqs that were dropped; returns how many were."""
    rows = read_writer(writer)
    assert all(row.step == row.seq for row in rows)
    assert writer.seq == total
    missing = total - len(rows)
    assert writer.dropped == {"journal_full": 50 * missing}
    assert writer.points == 50 * len(rows)
    return missing


def test_a_full_file_system_costs_counted_rows(small_disk: Path) -> None:
    """On a full file system logging goes on without a crash, tells it once, and rows are written again once something was removed."""
    reports = Reports()
    writer = make_writer(small_disk / "journals", segment_bytes=1 << 18, report=reports)
    fill(writer, 5000)
    assert reports.keys == {"full"}
    assert "no room" in reports.told[0][1]
    dropped = check_gap(writer, 5000)
    assert dropped > 1000
    before = len(segments(writer.folder.path))
    kept = [row.seq for row in read_writer(writer)]
    segments(writer.folder.path)[0].unlink()
    fill(writer, 100)
    assert len(segments(writer.folder.path)) == before
    assert [row.seq for row in read_writer(writer)][-100:] == list(range(5000, 5100))
    assert len(kept) == 5000 - dropped
    assert dropped_as_told(writer.folder.path, writer.identity.writer) == {"journal_full": 50 * dropped}
    writer.close("finished", "")


def test_a_disk_that_is_full_from_the_beginning_is_refused(small_disk: Path) -> None:
    """Where not even the folder can be made, OSError is raised and nothing is left of it."""
    (small_disk / "journals").mkdir()
    with pytest.raises(OSError), (small_disk / "ballast").open("wb") as ballast:  # noqa: PT012 - the file is there while the journal is tried
        ballast.write(bytes(1 << 20))
        ballast.flush()
        make_writer(small_disk / "journals")
    (small_disk / "ballast").unlink(missing_ok=True)
    assert list((small_disk / "journals").iterdir()) == []


def test_the_first_segment_may_come_later(small_disk: Path) -> None:
    """A file system with room for the folder and none for a segment drops and counts; the first segment comes once there is room."""
    reports = Reports()
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((1 << 20) - (48 << 10)))
    writer = make_writer(small_disk / "journals", report=reports)
    fill(writer, 10)
    assert reports.keys == {"full"}
    assert segments(writer.folder.path) == []
    ballast.unlink()
    fill(writer, 10)
    assert check_gap(writer, 20) == 10


def test_the_limit_of_bytes_holds_until_segments_go(tmp_path: Path) -> None:
    """At `journal_bytes_max` rows are dropped, counted and told once; as shipped segments are removed, rows go on, again and again."""
    reports = Reports()
    writer = make_writer(tmp_path, segment_bytes=1 << 20, bytes_max=1 << 20, report=reports)
    total = 0
    for _ in range(4):
        fill(writer, 4000)
        total += 4000
        assert sum(path.stat().st_size for path in segments(writer.folder.path)) <= 1 << 20
        assert reports.keys == {"full"}
        held = [row.seq for row in read_writer(writer)]
        assert 1000 < len(held) < 3500
        assert writer.seq == total
        for path in segments(writer.folder.path)[:-1]:
            path.unlink()
    fill(writer, 1)
    assert read_writer(writer)[-1].seq == total
    assert dropped_as_told(writer.folder.path, writer.identity.writer) == writer.dropped


def test_drops_are_written_down_when_asked(tmp_path: Path) -> None:
    """`flush_drops` brings counts of refused values into the journal though no row comes after them."""
    writer = make_writer(tmp_path)
    writer.log({"a": "text", "b": None})
    assert dropped_as_told(writer.folder.path, writer.identity.writer) == {}
    writer.flush_drops()
    writer.flush_drops()
    assert dropped_as_told(writer.folder.path, writer.identity.writer) == {"bad_value": 2}


def test_segments_that_vanish_while_they_are_counted_do_no_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent removes segments at any moment: one that goes between its listing and its look costs no row."""
    reports = Reports()
    writer = make_writer(tmp_path, report=reports)
    real = os.scandir

    def listing_first(path: Path) -> Iterator[os.DirEntry[str]]:
        entries = list(real(path))
        for one in sorted(entry.path for entry in entries if entry.name.endswith(".seg"))[:-1]:
            Path(one).unlink()
        return _Entries(entries)

    monkeypatch.setattr(os, "scandir", listing_first)
    fill(writer, 5000)
    assert reports.told == []
    assert writer.dropped == {}


class _Entries(Iterator["os.DirEntry[str]"]):
    """A listing as `os.scandir` gives it, iterator and context at once."""

    def __init__(self, entries: list[os.DirEntry[str]]) -> None:
        self._entries = iter(entries)

    def __next__(self) -> os.DirEntry[str]:
        return next(self._entries)

    def __enter__(self) -> _Entries:
        return self

    def __exit__(self, *_: object) -> None:
        pass


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    """Journals are not written where another user could read or replace them."""
    if os.geteuid():
        pytest.skip("only root can give a folder away")
    os.chown(tmp_path, 12345, -1)
    with pytest.raises(JournalError, match="belongs to user 12345"):
        make_writer(tmp_path)


def test_the_next_segment_is_allocated_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a segment is half full `flush_drops` allocates the next, so that the call that needs it does not; what is not used goes at the end."""
    allocated: list[str] = []
    real = allocating.allocate

    def allocate(path: Path, size: int) -> None:
        allocated.append(path.name)
        real(path, size)

    monkeypatch.setattr(allocating, "allocate", allocate)
    writer = make_writer(tmp_path, segment_bytes=1 << 16)
    for _ in range(1000):
        fill(writer, 10)
        writer.flush_drops()
    names = [path.name.replace(".seg", "") for path in segments(writer.folder.path)]
    assert len(names) > 50
    assert allocated[2:] == [f"{name}.spare" for name in names[1:]] + ([f"{len(names) + 1:08d}.spare"] if len(allocated) > len(names) + 1 else [])
    assert [row.seq for row in read_writer(writer)] == list(range(10_000))
    writer.log({f"{one}": 1.0 for one in range(20_000)})  # A row that needs a larger one takes no spare.
    assert len(read_writer(writer)) == 10_001
    writer.close("finished", "")
    assert not list(writer.folder.path.glob("*.spare"))
