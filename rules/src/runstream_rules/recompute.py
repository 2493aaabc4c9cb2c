"""The summary of one series computed anew from its points, in plain Python and with nothing shared with `summary`: what tests and `verify` hold against it.

Both must agree to the last bit when the points are given in the order of their seqs, each once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_rules.series import Series
from runstream_schemas.summary_codec import columns_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_schemas.records import SummaryFrame

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Summary:
    """What the points of one series come to; the fields are those of `SummaryFrame`. NaN where no value was finite."""

    count: int
    non_finite: int
    sum: float
    mean: float
    m2: float
    min: float
    min_step: int
    max: float
    max_step: int
    first: float
    first_step: int
    last: float
    last_step: int
    first_time: int
    last_time: int

    def same_as(self, other: Summary) -> bool:
        """Whether two summaries agree bit for bit, NaN being equal to NaN."""
        return self._key() == other._key()

    def _key(self) -> tuple[object, ...]:
        values = (self.sum, self.mean, self.m2, self.min, self.max, self.first, self.last)
        whole = (self.count, self.non_finite, self.min_step, self.max_step, self.first_step, self.last_step, self.first_time, self.last_time)
        return (*whole, *("nan" if math.isnan(value) else value.hex() for value in values))


def recompute(points: Iterable[tuple[int, int, float]]) -> Summary:
    """The summary of points (step, time in epoch milliseconds, value) in the order of their seqs; raises ValueError when there are none."""
    every = list(points)
    if not every:
        raise ValueError("a summary needs at least one point, got none")
    finite = [(step, value) for step, _, value in every if math.isfinite(value)]
    total = mean = m2 = 0.0
    for number, (_, value) in enumerate(finite, start=1):
        total = total + value
        before = value - mean
        mean = mean + before / number
        m2 = m2 + before * (value - mean)
    if finite:
        min_step, least = min(finite, key=lambda one: one[1])
        max_step, greatest = max(finite, key=lambda one: one[1])
    else:
        min_step = max_step = 0
        mean = least = greatest = _NAN
    return Summary(
        count=len(every),
        non_finite=len(every) - len(finite),
        sum=total,
        mean=mean,
        m2=m2,
        min=least,
        min_step=min_step,
        max=greatest,
        max_step=max_step,
        first=every[0][2],
        first_step=every[0][0],
        last=every[-1][2],
        last_step=every[-1][0],
        first_time=every[0][1],
        last_time=every[-1][1],
    )


def summaries_of(frame: SummaryFrame) -> dict[Series, Summary]:
    """The summaries in a frame, by series."""
    keys = map(Series, frame.names, frame.contexts, frame.subjects)
    return {key: Summary(*row) for key, row in zip(keys, zip(*columns_of(frame), strict=True), strict=True)}
