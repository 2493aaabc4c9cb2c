"""Raw records as Parquet: the one module that touches pyarrow's Parquet. The columns are described in `docs/replay.md`."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# (pyarrow ships without type information.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from runstream_sinks.archive_files import Raw

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_sinks.ledger import Place

# Read at once; records are up to 8 MiB each.
BATCH_RECORDS = 500
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


def read(source: BinaryIO) -> Iterator[Raw]:
    """The records of a file, some at a time."""
    columns = ["offset", "timestamp", "key", "value", "headers"]
    with pq.ParquetFile(source) as file:
        for batch in file.iter_batches(batch_size=BATCH_RECORDS, columns=columns):
            offsets, times, keys, values, headers = (batch.column(name) for name in columns)
            times_ms = times.cast(pa.int64()).to_pylist()
            for offset, time_ms, key, value, some in zip(offsets.to_pylist(), times_ms, keys.to_pylist(), values.to_pylist(), headers.to_pylist(), strict=True):
                yield Raw(offset, time_ms, key, value, tuple((one["name"], one["value"]) for one in some))
