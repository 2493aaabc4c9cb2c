"""Tracks: what a rule keeps of the series of one block that it watches, as one matrix of doubles."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules.series import BLOCK_SERIES_MAX

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Places = NDArray[np.int64]

# All tracks of a block go into one entry of the table with it, and an entry into one message.
DOUBLES_MAX = 500_000


class Track(NamedTuple):
    """The series by their places in the block, rising, and a row of state for each."""

    places: Places
    data: Doubles


class OpenTrack:
    """A track that is being changed: copies, with room for new series."""

    __slots__ = ("_rows", "data", "places")

    def __init__(self, track: Track | None, width: int) -> None:
        self._rows = np.full(BLOCK_SERIES_MAX, -1, dtype=np.int64)
        if track is None:
            self.places: Places = np.empty(0, dtype=np.int64)
            self.data: Doubles = np.empty((0, width))
        else:
            self.places, self.data = track.places, track.data.copy()
            self._rows[self.places] = np.arange(len(self.places))

    def rows_of(self, places: Places, fresh: Doubles, room: int) -> tuple[Places, int]:
        """The rows of some places, made where they are missing and as long as `room` doubles are left; -1 where there was none left. And how many doubles that took."""
        rows = self._rows[places]
        missing = places[rows < 0]
        if not len(missing):
            return rows, 0
        chosen = missing[: room // max(len(fresh), 1)]
        if len(chosen):
            start = len(self.places)
            self.places = np.concatenate((self.places, chosen))
            self.data = np.concatenate((self.data, np.repeat(fresh[None, :], len(chosen), axis=0)))
            self._rows[chosen] = np.arange(start, len(self.places))
            rows = self._rows[places]
        return rows, len(chosen) * len(fresh)

    def closed(self) -> Track:
        """The track as it is now."""
        if (self.places[1:] < self.places[:-1]).any():
            order = np.argsort(self.places)
            return Track(self.places[order], self.data[order])
        return Track(self.places, self.data)
