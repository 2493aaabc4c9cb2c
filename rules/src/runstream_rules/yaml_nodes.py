"""YAML with its lines: a text as nodes that know where they stand, and as what they were written. The only module that touches PyYAML.

Nothing is guessed of types here: YAML would take `no` for false and `1e9` for a text. Whoever reads a field knows what it wants.
"""

# PyYAML's stubs leave the values of nodes open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import yaml

_DEPTH_MAX = 10  # Rules have three levels; an alias that holds itself has no end.


class Mistake(NamedTuple):
    """What is wrong with a text as YAML, and its line from 1."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value as it was written. `plain` is false where it stood in quotes or as a block."""

    line: int
    text: str
    plain: bool

    @property
    def empty(self) -> bool:
        """Whether nothing was written, or null."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    line: int
    items: tuple[Node, ...]


class Pair(NamedTuple):
    """A key of a mapping, its line, and what stands behind it."""

    key: str
    line: int
    value: Node


@dataclass(frozen=True, slots=True)
class Pairs:
    """A mapping, in the order in which it was written."""

    line: int
    pairs: tuple[Pair, ...]


Node = Scalar | Items | Pairs


def parsed(text: str) -> tuple[Node | None, list[Mistake]]:
    """The text as nodes, None where it holds nothing or is no YAML, and what is wrong with it: no YAML at all, keys that stand twice, keys that are no texts."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        return None, [Mistake(1 if mark is None else mark.line + 1, f"is no YAML: {said}")]
    except yaml.YAMLError as error:
        return None, [Mistake(1, f"is no YAML: {' '.join(str(error).split())}")]
    mistakes: list[Mistake] = []
    return (None if root is None else _read(root, mistakes, _DEPTH_MAX)), mistakes


def _read(node: Any, mistakes: list[Mistake], depth: int) -> Node:
    line = int(node.start_mark.line) + 1
    if depth == 0:
        mistakes.append(Mistake(line, f"has lists and mappings inside each other more than {_DEPTH_MAX} deep"))
        return Scalar(line, "", plain=True)
    if isinstance(node, yaml.SequenceNode):
        return Items(line, tuple(_read(one, mistakes, depth - 1) for one in node.value))
    if not isinstance(node, yaml.MappingNode):
        return Scalar(line, str(node.value), plain=node.style is None)
    pairs: dict[str, Pair] = {}
    for key, value in node.value:
        at = int(key.start_mark.line) + 1
        if not isinstance(key, yaml.ScalarNode):
            mistakes.append(Mistake(at, "has a list or mapping as the name of a field, expected a text"))
            continue
        name = str(key.value)
        if name in pairs:
            mistakes.append(Mistake(at, f"has {name!r} twice, first in line {pairs[name].line}: one of them would be lost"))
            continue
        pairs[name] = Pair(name, at, _read(value, mistakes, depth - 1))
    return Pairs(line, tuple(pairs.values()))
