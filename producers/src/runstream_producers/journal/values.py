"""What counts as a metric value, a step, a time and a context; everything that the hot path does not take at once.

A value is a number: Python's, numpy's, or anything with one element that says so (`item()`); or a text, bytes or an array, which `blobs` make records of. None, lists and objects are
refused for their key, and the rest of the call is kept. Nested names flatten with `/`; where two meet, both are refused.
"""

from __future__ import annotations

import datetime as dt
import enum
import math
import operator
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

_STEP_LIMIT = 1 << 63
# Farthest times that a millisecond count in ClickHouse's DateTime64 holds well: the years 1900 to 2299.
SECONDS_MIN, SECONDS_MAX = -2_208_988_800.0, 10_413_791_999.0
DEPTH_MAX = 32
NAME_CHARACTERS_MAX = 10_000  # Of names, contexts, subjects and sources: they are columns that are kept in memory and drawn on pages.
_NO_NUMBERS = (str, bytes, bytearray, complex)
_TRACED = "which has no value while {} traces: return it from the function and log it outside, or log it in {}"
# Stand-ins for values, by the package and name of their class; other versions than today's may tell less.
_ADVICE = {
    ("jax", "Tracer"): _TRACED.format("jax", "jax.debug.callback"),
    ("tensorflow", "SymbolicTensor"): _TRACED.format("tf.function", "tf.py_function"),
    ("torch", "DTensor"): "of which each rank holds a part: log its full_tensor(), which all ranks have to call",
    ("keras", "KerasTensor"): "which stands for values of a model that is being built: log what the model gives",
}


def flatten(
    data: Mapping[Any, Any],
    reader_of: Callable[[Any], Callable[[], Any] | None] | None = None,
    blob_of: Callable[[Any], dict[str, Any] | None] | None = None,
) -> tuple[dict[str, float], dict[str, str], dict[str, Callable[[], Any]], dict[str, dict[str, Any]], int]:
    """Names and numbers of a log call, by name why others were refused, by name how to read those that take waiting, which are NaN among the numbers, by name the fields of values that are
    no numbers, and how many values were refused.

    `reader_of` tells which values wait, `blob_of` what those are that are no numbers. Raises what the user's mapping raises, and `blob_of`'s ValueError is why a value was refused.
    """
    found = leaves(data)
    flat: dict[str, float] = {}
    refused: dict[str, str] = {}
    readers: dict[str, Callable[[], Any]] = {}
    blobs: dict[str, dict[str, Any]] = {}
    for name, value, why in found:
        reader = None if reader_of is None or why or type(value) is float else reader_of(value)
        number = None if why else number_of(value) if reader is None else math.nan
        if name in flat or name in refused or name in blobs:
            for taken in (flat, readers, blobs):
                taken.pop(name, None)
            refused[name] = "two names of this call come to it, and neither value can be told to be the right one"
        elif number is None:
            blob = None
            if not why and blob_of is not None:
                try:
                    blob = blob_of(value)
                except ValueError as error:
                    why = str(error)
            if blob is None:
                refused[name] = why or f"expected a number, a text, bytes or an array, got {_no_number(value)}"
            else:
                blobs[name] = blob
        else:
            flat[name] = number
            if reader is not None:
                readers[name] = reader
    return flat, refused, readers, blobs, len(found) - len(flat) - len(blobs)


def leaves(data: Mapping[Any, Any]) -> list[tuple[str, Any, str]]:
    """Names and values of a log call, nested ones flattened, and why some are not taken; raises what the user's mapping raises."""
    found: list[tuple[str, Any, str]] = []
    _flatten_into(found, "", data, 0)
    return found


def _flatten_into(found: list[tuple[str, Any, str]], prefix: str, data: Mapping[Any, Any], depth: int) -> None:
    for key, value in data.items():
        name = text_of(key)
        if prefix:
            name = prefix + name
        if not isinstance(value, Mapping):
            found.append((name, value, ""))
        elif depth >= DEPTH_MAX:
            found.append((name, None, f"dictionaries are nested more than {DEPTH_MAX} deep"))
        else:
            _flatten_into(found, name + "/", cast("Mapping[Any, Any]", value), depth + 1)


def told(value: object) -> str:
    """What a value is, for a message: its type and shape, never its contents. Does not raise."""
    if value is None:
        return "None"
    kind = type(value).__name__
    alone = f"{'an' if kind[:1].lower() in 'aeiou' else 'a'} {kind}"
    try:
        shape = tuple(getattr(value, "shape", None) or ())
        return f"{kind} of shape {shape}" if shape else alone
    except Exception as error:
        if from_signal(error):
            raise
        return alone


def _no_number(value: Any) -> str:
    """What a value is that is no number, and if it looks like one, why it is none and what to do. Does not raise."""
    what = told(value)
    if isinstance(value, int):
        return f"{what} beyond the range of doubles: scale it, or log it as a param"
    for one in type(value).__mro__:
        advice = _ADVICE.get((one.__module__.partition(".")[0], one.__name__))
        if advice is not None:
            return f"{what}, {advice}"
    try:
        if (shape := getattr(value, "shape", None)) is None or any(size != 1 for size in shape):
            return what
        return f"{what} that holds a {type(item_of(value)).__name__}"
    except Exception as error:
        if from_signal(error):
            raise
        return f"{what} ({type(error).__name__}: {str(error).partition(chr(10))[0][:200]})"


def said(error: BaseException) -> str:
    """What an exception says, for a message: one line of it. Does not raise."""
    try:
        return str(error).partition("\n")[0][:200]
    except Exception:  # noqa: BLE001 - the exception is the user's, and so is what its text raises
        return ""


def shown(value: object) -> str:
    """A value as text for a message, at most 200 characters of it."""
    try:
        return repr(value)[:200]
    except Exception as error:
        if from_signal(error):
            raise
        return told(value)


def from_signal(error: BaseException) -> bool:
    """Whether an exception was raised by a signal handler that ran meanwhile, such as a time-out of the user's: then it is not ours to swallow."""
    trace = error.__traceback__
    if trace is None or trace.tb_next is None:
        return False  # Raised in C: not by a handler, which is a call of its own.
    codes: set[CodeType] = set()
    while trace is not None:
        codes.add(trace.tb_frame.f_code)
        trace = trace.tb_next
    for number in signal.valid_signals():
        handler: Any = signal.getsignal(number)
        handler = getattr(handler, "func", handler)  # functools.partial
        if getattr(handler, "__code__", None) in codes or getattr(getattr(handler, "__call__", None), "__code__", None) in codes:  # noqa: B004
            return True
    return False


def text_of(value: Any) -> str:
    """The value as plain text that UTF-8 can hold: what half a surrogate pair stood for becomes a question mark."""
    text = value if type(value) is str else str(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def number_of(value: Any) -> float | None:
    """The value as a float; None where it is no number. Integers beyond the range of doubles are no numbers, nor are complex ones, texts and moments in arrays."""
    if type(value) is float:
        return value
    if value is None or isinstance(value, _NO_NUMBERS):
        return None
    try:
        shape = getattr(value, "shape", None)
        if shape is not None:
            # One element is a number however many axes it has; more is no number, and numpy's moments and spans are none though they count nanoseconds.
            if (shape and math.prod(shape) != 1) or getattr(getattr(value, "dtype", None), "kind", "") in ("m", "M"):
                return None
            value = item_of(value)
            if isinstance(value, _NO_NUMBERS):
                return None
        return float(value)
    except Exception as error:
        if from_signal(error):
            raise
        return None


def item_of(value: Any) -> Any:
    """The only element of an array or tensor as a value of Python's, where its type has one; raises what its library raises."""
    if is_distributed(value):
        value = local_of(value)
    if not hasattr(value, "item"):
        value = value.numpy()  # tensorflow's have this alone, and give texts as they are.
    return value.item() if hasattr(value, "item") else value


def is_distributed(value: Any) -> bool:
    """Whether a tensor of torch is spread over ranks."""
    return type(value).__name__ == "DTensor"


def local_of(value: Any) -> Any:
    """What this rank holds of a tensor that is spread over ranks, where that is all of it; raises ValueError where it is a part, which `item` would give without a word."""
    if all(one.is_replicate() for one in value.placements):
        return value.to_local()
    raise ValueError(f"placed as {value.placements}")


def step_of(step: Any) -> int | None:
    """The step as an integer of 64 bits; None where it is none. Whole floats count."""
    try:
        if hasattr(step, "shape"):
            step = item_of(step)
        whole: Any = int(step) if isinstance(step, float) and step.is_integer() else step
        number = operator.index(whole)
    except Exception as error:
        if from_signal(error):
            raise
        return None
    return number if -_STEP_LIMIT <= number < _STEP_LIMIT else None


def seconds_of(time: Any) -> float | None:
    """Epoch seconds of a number or datetime (naive ones are local time); None where it is neither, or far outside of any clock."""
    if isinstance(time, bool):
        return None
    if isinstance(time, dt.datetime):
        try:
            seconds = time.timestamp()
        except (ValueError, OverflowError, OSError):  # The year 1, or 9999, in local time.
            return None
    else:
        number = number_of(time)
        if number is None:
            return None
        seconds = number
    return seconds if SECONDS_MIN <= seconds <= SECONDS_MAX else None


def time_hint(time: Any) -> str:
    """What to do about a number that is no time: the end of a clause, empty where nothing is known."""
    number = None if isinstance(time, (bool, dt.datetime)) else number_of(time)
    if number is None or not number > SECONDS_MAX:
        return ""
    for divisor, unit in ((1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")):
        if number / divisor <= SECONDS_MAX:
            return f", which looks like {unit} (divide it by {divisor:,.0f})"
    return ""


def context_of(context: Any) -> str:
    """The text of a context: an Enum's name in lower case, a text as it is, nothing for None."""
    if context is None:
        return ""
    return text_of(context.name.lower() if isinstance(context, enum.Enum) else context)
