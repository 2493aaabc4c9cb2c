"""Timing of things that are compared: turn by turn in one run, since a shared machine is faster at one moment than at the next."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

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
