"""Journals without room: one warning, drops that are counted with their seqs, and rows that go on once there is room."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream_producers.errors import JournalError
from runstream_producers.journal import room, tail
from runstream_producers.journal import segments as allocating
from runstream_producers.journal import writer as writing
from runstream_producers.journal.room import Space
from runstream_producers.journal.segments import file_system_of
from tests.producers.journals import Reports, dropped_as_told, identity, make_writer, read_writer, segments


@pytest.fixture(autouse=True)
def quick_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is looked for again at once."""
    monkeypatch.setattr(tail, "RETRY_S", 0.0)


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


def unbounded(_folder: allocating.Folder) -> Space:
    """A file system that says it has no bounds."""
    return Space(0, 0, in_memory=True)


@pytest.mark.parametrize("kept_free", [0.0, room.MEMORY_FREE_SHARE], ids=["to the brim", "by the rule"])
def test_a_full_file_system_costs_counted_rows(small_disk: Path, monkeypatch: pytest.MonkeyPatch, kept_free: float) -> None:
    """On a full file system logging goes on without a crash, tells it once, and rows are written again once something was removed. By the rule one in memory is full at its half;
    the brim is met where others take what was free a moment before.
    """
    if not kept_free:
        monkeypatch.setattr(allocating.Folder, "space", unbounded)
    reports = Reports()
    writer = make_writer(small_disk / "journals", segment_bytes=1 << 18, report=reports)
    fill(writer, 5000)
    assert reports.keys == {"full"}
    assert ("kept free for others" if kept_free else "no room") in reports.told[0][1]
    seen = os.statvfs(small_disk)
    assert seen.f_bavail / seen.f_blocks >= kept_free
    assert seen.f_bavail / seen.f_blocks < kept_free + 0.25
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


def test_a_spare_segment_keeps_to_the_rule_as_well(small_disk: Path) -> None:
    """What is allocated ahead counts as what is used: no segment is made of what must stay free, and one that was made is used."""
    writer = make_writer(small_disk / "journals", report=Reports())
    for _ in range(3000):
        fill(writer, 1)
        writer.flush_drops()
    assert not list(writer.folder.path.glob("*.spare"))
    assert check_gap(writer, 3000) > 1000
    seen = os.statvfs(small_disk)
    assert 0.5 <= seen.f_bavail / seen.f_blocks < 0.65


GIB = 1 << 30


@pytest.mark.parametrize(
    ("space", "bytes_max", "expected"),
    [
        (Space(100 * GIB, 50 * GIB, in_memory=False), None, room.Room(16 << 20, 4 * GIB, 256 << 20)),
        (Space(1 * GIB, 1 * GIB, in_memory=False), None, room.Room(16 << 20, 4 * GIB, GIB // 20)),
        (Space(100 * GIB, 50 * GIB, in_memory=False), 1 << 20, room.Room(1 << 17, 1 << 20, 256 << 20)),
        (Space(16 * GIB, 16 * GIB, in_memory=True), None, room.Room(4 << 20, 256 << 20, 8 * GIB)),
        (Space(16 * GIB, 16 * GIB, in_memory=True), 2 * GIB, room.Room(4 << 20, 2 * GIB, 8 * GIB)),
        (Space(64 << 20, 64 << 20, in_memory=True), None, room.Room(1 << 20, 256 << 20, 32 << 20)),
        (Space(0, 0, in_memory=True), None, room.Room(4 << 20, 256 << 20, 0)),
    ],
    ids=["disk", "small disk", "small budget", "memory", "memory with a budget", "container's /dev/shm", "unbounded memory"],
)
def test_room_by_file_system(space: Space, bytes_max: int | None, expected: room.Room) -> None:
    """Budgets and segments are smaller in memory, and more stays free of it; what the user allows holds."""
    assert room.room_on(space, segment_bytes=16 << 20, bytes_max=bytes_max) == expected


def test_what_room_refuses() -> None:
    """A segment is refused past the budget, except a first one, and where too little would stay free; one that is allocated already only past the budget."""
    one = room.Room(segment_bytes=1 << 20, bytes_max=8 << 20, keep_free=4 << 20)
    wide, narrow = Space(64 << 20, 5 << 20, in_memory=False), Space(64 << 20, (5 << 20) - 1, in_memory=False)
    assert one.refusal(1 << 20, 7 << 20, wide) == ""
    assert "journal_bytes_max" in one.refusal(1 << 20, (7 << 20) + 1, wide)
    assert one.refusal(9 << 20, 0, Space(64 << 20, 64 << 20, in_memory=False)) == ""
    assert "the disk of the journals has 5.0 MiB left, and 4.0 MiB are kept free" in one.refusal(1 << 20, 0, narrow)
    assert one.refusal(1 << 20, 0, None) == ""
    assert one.refusal(1 << 20, 0, Space(0, 0, in_memory=True)) == ""
    assert one.size_for(1 << 10) == 1 << 20
    assert one.size_for(1 << 20) > 1 << 20


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
    writer.log({"a": ["text"], "b": None})
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


def test_a_journal_in_shared_memory_takes_less() -> None:
    """Where the journal lies decides on its budget: below /dev/shm segments are small, and the file system is looked at."""
    if file_system_of(Path("/dev/shm"), Path("/proc/self/mounts").read_text()) != "tmpfs":
        pytest.skip("there is no shared memory here")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        reports = Reports()
        writer = writing.JournalWriter(Path(name) / "journals", identity, segment_bytes=16 << 20, bytes_max=None, report=reports)
        space = writer.folder.space()
        assert space.in_memory
        assert space.free > 0
        fill(writer, 100)
        assert reports.told == []
        assert [path.stat().st_size for path in segments(writer.folder.path)] == [min(room.MEMORY_SEGMENT_BYTES, space.total // 64)]
        writer.close("finished", "")
