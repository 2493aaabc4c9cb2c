"""Figures: what a benchmark yields, and the bars that some of them must keep."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_COMPARE: Mapping[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "==": operator.eq}


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure must keep, such as `<= 0.25`."""

    compare: Literal["<=", ">=", "=="]
    limit: float

    def __str__(self) -> str:
        """The bar as it stands in tables and JSON."""
        return f"{self.compare} {self.limit:g}"

    def holds(self, value: float) -> bool:
        """Whether a value keeps it; NaN never does."""
        return _COMPARE[self.compare](value, self.limit)


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of one benchmark: its unit, how many measurements stand behind it, and its bar if it has one."""

    name: str
    value: float
    unit: str
    n: int
    bar: Bar | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the bar holds; None without a bar."""
        return None if self.bar is None else self.bar.holds(self.value)

    def as_json(self, benchmark: str) -> dict[str, object]:
        """The figure as the object of one JSON line."""
        return {
            "benchmark": benchmark,
            "figure": self.name,
            "value": float(f"{self.value:.4g}"),
            "unit": self.unit,
            "bar": None if self.bar is None else str(self.bar),
            "holds": self.holds,
            "n": self.n,
        }
