"""Draws lines in a terminal: points of several series on one plane of braille dots, each series in its colour. Pure: values in, rich text out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

COLOURS = ("cyan", "magenta", "yellow", "green")
# The bit of each of a braille sign's 2 x 4 dots (Unicode, block "Braille Patterns").
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its name, and its points in order of x. Points whose y is not finite are left out."""

    name: str
    points: Sequence[tuple[float, float]]


def draw(lines: Sequence[Line], *, width: int, height: int, y_min: float, y_max: float) -> list[Text]:
    """The lines as `height` rows of text with a logarithmic y axis from `y_min` to `y_max` (both above 0); what lies outside is drawn at the edge."""
    label_width = 8
    columns = max(8, width - label_width)
    finite = [[(x, min(max(y, y_min), y_max)) for x, y in line.points if math.isfinite(y)] for line in lines]
    xs = [x for points in finite for x, _ in points]
    x_min, x_max = (min(xs), max(xs)) if xs else (0.0, 1.0)
    bits = [[0] * columns for _ in range(height)]
    owner = [[-1] * columns for _ in range(height)]
    span_x = (x_max - x_min) or 1.0
    low, high = math.log(y_min), math.log(y_max)
    for index, points in enumerate(finite):
        places = [(round((x - x_min) / span_x * (columns * 2 - 1)), round((high - math.log(y)) / (high - low) * (height * 4 - 1))) for x, y in points]
        for place, before in zip(places, [*places[:1], *places[:-1]], strict=True):
            for column, row in _between(before, place):
                bits[row // 4][column // 2] |= _DOTS[row % 4][column % 2]
                owner[row // 4][column // 2] = index
    out: list[Text] = []
    for row in range(height):
        label = math.exp(high - (high - low) * row / max(1, height - 1))
        text = Text(f"{label:>{label_width - 2}.3g} │", style="dim")
        for column in range(columns):
            colour = COLOURS[owner[row][column] % len(COLOURS)] if owner[row][column] >= 0 else ""
            text.append(chr(_BLANK + bits[row][column]), style=colour)
        out.append(text)
    return out


def _between(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots from one place to another, both included."""
    steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [(round(start[0] + (end[0] - start[0]) * i / steps), round(start[1] + (end[1] - start[1]) * i / steps)) for i in range(steps + 1)]
