"""Which alerts are done with, in the order of their topic: an offset is safe to commit once every alert before it has an outcome that Kafka holds. Pure."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection


class Ledger:
    """Offsets by partition, with how many outcomes each still waits for."""

    def __init__(self) -> None:
        self._open: dict[int, OrderedDict[int, int]] = {}
        self._next: dict[int, int] = {}
        self._committed: dict[int, int] = {}

    def begin(self, partition: int, offset: int) -> None:
        """Notes a record that was read; it is held until `expect` says how many outcomes it will have, since some may be there before."""
        self._next[partition] = offset + 1
        self._open.setdefault(partition, OrderedDict())[offset] = 1

    def expect(self, partition: int, offset: int, outcomes: int) -> None:
        """Says how many outcomes a record will have, those counted that are there already."""
        self._open[partition][offset] += outcomes
        self.done(partition, offset)

    def done(self, partition: int, offset: int) -> None:
        """Notes that Kafka holds one outcome; what is not known (any more) is left alone."""
        waiting = self._open.get(partition, OrderedDict())
        if offset in waiting:
            waiting[offset] -= 1
            if waiting[offset] <= 0:
                del waiting[offset]

    def safe(self) -> dict[int, int]:
        """Offsets to commit, by partition, where they moved since they were last handed out."""
        at = {partition: next(iter(self._open.get(partition) or ()), following) for partition, following in self._next.items()}
        moved = {partition: offset for partition, offset in at.items() if offset > self._committed.get(partition, -1)}
        self._committed |= moved
        return moved

    def forget(self, partitions: Collection[int]) -> None:
        """Lets go of partitions that are somebody else's now."""
        for partition in partitions:
            for kept in (self._open, self._next, self._committed):
                kept.pop(partition, None)
