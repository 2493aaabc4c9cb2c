"""Files of the archive without Kafka: what goes into them, what they are called, how they are written and read, and that a death at any moment neither loses nor doubles a record."""

from __future__ import annotations

import random
from io import BytesIO
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_feed.records import Place
from runstream_schemas.settings import SettingsError
from runstream_sinks import parquet
from runstream_sinks.archive_files import DAY_MS, Cutter, File, Name, Raw, holes, in_order, parse_name
from runstream_sinks.archive_kafka import note_of, parse_note
from runstream_sinks.archive_reader import Progress, wanted_files, within
from runstream_sinks.archive_store import MARK, ArchiveError, Store
from runstream_sinks.spans import BEGINNING, END, At, Offset

if TYPE_CHECKING:
    from pathlib import Path

PLACE = Place("t.metric", 3)
OTHER = Place("t.event", 0)


def raw(offset: int, *, day: int = 0, nbytes: int = 0) -> Raw:
    """A record of a day."""
    return Raw(offset, day * DAY_MS + offset, b"k", b"x" * nbytes)


def offsets(file: File) -> list[int]:
    """The offsets in a file."""
    return [one.offset for one in file.records]


def cutter(*, bytes_max: int = 10**9, age_s: float = 10.0, start: int = 0, intent: Name | None = None) -> Cutter:
    """A cutter that owns the place."""
    made = Cutter(bytes_max=bytes_max, age_s=age_s)
    made.begin(PLACE, start, intent)
    return made


# ---- names -----------------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 99_999), st.integers(0, 100_000), st.integers(0, 10**18), st.integers(0, 10**18))
def test_a_name_says_what_a_file_holds(partition: int, day: int, first: int, more: int) -> None:
    """And sorts as its offsets do; beside an offset in Kafka it says the same."""
    name = Name(Place("t.metric", partition), day, first, first + more)
    assert parse_name(name.path) == name
    assert parse_note(name.place, note_of(name)) == name


def test_other_files_are_none_of_the_archive() -> None:
    """Files under way, marks, and what people put there."""
    path = Name(PLACE, 20_000, 1, 2).path
    assert path == "t.metric/day=2024-10-04/00003-00000000000000000001-00000000000000000002.parquet"
    for other in (f"{path}.ab12.tmp", f"x/{path}", path.replace("2024-10", "2024-13"), MARK, "t.metric/day=2024-10-04/notes.parquet", ""):
        assert parse_name(other) is None
    assert parse_note(PLACE, "") is None
    assert parse_note(PLACE, '{"end": 3}') is None


# ---- cutting ---------------------------------------------------------------------------------------------------------------------------


def test_a_file_ends_by_bytes_by_age_and_by_day() -> None:
    """Whatever comes first; late records stay where their offset belongs."""
    one = cutter(bytes_max=1000)
    assert one.take(PLACE, raw(0), 0.0) == []
    [file] = one.take(PLACE, raw(1, nbytes=1000), 0.0)
    assert (file.name, offsets(file)) == (Name(PLACE, 0, 0, 1), [0, 1])
    assert one.take(PLACE, raw(2, day=5), 0.0) == []
    assert one.take(PLACE, raw(3, day=4), 0.0) == []
    [file] = one.take(PLACE, raw(4, day=6), 0.0)
    assert (file.name, offsets(file)) == (Name(PLACE, 5, 2, 3), [2, 3])
    assert one.due(9.9) == []
    [file] = one.due(10.0)
    assert (file.name, offsets(file)) == (Name(PLACE, 6, 4, 4), [4])
    assert one.nbytes == 0
    assert one.due(1e9) == []


def test_what_is_archived_is_not_taken_again() -> None:
    """An offset that was committed late, or not at all, is no reason to double records."""
    one = cutter(start=5)
    for offset in range(8):
        one.take(PLACE, raw(offset), 0.0)
    assert [offsets(file) for file in one.due(0.0, everything=True)] == [[5, 6, 7]]
    one.take(PLACE, raw(7), 0.0)
    assert one.due(0.0, everything=True) == []


def test_a_file_that_was_begun_is_made_again_as_it_was() -> None:
    """Whatever the limits are by now, and whatever was compacted away meanwhile; the next one is cut as ever."""
    intent = Name(PLACE, 7, 10, 14)
    one = cutter(bytes_max=1, start=10, intent=intent)
    for offset in (10, 12):
        assert one.take(PLACE, raw(offset, day=offset), 0.0) == []
    assert one.due(1e9) == one.due(1e9, everything=True) == []
    [file] = one.take(PLACE, raw(14, day=1), 0.0)
    assert (file.name, offsets(file)) == (intent, [10, 12, 14])
    one = cutter(start=10, intent=intent)
    one.take(PLACE, raw(11), 0.0)
    [file] = one.take(PLACE, raw(20), 0.0)
    assert (file.name, offsets(file)) == (intent, [11])
    one = cutter(start=10, intent=intent)
    one.take(PLACE, raw(20), 0.0)
    [file] = one.due(0.0, everything=True)
    assert (file.name, offsets(file)) == (Name(PLACE, 0, 20, 20), [20])


def test_a_partition_that_has_gone_leaves_nothing() -> None:
    """Its next owner reads all of it again."""
    one = cutter(intent=Name(PLACE, 0, 0, 9))
    one.take(PLACE, raw(0), 0.0)
    one.drop({PLACE, OTHER})
    one.begin(PLACE, 0, None)
    one.take(PLACE, raw(0), 0.0)
    assert [offsets(file) for file in one.due(0.0, everything=True)] == [[0]]


class Death(Exception):
    """The worker is killed."""


@pytest.mark.parametrize("seed", range(30))
def test_a_death_at_any_moment_loses_and_doubles_nothing(seed: int) -> None:
    """Owners come and go with other limits, die between any two steps, and finish late what the next one has begun: every record is in exactly one file."""
    random_ = random.Random(seed)
    records = [raw(offset, day=offset // 17, nbytes=random_.randrange(50)) for offset in range(120) if random_.random() < 0.9]
    files: dict[str, list[int]] = {}
    committed, note = 0, ""
    # Files that an owner was about to write when it froze; thawed at any moment later, it writes them, since nobody stops it between the commit and the writing.
    begun: list[File] = []
    frozen: list[File] = []

    def maybe_die() -> None:
        if frozen and random_.random() < 0.1:
            thaw()
        if random_.random() < 0.15:
            raise Death

    def thaw() -> None:
        while frozen:
            file = frozen.pop()
            files[file.name.path] = offsets(file)

    def own() -> None:
        nonlocal committed, note
        intent = parse_note(PLACE, note)
        there = intent is not None and intent.path in files
        one = cutter(bytes_max=random_.choice((100, 1000, 5000)), age_s=random_.choice((1, 3, 1000)))
        one.begin(PLACE, intent.last + 1 if intent is not None and there else committed, None if there else intent)
        for now, record in enumerate(some for some in records if some.offset >= committed):
            maybe_die()
            for file in [*one.take(PLACE, record, now), *one.due(now), *(one.due(now, everything=True) if record is records[-1] else ())]:
                maybe_die()
                committed, note = file.name.first, note_of(file.name)
                begun.append(file)
                maybe_die()
                files[file.name.path] = offsets(file)
                begun.remove(file)
                maybe_die()
                committed, note = file.name.last + 1, ""

    for _ in range(200):
        try:
            own()
            break
        except Death:
            frozen += begun if random_.random() < 0.5 else []
            begun.clear()
    else:
        pytest.fail("it never came to its end")
    thaw()
    assert sorted(offset for some in files.values() for offset in some) == [one.offset for one in records]
    names = [name for name in map(parse_name, files) if name is not None]
    assert sum(len(some) for some in in_order(names).values()) == len(files)


# ---- reading ---------------------------------------------------------------------------------------------------------------------------


def test_files_are_read_in_order_and_overlaps_once() -> None:
    """What lies within another file adds nothing."""
    names = [Name(PLACE, 1, 10, 19), Name(PLACE, 0, 0, 9), Name(OTHER, 0, 5, 6), Name(PLACE, 1, 10, 12), Name(PLACE, 1, 15, 25), Name(PLACE, 1, 20, 25)]
    assert in_order(names) == {OTHER: [Name(OTHER, 0, 5, 6)], PLACE: [Name(PLACE, 0, 0, 9), Name(PLACE, 1, 10, 19), Name(PLACE, 1, 15, 25)]}
    assert holes(name for name in names if name.place == PLACE) == []
    assert holes([Name(PLACE, 0, 0, 9), Name(PLACE, 0, 12, 12), Name(PLACE, 0, 13, 20), Name(PLACE, 0, 30, 30)]) == [(10, 11), (21, 29)]


def test_only_files_within_the_bounds_are_opened() -> None:
    """By day and by offset; where a replay goes on, only what is left."""
    names = [Name(PLACE, day, 10 * day, 10 * day + 9) for day in range(5)]
    assert wanted_files(names, BEGINNING, None, {}) == {PLACE: names}
    assert wanted_files(names, At(2 * DAY_MS), None, {}) == {PLACE: names[2:]}
    assert wanted_files(names, Offset(25), Offset(30), {}) == {PLACE: names[2:3]}
    assert wanted_files(names, BEGINNING, None, {PLACE: 30}) == {PLACE: names[3:]}
    assert wanted_files(names, At(9 * DAY_MS), None, {}) == {}
    # A file that began with a late record lies among the others.
    late = [*names[:3], Name(PLACE, 0, 30, 39), Name(PLACE, 4, 40, 49)]
    assert wanted_files(late, At(2 * DAY_MS), None, {}) == {PLACE: late[2:]}
    assert wanted_files(late, At(2 * DAY_MS), None, {PLACE: 30}) == {PLACE: late[3:]}


def test_bounds_mean_what_they_mean_in_kafka() -> None:
    """From the first record that is as young as a time, up to the first that is as young as another, late ones between them included."""
    records = [Raw(offset, time_ms, None, None) for offset, time_ms in enumerate((10, 20, 5, 30, 20, 40))]
    for since, until, found in (
        (BEGINNING, None, [0, 1, 2, 3, 4, 5]),
        (BEGINNING, END, [0, 1, 2, 3, 4, 5]),
        (END, None, []),
        (At(20), None, [1, 2, 3, 4, 5]),
        (At(20), At(30), [1, 2]),
        (Offset(2), Offset(4), [2, 3]),
        (At(41), None, []),
    ):
        assert [one.offset for one in within(records, since, until)] == found


def test_progress_survives_and_a_broken_file_begins_anew(tmp_path: Path) -> None:
    """It is whole whenever the process is killed."""
    path = tmp_path / "folder" / "progress.json"
    one = Progress(path)
    assert not one.resumed
    one.keep({PLACE: 5})
    one.keep({OTHER: 7, PLACE: 6})
    again = Progress(path)
    assert (again.resumed, again.next) == (True, {PLACE: 6, OTHER: 7})
    path.write_text("{")
    assert not Progress(path).resumed
    again.forget()
    again.forget()
    assert list(path.parent.iterdir()) == []


# ---- Parquet and storage ---------------------------------------------------------------------------------------------------------------

raws = st.builds(
    Raw,
    st.integers(0, 2**62),
    st.integers(0, 2**52),
    st.none() | st.binary(max_size=20),
    st.none() | st.binary(max_size=50),
    st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3).map(tuple),
)


@given(st.lists(raws, min_size=1, max_size=20))
def test_records_come_back_from_parquet_as_they_were(records: list[Raw]) -> None:
    """Missing, empty and odd keys, values and headers included."""
    records = [one._replace(offset=offset) for offset, one in enumerate(records)]
    buffer = BytesIO()
    parquet.write(buffer, PLACE, records)
    assert list(parquet.read(BytesIO(buffer.getvalue()), Name(PLACE, 0, 0, len(records) - 1))) == records


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_store_has_files_whole_or_not_at_all(kind: str, tmp_path: Path) -> None:
    """A file written again replaces itself; what a killed writer left of it goes."""
    store = Store(str(tmp_path / "archive") if kind == "local" else f"memory://{tmp_path.name}")
    with pytest.raises(ArchiveError, match="there is no archive"):
        store.check()
    store.begin()
    store.begin()
    store.check()
    assert list(store.names(["t.metric"])) == []
    files = [File(Name(PLACE, day, 10 * day, 10 * day + 1), [raw(10 * day), raw(10 * day + 1)], 0) for day in range(3)]
    for file in files:
        assert not store.has(file.name)
        store.write(file)
        assert store.has(file.name)
    if kind == "local":
        left = tmp_path / "archive" / f"{files[0].name.path}.0a0b.tmp"
        left.write_bytes(b"half")
        store.write(files[0])
        assert not left.exists()
    assert sorted(store.names(["t.metric", "t.event"]), key=lambda name: name.first) == [file.name for file in files]
    assert all(size > 100 for _, size in store.sizes(["t.metric"]))
    assert list(store.read(files[1].name)) == files[1].records


class Unreachable(Exception):
    """What a storage says when it is away, in a class of its own."""


class Remembering:
    """A file system that remembers what it was asked, as those of object stores do."""

    def __init__(self, real: Any) -> None:
        self.real = real
        self.known: dict[str, Any] = {}

    def exists(self, path: str) -> bool:
        """As it was when it was asked first."""
        return self.known.setdefault(path, self.real.exists(path))

    def find(self, path: str, **options: bool) -> Any:
        """As above."""
        return self.known.setdefault(f"{path}/", self.real.find(path, **options))

    def invalidate_cache(self) -> None:
        """Forgets."""
        self.known.clear()

    def open(self, path: str, mode: str) -> Any:
        """Is away."""
        raise Unreachable(path, mode)


def test_a_store_sees_what_others_wrote_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What looked missing is looked for again: of a file that another worker has written, nothing is written twice. Failures of any class are told as the archive's."""
    url = f"memory://{tmp_path.name}"
    store, other = Store(url), Store(url)
    monkeypatch.setattr(store, "_fs", Remembering(vars(store)["_fs"]))
    file = File(Name(PLACE, 0, 0, 1), [raw(0), raw(1)], 0)
    assert not store.has(file.name)
    assert list(store.names(["t.metric"])) == []
    other.write(file)
    assert store.has(file.name)
    assert list(store.names(["t.metric"])) == [file.name]
    with pytest.raises(ArchiveError, match=r"cannot be read: Unreachable"):
        list(store.read(file.name))


def test_a_store_says_why_it_cannot_be_used(tmp_path: Path) -> None:
    """An address that nothing reaches, a folder that is none, a file that is not Parquet."""
    for url in ("nosuch://bucket", "s3://bucket/folder"):
        with pytest.raises(SettingsError, match="archive_url must be"):
            Store(url)
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="cannot be written to"):
        Store(str(tmp_path / "file")).begin()
    store = Store(str(tmp_path / "archive"))
    store.begin()
    broken = Name(PLACE, 0, 0, 1)
    (tmp_path / "archive" / "t.metric" / "day=1970-01-01").mkdir(parents=True)
    (tmp_path / "archive" / broken.path).write_bytes(b"not parquet")
    with pytest.raises(ArchiveError, match="expected a Parquet file"):
        list(store.read(broken))
