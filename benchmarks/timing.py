"""Timing of things that are compared: turn by turn in one run, since a shared machine is faster at one moment than at the next."""

from __future__ import annotations

import math
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS_MIN = 25


def by_turns(blocks: Sequence[Callable[[], None]], *, seconds: float, rounds_max: int = 1_000_000) -> list[list[int]]:
    """Runs the blocks by turns, A B A B, for about `seconds` and at least 25 rounds, after one round that does not count; nanoseconds of each run by block.

    A block should take at least some 20 µs, so that reading the clock does not count, and is a handful of calls of one thing: what ran just before has its
    data in the caches, and in real use that is the same thing.
    """
    for block in blocks:
        block()
    taken: list[list[int]] = [[] for _ in blocks]
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < rounds_max and (rounds < ROUNDS_MIN or time.perf_counter() < end):
        for block, times in zip(blocks, taken, strict=True):
            start = time.perf_counter_ns()
            block()
            times.append(time.perf_counter_ns() - start)
        rounds += 1
    return taken


def median_us(times_ns: Sequence[int], calls: int) -> float:
    """Median microseconds a call of blocks that make `calls` of them."""
    return statistics.median(times_ns) / calls / 1000


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest of the values that this share of them does not exceed; none is left out and none is made up between two."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Middle(NamedTuple):
    """A median, and how far the true one may be from it, on the wider side, with 95 % confidence."""

    median: float
    margin: float


def middle(values: Sequence[float]) -> Middle:
    """The median with its margin, which comes from ranks alone, so that it holds whatever the machine's other work does to some of the values."""
    ordered = sorted(values)
    n = len(ordered)
    median = statistics.median(ordered)
    reach = math.ceil(0.98 * math.sqrt(n))  # A count of n fair coins is within 1.96 * sqrt(n) / 2 of its middle 95 times of 100.
    low, high = ordered[max(0, n // 2 - reach)], ordered[min(n - 1, n // 2 + reach)]
    return Middle(median, max(median - low, high - median))
