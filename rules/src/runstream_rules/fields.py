"""The fields of a rule as files write them: under which name, and how what was written becomes the record's value.

What a value may be by the rule's kind is not asked here; the schemas say that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from runstream_rules.yaml_nodes import Items, Node, Pairs, Scalar
from runstream_schemas.durations import FORMS, seconds_of

if TYPE_CHECKING:
    from collections.abc import Callable

_SHOWN_CHARACTERS = 60


class Unfit(Exception):  # it never leaves this package: the file's error tells of all of them
    """A value that is not what its field takes: what was expected, and what came."""

    def __init__(self, expected: str, got: str, line: int) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected = expected
        self.got = got
        self.line = line


class Field(NamedTuple):
    """A field's name in the record, and how it is read."""

    name: str
    read: Callable[[Node], Any]


def shown(node: Node) -> str:
    """A value for a message."""
    if isinstance(node, Items):
        return f"a list of {len(node.items)}"
    if isinstance(node, Pairs):
        return "a mapping"
    if node.empty:
        return "nothing"
    text = node.text if len(node.text) <= _SHOWN_CHARACTERS else node.text[:_SHOWN_CHARACTERS] + "…"
    return text if node.plain else repr(text)


def _text(node: Node) -> str:
    if not isinstance(node, Scalar) or node.empty:
        raise Unfit("a text", shown(node), node.line)
    return node.text


def _number(node: Node) -> float:
    if isinstance(node, Scalar) and node.plain:
        try:
            return float(node.text.replace(".inf", "inf").replace(".nan", "nan"))
        except ValueError:
            pass
    raise Unfit("a number", shown(node), node.line)


def _integer(node: Node) -> int:
    if isinstance(node, Scalar) and node.plain:
        try:
            return int(node.text)
        except ValueError:
            pass
    raise Unfit("an integer", shown(node), node.line)


def _seconds(node: Node) -> float:
    seconds = seconds_of(node.text) if isinstance(node, Scalar) else None
    if seconds is None:
        raise Unfit(FORMS, shown(node), node.line)
    return seconds


def _texts(node: Node) -> tuple[str, ...]:
    """A list of texts; one text stands for a list of it."""
    if isinstance(node, Scalar):
        return (_text(node),)
    if not isinstance(node, Items):
        raise Unfit("a list of texts", shown(node), node.line)
    return tuple(_text(one) for one in node.items)


def _labels(node: Node) -> dict[str, str]:
    if not isinstance(node, Pairs):
        raise Unfit("names with texts, such as {team: vision}", shown(node), node.line)
    return {pair.key: _text(pair.value) for pair in node.pairs}


FIELDS: dict[str, Field] = {
    "id": Field("rule_id", _text),
    "name": Field("name", _text),
    "kind": Field("kind", _text),
    "metric": Field("metric", _text),
    "project": Field("project", _text),
    "run": Field("run_id", _text),
    "context": Field("context", _text),
    "rank": Field("rank", _integer),
    "severity": Field("severity", _text),
    "text": Field("text", _text),
    "labels": Field("labels", _labels),
    "channels": Field("channels", _texts),
    "for": Field("for_s", _seconds),
    "cooldown": Field("cooldown_s", _seconds),
    "operator": Field("operator", _text),
    "threshold": Field("threshold", _number),
    "clear": Field("clear", _number),
    "aggregate": Field("aggregate", _text),
    "window": Field("window", _integer),
    "window_s": Field("window_s", _seconds),
    "baseline": Field("baseline", _integer),
    "measure": Field("measure", _text),
    "direction": Field("direction", _text),
    "goal": Field("goal", _text),
    "states": Field("states", _texts),
}
# What the record's fields are called in files.
WORDS: dict[str, str] = {field.name: word for word, field in FIELDS.items()}
