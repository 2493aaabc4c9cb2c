"""Params and metadata as JSON text: which values have a kind of their own, how nested ones flatten, what is refused. Pure."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

from runstream import _secrets
from runstream_producers.journal import values as val

_DEPTH_MAX = 32

# The kind of a param and its value as JSON text; no kind for what no param can be.
Told = tuple[str | None, str]
_NONE: Told = (None, "")


def flatten(params: Mapping[Any, Any], report: Callable[[str, str], None], reserved: Collection[str] = ()) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
    """Key, kind and JSON text of each param, nested dicts flattened with `.` and secrets hidden; and by key why others were refused, such as those of reserved names."""
    taken: dict[str, tuple[str, str]] = {}
    refused: dict[str, str] = {}
    _flatten_into(taken, refused, "", params, 0, report)
    for name in reserved:
        if taken.pop(name, None) is not None:
            refused[name] = "Runstream records under this name what a run had installed (docs/environments.md): choose another, or give it a context"
    return [(name, *told) for name, told in taken.items()], refused


def _flatten_into(
    taken: dict[str, tuple[str, str]], refused: dict[str, str], prefix: str, params: Mapping[Any, Any], depth: int, report: Callable[[str, str], None]
) -> None:
    for key, value in params.items():
        name = prefix + val.text_of(key)
        if not isinstance(key, str):
            report("param_key", f"names of params must be texts, got {val.told(key)} ({val.shown(key)}): it was taken as {name!r}")
        if isinstance(value, Mapping) and value:
            if depth < _DEPTH_MAX:
                _flatten_into(taken, refused, f"{name}.", cast("Mapping[Any, Any]", value), depth + 1, report)
            else:
                refused[name] = f"dictionaries are nested more than {_DEPTH_MAX} deep"
            continue
        if name in taken or name in refused:
            taken.pop(name, None)
            refused[name] = "two names of this call come to it, and neither value can be told to be the right one"
            continue
        if not key or len(name) > val.NAME_CHARACTERS_MAX:
            refused[name] = f"expected a name of 1 to {val.NAME_CHARACTERS_MAX} characters, got {len(name) if key else 'an empty one'}"
            continue
        kind, text = told_of(_secrets.hidden(name, value))
        if kind is None:
            refused[name] = f"expected bool, int, float, string, None or a list of them, got {_no_param(value)}"
        else:
            taken[name] = (kind, text)


def _no_param(value: Any) -> str:
    """What a value is that is no param."""
    digits = sys.get_int_max_str_digits()
    return f"an int of more than the {digits} digits that Python writes" if isinstance(value, int) else val.told(value)


def told_of(value: Any) -> Told:
    """The kind of a param and its value as JSON text; (None, "") for what no param can be. Does not raise, whatever the value is."""
    try:
        return _told(value, 0)
    except Exception as error:
        if val.from_signal(error):
            raise
        return _NONE


def _told(value: Any, depth: int) -> Told:
    if value is None:
        return "null", "null"
    if isinstance(value, bool):
        return "bool", json.dumps(value)
    if isinstance(value, int):
        return "int", str(int(value))
    if isinstance(value, float):
        return "float", json.dumps(float(value))
    if isinstance(value, str):
        return "string", json.dumps(val.text_of(value))
    if depth > _DEPTH_MAX:
        return _NONE
    if isinstance(value, (list, tuple, set, frozenset)):
        return _list(list(cast("Sequence[Any]", value)), depth, in_order=isinstance(value, (list, tuple)))
    if isinstance(value, Mapping):
        return _object(cast("Mapping[Any, Any]", value), depth)
    if hasattr(value, "shape") and val.number_of(value) is not None:
        return _told(val.item_of(value), depth + 1)
    return ("string", json.dumps(val.text_of(value))) if hasattr(value, "__fspath__") else _NONE


def _list(items: list[Any], depth: int, *, in_order: bool) -> Told:
    told = [_told(item, depth + 1) for item in items]
    if any(kind is None for kind, _ in told):
        return _NONE
    texts = [text for _, text in told]
    # A set has no order of its own, and the same set must be the same value.
    return "list", f"[{', '.join(texts if in_order else sorted(texts))}]"


def _object(value: Mapping[Any, Any], depth: int) -> Told:
    """A dictionary as a JSON object: inside of a list, as a summary value, or an empty one among params, where others flatten."""
    told = {val.text_of(key): _told(item, depth + 1) for key, item in value.items()}
    if any(kind is None for kind, _ in told.values()):
        return _NONE
    text = "{" + ", ".join(f"{json.dumps(key)}: {item}" for key, (_, item) in told.items()) + "}"
    return "dict", text


def json_values(what: str, metadata: Mapping[Any, Any], report: Callable[[str, str], None]) -> dict[str, str]:
    """Metadata as JSON texts by key, secrets hidden; numbers of numpy, paths and moments are what they stand for, and what JSON cannot hold else is told and kept as its text."""
    out: dict[str, str] = {}
    for key, given in metadata.items():
        name = val.text_of(key)
        if not isinstance(key, str):
            report(f"{what}:metadata:key", f"names of metadata of {what} must be texts, got {val.told(key)} ({val.shown(key)}): it was taken as {name!r}")
        value = _secrets.hidden(name, given)
        odd: list[Any] = []

        def plain(one: Any, odd: list[Any] = odd) -> Any:
            known, text = _plain(one)
            if not known:
                odd.append(one)
            return text

        try:
            text = json.dumps(value, default=plain)
        except (TypeError, ValueError, RecursionError):  # A key that is no text, or a value within itself.
            odd.append(value)
            text = json.dumps(val.shown(value))
        if odd:
            report(
                f"{what}:metadata:{name}",
                f"metadata {val.shown(name)} of {what} must be what JSON can hold, got {val.told(odd[0])}: it was taken as the text {val.shown(val.shown(odd[0]))}",
            )
        out[name] = text
    return out


def _plain(value: Any) -> tuple[bool, Any]:
    """Whether a value that JSON does not know stands for one that it does, and that one, or else a text."""
    if isinstance(value, (set, frozenset)):
        return True, sorted(map(val.shown, cast("set[Any]", value)))
    if isinstance(value, Mapping):
        return True, dict(cast("Mapping[Any, Any]", value))
    if isinstance(value, dt.date):
        return True, value.isoformat()
    if hasattr(value, "__fspath__"):
        return True, val.text_of(value)
    if hasattr(value, "shape") and val.number_of(value) is not None:
        return True, val.item_of(value)
    return False, val.shown(value)
