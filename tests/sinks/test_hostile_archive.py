"""Files that anybody may have put into an archive's folder: each is refused in one sentence, before anything is made of what it claims."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow ships without type information.)

from __future__ import annotations

import contextlib
import random
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runstream_feed.records import Place
from runstream_sinks import parquet
from runstream_sinks.archive_files import Name, Raw
from runstream_sinks.archive_store import ArchiveError, Store
from runstream_sinks.parquet_pages import BadPage, pages_of

if TYPE_CHECKING:
    from collections.abc import Callable

PLACE = Place("t.metric", 3)
RECORDS = [Raw(offset, 1000 + offset, b"key", bytes([offset]) * 40, (("name", b"value"),) * (offset % 3)) for offset in range(10, 30)]
NAME = Name(PLACE, 0, 10, 29)


def good() -> bytes:
    """A file as the worker writes it."""
    buffer = BytesIO()
    parquet.write(buffer, PLACE, RECORDS)
    return buffer.getvalue()


def made(columns: dict[str, Any], **options: Any) -> bytes:
    """A file of our columns, some of them replaced, with other options of Parquet."""
    table = pq.read_table(BytesIO(good()), schema=parquet.SCHEMA)
    for name, values in columns.items():
        at = parquet.SCHEMA.get_field_index(name)
        table = table.set_column(at, parquet.SCHEMA.field(at), pa.array(values, parquet.SCHEMA.field(at).type))
    buffer = BytesIO()
    plain: dict[str, Any] = {"compression": "zstd", "use_dictionary": ["topic"]}
    pq.write_table(table, buffer, **(plain | options))
    return buffer.getvalue()


def without_schema() -> bytes:
    """A table of somebody else's."""
    buffer = BytesIO()
    pq.write_table(pa.table({"offset": [1, 2], "value": ["a", "b"]}), buffer)
    return buffer.getvalue()


def claiming_footer(nbytes: int) -> bytes:
    """A file whose last bytes say that the footer has so many."""
    return good()[:-8] + nbytes.to_bytes(4, "little") + b"PAR1"


def many_groups() -> bytes:
    """A row group for each record."""
    return made({}, row_group_size=1)


def claiming_page() -> bytes:
    """A page that claims to become 128 MiB; its footer says nothing of it."""
    value = bytes(1 << 20) * 2
    data = made({"value": [value] * 20})
    claim = _zigzag(20 * (4 + len(value)) + 6)
    at = data.index(claim)
    return data[:at] + b"\xfe\xff\xff\x7f"[: len(claim)].ljust(len(claim), b"\x7f") + data[at + len(claim) :]


def _zigzag(number: int) -> bytes:
    out = bytearray()
    number <<= 1
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "expected a Parquet file, .* got 0 bytes"),
    "no Parquet": (lambda: b"not parquet, whatever its name says", "expected a Parquet file"),
    "cut off": (lambda: good()[:-100], "expected a Parquet file"),
    "its end alone": (lambda: b"PAR1" + good()[-200:], "expected a footer"),
    "huge footer": (lambda: claiming_footer(0xFFFFFFFF), "expected a footer of at most 1048576 bytes that lies within the file, got one of 4294967295"),
    "other columns": (without_schema, "expected the columns topic dictionary.*, got offset int64, value string"),
    "other types": (lambda: _retyped(), "expected the columns .*, got .*offset double"),
    "more records than its name": (lambda: made({"offset": range(20)}), "expected offsets that rise from 10 to 29, as its name says, got 0"),
    "offsets that fall": (lambda: made({"offset": [29, *range(10, 29)]}), "got 10 after 29"),
    "dictionary": (lambda: made({"value": [bytes(1 << 20)] * 20}, use_dictionary=["value"]), "expected column value without a dictionary, got one"),
    "shared prefixes": (lambda: made({}, column_encoding={"value": "DELTA_BYTE_ARRAY"}), "expected column value in the encodings .*, got number 7"),
    "pages of another version": (lambda: made({}, data_page_version="2.0"), "expected pages of data of the first version alone, got page type 3"),
    "runs of nulls": (lambda: made({"headers": [[None] * 5000] + [[]] * 19}), "expected 20 to .* headers, got 5019"),
}


def _retyped() -> bytes:
    table = pq.read_table(BytesIO(good()), schema=parquet.SCHEMA)
    at = table.schema.get_field_index("offset")
    buffer = BytesIO()
    pq.write_table(table.set_column(at, "offset", table["offset"].cast(pa.float64())), buffer)
    return buffer.getvalue()


def read(data: bytes, name: Name = NAME) -> list[Raw]:
    """What the reader makes of it."""
    return list(parquet.read(BytesIO(data), name))


def test_files_of_the_worker_are_read() -> None:
    """Nothing of ours is refused."""
    assert read(good()) == RECORDS
    assert read(made({})) == RECORDS


@pytest.mark.parametrize("which", HOSTILE)
def test_what_the_worker_would_not_write_is_refused_in_a_sentence(which: str) -> None:
    """Each says what was expected and what came."""
    make, sentence = HOSTILE[which]
    with pytest.raises(parquet.Refused, match=sentence):
        read(make())


def test_a_name_bounds_what_a_file_holds() -> None:
    """More records than offsets in its name are refused by the footer alone."""
    with pytest.raises(parquet.Refused, match="expected 1 to 5 records, as its name says, got 20"):
        read(good(), Name(PLACE, 0, 10, 14))


@pytest.mark.parametrize(
    ("bound", "value", "make", "sentence"),
    [
        ("FILE_BYTES_MAX", 1000, good, "expected at most 1000 bytes, got more"),
        ("FILE_BYTES_MAX", 30_000, lambda: made({"value": [bytes(5000)] * 20}), "expected records of at most 30000 bytes in all, got pages that become 10"),
        ("PAGE_BYTES_MAX", 64 << 20, claiming_page, "expected pages of at most 67108864 bytes, got one of column value that becomes 134217727"),
        ("FOOTER_BYTES_MAX", 8000, many_groups, "expected a footer of at most 8000 bytes"),
        ("PAGES_MAX", 5, good, "expected at most 0 pages, got more"),
    ],
    ids=["file", "all pages", "a page", "footer", "pages"],
)
def test_each_bound_holds(monkeypatch: pytest.MonkeyPatch, bound: str, value: int, make: Callable[[], bytes], sentence: str) -> None:
    """The bounds are made small here, and bombs would cost as little at their own size."""
    data = make()
    monkeypatch.setattr(parquet, bound, value)
    with pytest.raises(parquet.Refused, match=sentence):
        read(data)


def test_a_store_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    """A replay stops with its path; whoever moves it away can replay the others."""
    store = Store(str(tmp_path))
    store.begin()
    path = tmp_path / NAME.path
    path.parent.mkdir(parents=True)
    path.write_bytes(without_schema())
    with pytest.raises(ArchiveError, match=rf"^{NAME.path} is no file of this archive's: expected the columns .*; move it elsewhere to replay the others$"):
        list(store.read(NAME))


def test_pages_that_are_none_are_refused() -> None:
    """Whatever bytes stand where pages should be, they are pages to the last byte or none."""
    chance = random.Random(1)
    for _ in range(300):
        data = chance.randbytes(chance.randrange(1, 60))
        try:
            assert all(page.nbytes >= 0 for page in pages_of(memoryview(data), pages_max=10))
        except BadPage:
            pass


def test_a_file_with_any_byte_changed_is_read_or_refused(tmp_path: Path) -> None:
    """Nothing but the archive's own error comes of it, and never more records than its name allows."""
    store = Store(str(tmp_path))
    store.begin()
    path = tmp_path / NAME.path
    path.parent.mkdir(parents=True)
    chance = random.Random(7)
    whole = good()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        found: list[Raw] = []
        with contextlib.suppress(ArchiveError):
            found.extend(store.read(NAME))
        assert len(found) <= len(RECORDS)
