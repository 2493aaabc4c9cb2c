"""What counts as a metric value, a step, a time and a context; everything that the hot path does not take at once.

A value is a number: Python's, numpy's, or anything with one element that says so (`item()`). None, texts, lists and objects are refused for their key, and the rest of
the call is kept. Nested names flatten with `/`; two that meet are refused.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import operator
from collections.abc import Mapping
from typing import Any, cast

_STEP_LIMIT = 1 << 63
# Farthest times that a millisecond count in ClickHouse's DateTime64 holds well: the years 1900 to 2299.
_SECONDS_MIN, _SECONDS_MAX = -2_208_988_800.0, 10_413_791_999.0
_DEPTH_MAX = 32


def flatten(data: Mapping[Any, Any]) -> tuple[dict[str, float], dict[str, str]]:
    """Names and numbers of a log call, and by name why others were refused."""
    flat: dict[str, float] = {}
    refused: dict[str, str] = {}
    _flatten_into(flat, refused, "", data, 0)
    return flat, refused


def _flatten_into(flat: dict[str, float], refused: dict[str, str], prefix: str, data: Mapping[Any, Any], depth: int) -> None:
    for key, value in data.items():
        name = prefix + (key if isinstance(key, str) else str(key))
        if isinstance(value, Mapping):
            if depth >= _DEPTH_MAX:
                refused[name] = f"dictionaries are nested more than {_DEPTH_MAX} deep"
            else:
                _flatten_into(flat, refused, name + "/", cast("Mapping[Any, Any]", value), depth + 1)
            continue
        number = number_of(value)
        if number is None:
            refused[name] = f"expected a number, got {_told(value)}"
        elif name in flat:
            refused[name] = "two nested names of this call are both called so"
        else:
            flat[name] = number


def _told(value: object) -> str:
    kind = type(value)
    shape = getattr(value, "shape", None)
    if shape:
        return f"{kind.__name__} of shape {tuple(shape)}"
    return "None" if value is None else f"a {kind.__name__}"


def number_of(value: Any) -> float | None:
    """The value as a float; None where it is no number. Integers beyond the range of doubles are no numbers."""
    if type(value) is float:
        return value
    if isinstance(value, (str, bytes, bytearray)) or value is None:
        return None
    shape = getattr(value, "shape", None)
    if shape is not None:
        item = getattr(value, "item", None)
        # One element is a number however many axes it has; more is no number.
        if item is None or math.prod(shape) != 1:
            return None
        try:
            value = item()
        except Exception:  # noqa: BLE001 - the object is the user's and may raise anything
            return None
    elif not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except Exception:  # noqa: BLE001 - likewise
        return None


def step_of(step: Any) -> int | None:
    """The step as an integer of 64 bits; None where it is none. Whole floats count."""
    try:
        whole: Any = int(step) if isinstance(step, float) and step.is_integer() else step
        number = operator.index(whole)
    except TypeError:
        item = getattr(step, "item", None)
        if item is None:
            return None
        try:
            number = operator.index(item())
        except Exception:  # noqa: BLE001 - the object is the user's and may raise anything
            return None
    return number if -_STEP_LIMIT <= number < _STEP_LIMIT else None


def seconds_of(time: Any) -> float | None:
    """Epoch seconds of a number or datetime (naive ones are local time); None where it is neither, or far outside of any clock."""
    if isinstance(time, dt.datetime):
        seconds = time.timestamp()
    else:
        number = number_of(time)
        if number is None:
            return None
        seconds = number
    return seconds if _SECONDS_MIN <= seconds <= _SECONDS_MAX else None


def context_of(context: Any) -> str:
    """The text of a context: an Enum's name in lower case, a text as it is, nothing for None."""
    if context is None:
        return ""
    if isinstance(context, enum.Enum):
        return context.name.lower()
    return str(context)
