"""Params and metadata as JSON text: which values have a kind of their own, how nested ones flatten, what is refused. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from runstream import _secrets
from runstream_producers.journal import values as val

_DEPTH_MAX = 32

# The kind of a param and its value as JSON text; no kind for what no param can be.
Told = tuple[str | None, str]
_NONE: Told = (None, "")


def flatten(params: Any, report: Callable[[str, str], None]) -> tuple[list[tuple[str, str, str]], dict[str, str]]:
    """Key, kind and JSON text of each param, nested dicts flattened with `.` and secrets hidden; and by key why others were refused."""
    taken: list[tuple[str, str, str]] = []
    refused: dict[str, str] = {}
    _flatten_into(taken, refused, "", params, 0, report)
    return taken, refused


def _flatten_into(taken: list[tuple[str, str, str]], refused: dict[str, str], prefix: str, params: Any, depth: int, report: Callable[[str, str], None]) -> None:
    if not isinstance(params, Mapping):
        refused[prefix] = f"expected a mapping of names to values, got {val.told(params)}"
        return
    for key, value in cast("Mapping[Any, Any]", params).items():
        name = prefix + val.text_of(key)
        if not isinstance(key, str):
            report("param_key", f"names of params must be texts, got {val.told(key)} ({val.shown(key)}): it was taken as {name!r}")
        if isinstance(value, Mapping) and value:
            if depth < _DEPTH_MAX:
                _flatten_into(taken, refused, f"{name}.", value, depth + 1, report)
            else:
                refused[name] = f"dictionaries are nested more than {_DEPTH_MAX} deep"
            continue
        kind, text = told_of(_secrets.hidden(name, value))
        if kind is None:
            refused[name] = f"expected bool, int, float, string, None or a list of them, got {val.told(cast('Any', value))}"
        else:
            taken.append((name, kind, text))


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
    """A dictionary inside of a list as a JSON object; an empty one of its own as the text `{}`, since no kind of param is an object."""
    told = {val.text_of(key): _told(item, depth + 1) for key, item in value.items()}
    if any(kind is None for kind, _ in told.values()):
        return _NONE
    text = "{" + ", ".join(f"{json.dumps(key)}: {item}" for key, (_, item) in told.items()) + "}"
    return "string", text if depth else json.dumps(text)


def json_values(metadata: Mapping[Any, Any]) -> dict[str, str]:
    """Metadata as JSON texts by key, secrets hidden; what JSON cannot hold is kept as its text."""
    out: dict[str, str] = {}
    for key, given in metadata.items():
        value = _secrets.hidden(val.text_of(key), given)
        try:
            text = json.dumps(value, default=val.shown)
        except (TypeError, ValueError, RecursionError):  # A key that is no text, or a value within itself.
            text = json.dumps(val.shown(value))
        out[val.text_of(key)] = text
    return out
