"""Raw records as Parquet: the one module that touches pyarrow's Parquet. The columns are described in `docs/replay.md`.

Files are read as if anybody could have put them there. A few kilobytes of Parquet can claim terabytes, by compression, by dictionaries, by runs, by a footer of nothing but row groups; so a
file is read in full as it is stored, which has a bound, and its footer and the headers of its pages are held against what the archive's worker writes before Arrow makes anything of it.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow ships without type information.)

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from runstream_sinks.archive_files import Raw
from runstream_sinks.parquet_pages import DELTA_BINARY_PACKED, PLAIN, BadPage, Page, pages_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_feed.records import Place
    from runstream_sinks.archive_files import Name

# Read at once: so many records, or as many as have so many bytes on average.
BATCH_RECORDS = 500
BATCH_BYTES = 4 << 20
ROW_GROUP_RECORDS = 20_000
_HEADERS = pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))
SCHEMA: Any = pa.schema(
    [
        pa.field("topic", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", _HEADERS, nullable=False),
    ],
    metadata={"runstream.archive": "1"},
)

_OPTIONS: dict[str, Any] = {
    "compression": "zstd",
    # Values are Avro and differ from one another: a dictionary of them would only be given up again.
    "use_dictionary": ["topic"],
    "column_encoding": dict.fromkeys(("partition", "offset", "timestamp"), "DELTA_BINARY_PACKED"),
    "row_group_size": ROW_GROUP_RECORDS,
    "write_statistics": ["partition", "offset", "timestamp"],
}


def write(target: BinaryIO, place: Place, records: Sequence[Raw]) -> None:
    """Writes a file of a partition's records."""
    count = len(records)
    columns = [
        pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([place.topic], pa.string())),
        pa.array([place.partition] * count, pa.int32()),
        pa.array([one.offset for one in records], pa.int64()),
        pa.array([one.time_ms for one in records], SCHEMA.field("timestamp").type),
        pa.array([one.key for one in records], pa.binary()),
        pa.array([one.value for one in records], pa.binary()),
        pa.array([[{"name": name, "value": value} for name, value in one.headers] for one in records], _HEADERS),
    ]
    pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), target, **_OPTIONS)


# The archive's worker begins with a new file once it holds 192 MiB of records, and a poll brings less than as much again.
FILE_BYTES_MAX = 512 << 20
# A page of ours ends at a mebibyte or after 1,024 records; this many bytes of one come to more than a worker holds.
PAGE_BYTES_MAX = 256 << 20
# 512 MiB of records are at most 5 million, 270 row groups, and 1 KiB of footer for each.
FOOTER_BYTES_MAX = 1 << 20
PAGES_MAX = 20_000
_MAGIC = b"PAR1"
_COLUMNS = ("offset", "timestamp", "key", "value", "headers")
_NAMES, _VALUES = "headers.list.element.name", "headers.list.element.value"
_LEAVES = {"offset", "timestamp", "key", "value", _NAMES, _VALUES}
_NUMBERS = {"offset", "timestamp"}
# What a byte array takes at least in a page: its length.
_LENGTH_BYTES = 4


class Refused(Exception):
    """A file is none that the archive's worker writes: the message says what was expected and what came."""


def read(source: BinaryIO, name: Name) -> Iterator[Raw]:
    """The records of a file, some at a time.

    Raises:
        Refused: it is not a file of the archive with that name; this comes before anything is made of what it claims.
    """
    data = source.read(FILE_BYTES_MAX + 1)
    _check_ends(data)
    with pq.ParquetFile(BytesIO(data), pre_buffer=False, thrift_container_size_limit=FOOTER_BYTES_MAX, thrift_string_size_limit=FOOTER_BYTES_MAX) as file:
        _check_rows(file, name)
        nbytes = _check_pages(file.metadata, memoryview(data))
        at_once = max(1, min(BATCH_RECORDS, BATCH_BYTES * file.metadata.num_rows // max(1, nbytes)))
        reached = name.first - 1
        for batch in file.iter_batches(batch_size=at_once, columns=list(_COLUMNS), use_threads=False):
            offsets, times, keys, values, headers = (batch.column(column) for column in _COLUMNS)
            times_ms = times.cast(pa.int64()).to_pylist()
            for offset, time_ms, key, value, some in zip(offsets.to_pylist(), times_ms, keys.to_pylist(), values.to_pylist(), headers.to_pylist(), strict=True):
                if not reached < offset <= name.last:
                    raise Refused(f"expected offsets that rise from {name.first} to {name.last}, as its name says, got {offset} after {reached}")
                reached = offset
                yield Raw(offset, time_ms, key, value, tuple((one["name"], one["value"]) for one in some))


def _check_ends(data: bytes) -> None:
    if len(data) > FILE_BYTES_MAX:
        raise Refused(f"expected at most {FILE_BYTES_MAX} bytes, got more")
    if len(data) < 12 or not data.startswith(_MAGIC) or not data.endswith(_MAGIC):
        raise Refused(f"expected a Parquet file, which begins and ends with PAR1, got {len(data)} bytes of something else, or a part of one")
    footer = int.from_bytes(data[-8:-4], "little")
    if footer > min(FOOTER_BYTES_MAX, len(data) - 12):
        raise Refused(f"expected a footer of at most {FOOTER_BYTES_MAX} bytes that lies within the file, got one of {footer} in {len(data)}")


def _check_rows(file: Any, name: Name) -> None:
    if not file.schema_arrow.equals(SCHEMA, check_metadata=False):
        raise Refused(f"expected the columns {_told(SCHEMA)}, got {_told(file.schema_arrow)}")
    rows, groups, most = file.metadata.num_rows, file.metadata.num_row_groups, name.last - name.first + 1
    if not 1 <= rows <= most:
        raise Refused(f"expected 1 to {most} records, as its name says, got {rows}")
    in_groups = [file.metadata.row_group(number).num_rows for number in range(groups)]
    if min(in_groups, default=0) < 1 or sum(in_groups) != rows:
        raise Refused(f"expected row groups that hold the {rows} records, got {groups} with {sum(in_groups)}")


def _told(schema: Any) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in schema)[:400]


def _check_pages(metadata: Any, data: memoryview) -> int:
    """How large all columns that are read become."""
    nbytes, left = 0, PAGES_MAX
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        columns = [group.column(one) for one in range(group.num_columns)]
        found: dict[str, list[Page]] = {}
        for column in columns:
            if column.path_in_schema in _LEAVES:
                pages = found[column.path_in_schema] = _pages(column, data, left)
                left -= len(pages)
                nbytes += sum(page.nbytes for page in pages)
        if nbytes > FILE_BYTES_MAX:
            raise Refused(f"expected records of at most {FILE_BYTES_MAX} bytes in all, got pages that become {nbytes} or more")
        _check_counts(found, group.num_rows)
    return nbytes


def _pages(column: Any, data: memoryview, pages_max: int) -> list[Page]:
    path, start, length = column.path_in_schema, column.data_page_offset, column.total_compressed_size
    if column.has_dictionary_page:
        raise Refused(f"expected column {path} without a dictionary, got one")
    if not len(_MAGIC) <= start <= start + length <= len(data):
        raise Refused(f"expected column {path} within the file's {len(data)} bytes, got {length} at {start}")
    try:
        pages = pages_of(data[start : start + length], pages_max=pages_max)
    except BadPage as error:
        raise Refused(f"column {path}: {error}") from None
    encodings = {PLAIN, DELTA_BINARY_PACKED} if path in _NUMBERS else {PLAIN}
    for page in pages:
        if page.encoding not in encodings:
            raise Refused(f"expected column {path} in the encodings that the archive's worker writes, got number {page.encoding}")
        if page.nbytes > PAGE_BYTES_MAX:
            raise Refused(f"expected pages of at most {PAGE_BYTES_MAX} bytes, got one of column {path} that becomes {page.nbytes}")
    return pages


def _check_counts(found: dict[str, list[Page]], rows: int) -> None:
    counts = {path: sum(page.values for page in pages) for path, pages in found.items()}
    # A record without headers counts as one; each name of a header has a length.
    most = rows + sum(page.nbytes for page in found[_NAMES]) // _LENGTH_BYTES
    for path, count in counts.items():
        if path in (_NAMES, _VALUES):
            if not rows <= count <= most:
                raise Refused(f"expected {rows} to {most} headers, got {count}")
        elif count != rows:
            raise Refused(f"expected {rows} values in column {path}, got {count}")
