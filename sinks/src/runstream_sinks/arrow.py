"""Arrow arrays and tables from plain values: the one module that touches pyarrow, which has no types of its own.

A `Kind` names how a column stands in Arrow so that ClickHouse reads it into its type without parsing. What the columns mean is `tables`' business.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownParameterType=false
# (pyarrow ships without type information.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

Kind = Literal["uuid", "text", "word", "bytes", "bool", "u64", "u32", "i64", "f64", "ms", "s", "texts", "i64s", "f64s", "text_map", "count_map"]
Column = Any  # a pyarrow.Array
Table = Any  # a pyarrow.Table

UUID_BYTES = 16
_TYPES: dict[Kind, Any] = {
    "uuid": pa.binary(UUID_BYTES),
    "text": pa.string(),
    "word": pa.string(),
    "bytes": pa.binary(),
    "bool": pa.bool_(),
    "u64": pa.uint64(),
    "u32": pa.uint32(),
    "i64": pa.int64(),
    "f64": pa.float64(),
    "ms": pa.timestamp("ms"),
    "s": pa.uint32(),
    "texts": pa.list_(pa.string()),
    "i64s": pa.list_(pa.int64()),
    "f64s": pa.list_(pa.float64()),
    "text_map": pa.map_(pa.string(), pa.string()),
    "count_map": pa.map_(pa.string(), pa.uint64()),
}


def column(kind: Kind, values: Sequence[object]) -> Column:
    """A column of Python values; None is null."""
    made = pa.array(values, type=_TYPES[kind])
    return made.dictionary_encode() if kind == "word" else made


def numbers(kind: Kind, values: NDArray[Any]) -> Column:
    """A column over the array's own memory where its type fits."""
    made = pa.array(np.ascontiguousarray(values))
    return made.view(_TYPES[kind]) if kind in ("ms", "u64") else made


def words(codes: NDArray[np.int64], vocabulary: Sequence[str]) -> Column:
    """A dictionary column: each code is a place in the vocabulary, written in as few bytes as hold it. ClickHouse reads it as LowCardinality."""
    width = np.int8 if len(vocabulary) <= 1 << 7 else np.int16 if len(vocabulary) <= 1 << 15 else np.int32
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(width)), pa.array(vocabulary, type=pa.string()))


def uuids(raw: NDArray[np.uint64]) -> Column:
    """A column of UUIDs from their bytes, as uint64[n, 2] in memory order."""
    data = np.ascontiguousarray(raw)
    return pa.FixedSizeBinaryArray.from_buffers(_TYPES["uuid"], len(data), [None, pa.py_buffer(data)])


def table(columns: Mapping[str, Column]) -> Table:
    """The columns under their names."""
    return pa.table(dict(columns))


def warm_up() -> None:
    """Lets pyarrow load what it loads at the first array, which takes a quarter of a second."""
    pa.array(np.zeros(1))


def rows_of(made: Table) -> int:
    """Number of rows in a table."""
    return made.num_rows


def bytes_of(made: Table) -> int:
    """The memory that a table's columns take."""
    return made.nbytes


def as_lists(made: Table) -> dict[str, list[Any]]:
    """A table's columns as Python values; for tests and small tables."""
    return made.to_pydict()
