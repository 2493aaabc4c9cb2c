"""Parts of values as JSON holds them: scalars of any library as Python's, and numbers in lists and arrays with their shapes. Pure."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from runstream import _secrets
from runstream.media._types import BadValue, Value
from runstream_producers.journal import values as val
from runstream_producers.journal.blobs import array_of

JSON = "application/json"


def as_json(value: Any) -> Value:
    """A value that is made of what JSON holds."""
    return Value(JSON, json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace"))


def is_scalar(value: Any) -> bool:
    """Whether `scalar` takes it."""
    return value is None or isinstance(value, (bool, int, float, str, dt.date)) or hasattr(value, "__fspath__") or val.number_of(value) is not None


def scalar(where: str, name: str, value: Any) -> bool | int | float | str | None:
    """A scalar as Python's own, secrets hidden by the name that it goes by; raises BadValue for anything else."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return _secrets.hidden(name, val.text_of(value))
    if isinstance(value, float):
        return float(value)
    if isinstance(value, dt.date):
        return value.isoformat()
    if hasattr(value, "__fspath__"):
        return _secrets.hidden(name, val.text_of(value))
    if (number := val.number_of(value)) is not None:
        # A number that is no array's, such as a Decimal or a Fraction, has no item to ask for.
        return val.item_of(value) if hasattr(value, "item") or hasattr(value, "numpy") else number
    raise BadValue(f"{where} must be a number, a text, a truth value or None, got {val.told(value)}")


def numbers(where: str, value: Any, ndim: int = 1) -> Any:
    """Numbers as an array of numpy with so many axes; raises BadValue with the shape that came."""
    try:
        array = array_of(value)
    except ValueError as error:
        raise BadValue(f"{where} must be {_axes(ndim)} of numbers, got {_why(value, error)}") from None
    if array.ndim != ndim or array.dtype.kind == "c":
        raise BadValue(f"{where} must be {_axes(ndim)} of numbers, got {array.dtype} of shape {array.shape}")
    return array


def items(where: str, value: Any) -> list[Any]:
    """The items of a list or array of one axis; raises BadValue."""
    if isinstance(value, (list, tuple, range)):
        return list(cast("Sequence[Any]", value))
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple) and len(cast("tuple[Any, ...]", shape)) == 1 and hasattr(value, "tolist"):
        return list(value.tolist())
    raise BadValue(f"{where} must be a list, got {val.told(value)}")


def mapping(where: str, value: Any, keys: str) -> Mapping[str, Any]:
    """A mapping whose keys are texts; raises BadValue."""
    if not isinstance(value, Mapping):
        raise BadValue(f"{where} must be a mapping with {keys}, got {val.told(value)}")
    return {val.text_of(key): one for key, one in cast("Mapping[Any, Any]", value).items()}


def known(where: str, value: Mapping[str, Any], needed: Sequence[str], others: Sequence[str] = ()) -> None:
    """Raises BadValue where a key is missing, or one that means nothing is there."""
    missing = [key for key in needed if key not in value]
    strange = [key for key in value if key not in needed and key not in others]
    if missing or strange:
        wanted = ", ".join([*needed, *(f"{key} if wanted" for key in others)])
        raise BadValue(f"{where} must have {wanted}, got {', '.join(map(repr, value)) or 'nothing'}")


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape of a list or array, for a message."""
    shape = getattr(value, "shape", None)
    return tuple(shape) if shape is not None else (len(value),)


def _axes(ndim: int) -> str:
    return {1: "a list", 2: "a matrix"}[ndim]


def _why(value: Any, error: ValueError) -> str:
    """What came instead of numbers: of lists in a list, their lengths."""
    if isinstance(value, (list, tuple)):
        rows = cast("Sequence[Any]", value)
        lengths = sorted({len(cast("Sequence[Any]", one)) for one in rows if isinstance(one, (list, tuple))})
        if len(lengths) > 1:
            return f"{len(rows)} rows of {', '.join(map(str, lengths[:5]))} values"
        cells = [cell for one in rows for cell in (cast("Sequence[Any]", one) if isinstance(one, (list, tuple)) else (one,))]
        if (large := next((one for one in cells if isinstance(one, int) and not -(2**63) <= one < 2**64), None)) is not None:
            return f"a list with an int of {large.bit_length()} bits in it"
        odd = next((one for one in cells if val.number_of(one) is None), None)
        return f"a list with {val.told(odd)} in it"
    return str(error).removeprefix("expected numbers, got ")
