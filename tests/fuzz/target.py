"""What a target of fuzzing is. Which there are, `targets` says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class BrokenPromise(AssertionError):
    """An invariant does not hold for an input; the message says which."""


@dataclass(frozen=True, slots=True)
class Target:
    """One way in: `check` takes any bytes and raises where a promise is broken. `seeds` are valid inputs, `bytes_max` is how long inputs get."""

    name: str
    promise: str
    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    bytes_max: int


def hold(fact: bool, promise: str) -> None:
    """Raises BrokenPromise unless a fact holds; not `assert`, which a run with -O would leave out."""
    if not fact:
        raise BrokenPromise(promise)
