"""What is known of a model, whichever library it is of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer or part of a model; sizes are None where they are not known without running it."""

    name: str
    type: str
    parameters: int | None
    trainable: int | None
    input: Any = None
    output: Any = None
    dtype: str = ""


def _no_layers() -> Sequence[Layer]:
    return ()


@dataclass(frozen=True, slots=True)
class Facts:
    """A model's library and type, how many numbers it has and how many are trained, and the bytes of memory that these and its buffers take; None where that cannot be told."""

    framework: str
    type: str
    parameters: int | None
    trainable: int | None
    bytes: int | None
    layers: Sequence[Layer] = field(default_factory=_no_layers)


def type_name(value: Any) -> str:
    """The full name of a value's type."""
    kind: type[Any] = cast("Any", type(value))
    return f"{kind.__module__}.{kind.__qualname__}"


def numbers_in(arrays: Iterable[Any]) -> int:
    """How many numbers some arrays have."""
    return sum(math.prod(cast("tuple[int, ...]", tuple(one.shape))) for one in arrays)


def size_of(value: Any) -> Any:
    """A size or shape as JSON holds it; None for anything else."""
    if isinstance(value, int):
        return value
    if isinstance(value, (tuple, list)):
        return [one if one is None or isinstance(one, int) else size_of(one) for one in cast("Sequence[Any]", value)]
    return None
