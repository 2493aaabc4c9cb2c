"""Back-pressure instead of memory: when to take no more from Kafka, and when to have it fetch no more either. Pure: time is an argument.

A pause throws away what was fetched ahead, which must then be fetched again. So a worker that is only faster than ClickHouse for a moment leaves the records where they
are and comes back; only if it takes longer are the partitions paused, and polled meanwhile, so that the group is kept.
"""

from __future__ import annotations

PATIENCE_S = 1.0


class Pressure:
    """Full once there are `nbytes_max`, until half of that is gone."""

    def __init__(self, nbytes_max: int) -> None:
        self._nbytes_max = nbytes_max
        self._full_since: float | None = None

    def look(self, nbytes: int, now: float) -> None:
        """Notes how much there is."""
        if nbytes <= self._nbytes_max // 2:
            self._full_since = None
        elif nbytes >= self._nbytes_max and self._full_since is None:
            self._full_since = now

    def holds(self, now: float) -> bool:
        """Whether to take nothing for a moment."""
        return self._full_since is not None and not self.pauses(now)

    def pauses(self, now: float) -> bool:
        """Whether to fetch nothing, and poll all the same."""
        return self._full_since is not None and now - self._full_since >= PATIENCE_S
