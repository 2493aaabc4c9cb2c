"""How far behind a worker is, in records and in seconds, and whether it gets on at all. Pure: offsets and times go in, figures and a verdict come out.

What waits in a partition lies between the offset before which everything is stored and the partition's end, which somebody asks Kafka for now and then. How old the
oldest of it is nobody knows before it is read: it came after the last moment at which nothing waited, and after the record that was read last when something was stored
last, give or take what was in flight then. Sinks and processors judge themselves by it alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The ends of partitions are asked for every few seconds.
ENDS_S_MAX = 60.0


class _Place(Protocol):
    """A partition, in whatever type a worker has for it."""

    @property
    def topic(self) -> str: ...

    @property
    def partition(self) -> int: ...


P = TypeVar("P", bound=_Place)


class Lag(NamedTuple):
    """How far behind one partition is: records that are not stored yet, how old the oldest of them may be, and for how long nothing has got on while they waited."""

    records: int
    seconds: float
    still_s: float


@dataclass(slots=True)
class _Partition:
    """What is known of one partition; all times are of one monotonic clock."""

    since: float  # Nothing waited at this time, or before it nobody here was responsible.
    moved: float  # It got on at this time, or had nothing to do.
    position: int | None = None
    newest: float | None = None  # When the record was written that had been read last when it last got on.
    end: int | None = None


class Lags(Generic[P]):
    """The lags of the partitions that a worker owns."""

    def __init__(self, now: float) -> None:
        self._partitions: dict[P, _Partition] = {}
        self._ends_at = now
        self._was_assigned = False

    def assigned(self, places: Iterable[P], now: float) -> None:
        """The worker has these partitions from now on."""
        self._was_assigned = True
        if not self._partitions:
            self._ends_at = now  # Nobody asked while there was nothing to ask for.
        for place in places:
            self._partitions[place] = _Partition(now, now)

    def revoked(self, places: Iterable[P]) -> None:
        """They are another's now."""
        for place in places:
            self._partitions.pop(place, None)

    @property
    def places(self) -> list[P]:
        """The partitions that the worker has."""
        return list(self._partitions)

    def stored(self, offsets: Mapping[P, int], newest: Mapping[P, float], now: float) -> None:
        """Everything before these offsets is stored; `newest` is when the record of each partition was written that was read last."""
        for place, offset in offsets.items():
            one = self._partitions.get(place)
            if one is not None and one.position != offset:
                one.position, one.moved = offset, now
                one.newest = newest.get(place, one.newest)
                self._look(one, now)

    def ends(self, ends: Mapping[P, int], positions: Mapping[P, int], now: float) -> None:
        """Kafka said at this time where partitions end; `positions` are the group's offsets, which count where nothing was stored yet."""
        self._ends_at = now
        for place, end in ends.items():
            one = self._partitions.get(place)
            if one is not None:
                one.end = end
                if one.position is None:
                    one.position = positions.get(place)
                self._look(one, now)

    def _look(self, one: _Partition, now: float) -> None:
        if one.end is not None and one.position is not None and one.position >= one.end:
            one.since = one.moved = now

    def lags(self, now: float) -> dict[P, Lag]:
        """The lag of each partition whose end and position are known."""
        out: dict[P, Lag] = {}
        for place, one in self._partitions.items():
            if one.end is None or one.position is None:
                continue
            records = max(0, one.end - one.position)
            since = one.since if one.newest is None else max(one.since, one.newest)
            out[place] = Lag(records, max(0.0, now - since) if records else 0.0, max(0.0, now - one.moved) if records else 0.0)
        return out

    def trouble(self, now: float, still_s_max: float) -> str:
        """Why this worker does not get on, in one sentence; empty when it does."""
        if not self._was_assigned:
            return "the worker is not in its group yet: its log says what it waits for"
        if self._partitions and now - self._ends_at > ENDS_S_MAX:
            return f"kafka has not said for {now - self._ends_at:.0f} s where the partitions end"
        still = [(lag.still_s, place, lag.records) for place, lag in self.lags(now).items() if lag.still_s > still_s_max]
        if not still:
            return ""
        seconds, place, records = max(still)
        return (
            f"{len(still)} of {len(self._partitions)} partitions stand still while records wait, partition {place.partition} of {place.topic} "
            f"for {seconds:.0f} s with {records} records: the log says why"
        )
