"""What stands between who fetches and who reads: the partitions, whose turn it is, and what went wrong. All of it is used under its lock."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runstream_feed.options import Trouble
    from runstream_feed.partition import Partition
    from runstream_feed.records import Place, Record

_TROUBLES_MAX = 20


class Shelf:
    """The lock is the condition `changed`, of which whoever reads is told when there may be more for it."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.partitions: dict[Place, Partition] = {}
        self.troubles: deque[Trouble] = deque(maxlen=_TROUBLES_MAX)
        self.refused: str | None = None
        self.closing = False
        self._turns: deque[Partition] = deque()

    def put(self, one: Partition) -> None:
        """Reads a partition, in place of what stood for it."""
        self.drop(one.place)
        self.partitions[one.place] = one

    def drop(self, place: Place) -> None:
        """Reads it no more."""
        one = self.partitions.pop(place, None)
        if one is not None and one in self._turns:
            self._turns.remove(one)

    def has(self, one: Partition) -> bool:
        """Whether it is read still: it may have been dropped while somebody asked about it."""
        return self.partitions.get(one.place) is one

    def ready(self, one: Partition) -> None:
        """It may have records for whoever reads."""
        if one.is_ready and one not in self._turns:
            self._turns.append(one)

    def was_served(self, one: Partition) -> None:
        """Goes to the end of the partitions, since brokers fill their answers from the beginning of what they are asked for."""
        self.partitions[one.place] = self.partitions.pop(one.place)

    def take(self, out: list[Record], records_max: int, bytes_max: int) -> int:
        """Adds records to `out` up to one of the bounds, as far as there are; gives their bytes."""
        taken = 0
        while self._turns and len(out) < records_max and taken < bytes_max:
            # One whose batch is open goes first, so that never more than one is.
            one = self._turns[0]
            taken += one.take(out, records_max, bytes_max - taken)
            if not one.is_open:
                self._turns.popleft()
                self.ready(one)
        return taken

    def pause(self, one: Partition, *, paused: bool) -> None:
        """Hands out nothing of it, or does so again."""
        if not paused:
            one.paused = False
            self.ready(one)
            return
        one.pause()
        if one in self._turns:
            self._turns.remove(one)
