"""Arrow tables, where pyarrow is installed: the one module here that touches it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingImports=false
# (pyarrow ships without type information, and is no dependency.)

from __future__ import annotations

from typing import Any

from runstream.read._ask import ReadError


def table_of(data: bytes) -> Any:
    """The table of an Arrow stream; raises ReadError where pyarrow is missing."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise ReadError("metrics_table needs pyarrow, which is not installed (pip install pyarrow); read.metrics gives arrays without it") from error
    return pa.ipc.open_stream(data).read_all()
