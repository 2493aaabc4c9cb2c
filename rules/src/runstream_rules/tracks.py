"""Tracks: what a rule keeps of the series of one block that it watches, as one matrix of doubles."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Doubles = NDArray[np.float64]
    Places = NDArray[np.int64]

# All tracks of a block go into one entry of the table with it, and an entry into one message. The place of a row counts as one, too.
DOUBLES_MAX = 500_000


class Track(NamedTuple):
    """The series by their places in the block, rising, and a row of state for each."""

    places: Places
    data: Doubles


def empty(width: int) -> Track:
    """A track of no series."""
    return Track(np.empty(0, dtype=np.int64), np.empty((0, width)))


class OpenTrack:
    """A track that is being changed: a copy, with room for new series."""

    __slots__ = ("data", "places")

    def __init__(self, track: Track) -> None:
        self.places = track.places
        self.data: Doubles = track.data.copy()

    def grow(self, places: Places, fresh: Doubles, room: int) -> int:
        """Makes rows for places that have none, in the order given and as long as `room` doubles are left; gives how many doubles that took."""
        missing = places[~np.isin(places, self.places)][: room // (len(fresh) + 1)]
        if not len(missing):
            return 0
        every = np.concatenate((self.places, missing))
        data = np.concatenate((self.data, np.repeat(fresh[None, :], len(missing), axis=0)))
        order = np.argsort(every)
        self.places, self.data = every[order], data[order]
        return len(missing) * (len(fresh) + 1)

    def has(self, places: Places) -> bool:
        """Whether these are just the places of the track, in its order: usual, and then its rows need not be looked for."""
        return len(places) == len(self.places) and bool((places == self.places).all())

    def rows_of(self, places: Places) -> Places:
        """The rows of some places; -1 where there is none."""
        if not len(self.places):
            return np.full(len(places), -1, dtype=np.int64)
        rows = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
        return np.where(self.places[rows] == places, rows, -1)

    def closed(self) -> Track:
        """The track as it is now."""
        return Track(self.places, self.data)
