"""Arrow tables, where pyarrow is installed: the one module here that touches it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingImports=false
# (pyarrow ships without type information, and is no dependency.)

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runstream.read import _types as types
from runstream.read._ask import ReadError

if TYPE_CHECKING:
    from runstream.read._types import NumberType


def table_of(data: bytes) -> Any:
    """The table of an Arrow stream; raises ReadError where pyarrow is missing."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ReadError("metrics_table needs pyarrow, which is not installed (pip install pyarrow); read.metrics gives arrays without it") from error
    return pa.ipc.open_stream(data).read_all()


def fitted(table: Any, type_: NumberType) -> Any:
    """The table with its column `value` as this type, where each value fits it exactly; the table itself where it does not, or has no rows."""
    place = table.schema.get_field_index("value")
    kept = types.fitted(table["value"].to_numpy(), type_) if table.num_rows else None
    return table if kept is None or kept.dtype.kind == "f" else table.set_column(place, "value", [kept])
