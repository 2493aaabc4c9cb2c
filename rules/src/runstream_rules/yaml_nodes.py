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
_NODES_MAX = 100_000  # An alias counts as often as it is used: aliases of aliases multiply.


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
    broken = next((place for place, one in enumerate(text) if "\ud800" <= one <= "\udfff"), None)
    if broken is not None:
        return None, [Mistake(text.count("\n", 0, broken) + 1, f"has a lone surrogate, U+{ord(text[broken]):04X}, which is no character: expected UTF-8")]
    try:
        deep = _too_deep(text)
        if deep is not None:
            return None, [deep]
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = " ".join(part for part in (error.context, error.problem) if part)
        return None, [Mistake(1 if mark is None else mark.line + 1, f"is no YAML: {said}")]
    except yaml.YAMLError as error:
        return None, [Mistake(1, f"is no YAML: {' '.join(str(error).split())}")]
    mistakes: list[Mistake] = []
    try:
        return (None if root is None else _Reader(mistakes).read(root, _DEPTH_MAX)), mistakes
    except _TooMany as error:
        return None, [
            Mistake(error.line, f"has more than {_NODES_MAX:,} values, lists and mappings, each alias counted as often as it is used: expected fewer")
        ]


def _too_deep(text: str) -> Mistake | None:
    """Where lists and mappings stand too deep inside each other, looked for before nodes are made: that goes as deep as they do."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEPTH_MAX:
                return Mistake(int(event.start_mark.line) + 1, _DEEP)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
    return None


_DEEP = f"has lists and mappings inside each other more than {_DEPTH_MAX} deep"


class _TooMany(Exception):  # it never leaves this module
    """There are more nodes than are read."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class _Reader:
    """Makes nodes, and counts them."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self._mistakes = mistakes
        self._count = 0

    def read(self, node: Any, depth: int) -> Node:
        """One node of PyYAML's and everything in it; mistakes are noted."""
        line = int(node.start_mark.line) + 1
        self._count += 1
        if self._count > _NODES_MAX:
            raise _TooMany(line)
        if depth == 0:
            self._mistakes.append(Mistake(line, _DEEP))
            return Scalar(line, "", plain=True)
        if isinstance(node, yaml.SequenceNode):
            return Items(line, tuple(self.read(one, depth - 1) for one in node.value))
        if not isinstance(node, yaml.MappingNode):
            return Scalar(line, str(node.value), plain=node.style is None)
        pairs: dict[str, Pair] = {}
        for key, value in node.value:
            at = int(key.start_mark.line) + 1
            if not isinstance(key, yaml.ScalarNode):
                self._mistakes.append(Mistake(at, "has a list or mapping as the name of a field, expected a text"))
                continue
            name = str(key.value)
            if name in pairs:
                self._mistakes.append(Mistake(at, f"has {name!r} twice, first in line {pairs[name].line}: one of them would be lost"))
                continue
            pairs[name] = Pair(name, at, self.read(value, depth - 1))
        return Pairs(line, tuple(pairs.values()))
