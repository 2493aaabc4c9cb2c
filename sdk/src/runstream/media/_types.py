"""The kinds of rich values, and what a value comes to once it is checked."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class MediaType(enum.Enum):
    """How a value of `log_media` is to be shown; the text in lower case serves as well."""

    VALUE = "value"
    LINE = "line"
    BAR = "bar"
    TABLE = "table"
    HEATMAP = "heatmap"
    LABELMAP = "labelmap"
    EVALUATION = "evaluation"
    IMAGE = "image"
    HISTOGRAM = "histogram"
    TEXT = "text"


class BadValue(ValueError):
    """A value is not what its kind takes; the message says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Line:
    """Points to append to a line; `steps` is None where they are counted on."""

    series: str
    points: list[float]
    steps: list[int] | None = None


def _nothing() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Value:
    """What is stored of a value that is no line: its bytes, of which JSON and texts stand as text in a small record, and facts that stand there in any case."""

    mime_type: str
    data: bytes
    facts: Mapping[str, Any] = field(default_factory=_nothing)
