"""Values in memory as the bytes of a file: what is known, and in which form. Libraries are looked at, not imported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any, cast

from runstream_producers.journal import values as val

TAKEN = "bytes, a text, a file that is open for reading, an array, a PIL image, a pandas table, or what JSON can hold"


def bytes_of(name: str, value: Any) -> bytes:
    """The bytes of a file of this name that holds the value; raises ValueError or what the value's own methods raise."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(cast("bytes", value))
    library = type(value).__module__.partition(".")[0]
    if library == "PIL":
        return _image(name, value)
    if library == "pandas" and hasattr(value, "to_csv"):
        return _table(name, value)
    if hasattr(value, "read"):
        return _read(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return _array(value)
    if value is None or isinstance(value, (Mapping, list, tuple, int, float)):
        try:
            return json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"JSON cannot hold it ({error})") from error
    raise ValueError(f"its type is {val.told(value)}")


def _read(value: Any) -> bytes:
    data: Any = value.read()
    return data.encode() if isinstance(data, str) else bytes(data)


def _image(name: str, value: Any) -> bytes:
    out = BytesIO()
    value.save(out, format={".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}.get(PurePosixPath(name).suffix.lower(), "PNG"))
    return out.getvalue()


def _table(name: str, value: Any) -> bytes:
    if PurePosixPath(name).suffix == ".parquet":
        return bytes(value.to_parquet())
    return value.to_csv().encode()


def _array(value: Any) -> bytes:
    import numpy as np

    from runstream_producers.journal.blobs import array_of

    out = BytesIO()
    np.save(out, array_of(value), allow_pickle=False)
    return out.getvalue()
