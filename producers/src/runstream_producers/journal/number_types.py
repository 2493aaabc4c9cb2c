"""Of which type a metric's numbers are: int, bool or float. All are kept as doubles; what they were is told once a metric, so that they can be read as what they were.

It is looked at where a set of names is first met in a segment, never by a call that is packed at once. Floats are what is meant where nothing was told.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from runstream_producers.journal.plans import Scope

NumberType = Literal["bool", "int", "float"]

_MIXED = "mixed"
_NAMES_MAX = 100_000  # Metrics whose types are remembered; those past it read as floats.


@dataclass(frozen=True, slots=True)
class Found:
    """Metrics whose numbers are of one type."""

    type: NumberType
    names: list[str]


class NumberTypes:
    """Remembers what this process has told."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str, str], str] = {}
        self._pid = os.getpid()

    def news(self, scope: Scope, names: Set[str], data: Mapping[Any, Any]) -> list[Found]:
        """What is to be told of the numbers of a call, which these names have: that they are ints or bools, or that they are no more what was told. Raises what the mapping raises."""
        if self._pid != os.getpid():  # A forked child is a writer of its own, and tells of what it logs.
            self._told, self._pid = {}, os.getpid()
        found: dict[NumberType, list[str]] = {}
        for name, value, _ in val.leaves(data):
            if name not in names:
                continue
            series, now = (scope.context, scope.subject, name), type_of(value)
            before = self._told.get(series, "" if len(self._told) < _NAMES_MAX else _MIXED)
            if before in (now, _MIXED) or (not before and now == "float"):
                continue
            self._told[series] = _MIXED if before else now
            found.setdefault(now, []).append(name)
        return [Found(kind, sorted(told)) for kind, told in found.items()]


def inexact(names: Set[str], data: Mapping[Any, Any]) -> dict[str, int]:
    """The integers of a call that no double is, by name."""
    return {name: value for name, value, _ in val.leaves(data) if name in names and isinstance(value, int) and float(value) != value}


def type_of(value: Any) -> NumberType:
    """The type of a number: Python's, or of one element of an array or tensor, which is not read for it. Does not raise."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int"
    if isinstance(value, float):
        return "float"
    try:
        dtype = str(getattr(value, "dtype", "float"))
    except Exception as error:
        if val.from_signal(error):
            raise
        return "float"
    return "bool" if "bool" in dtype else "int" if "int" in dtype else "float"
