"""What the tables are verified against: what the topics hold, read through the sinks' own pipeline into a scratch database, or another database."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from runstream_schemas.topics import TOPICS
from runstream_sinks import upkeep
from runstream_sinks.errors import SinksError
from runstream_sinks.kafka_config import sinks_group
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.replay import Stopped, full_names, read_into, replay
from runstream_sinks.replay_plan import Request, fill_group
from runstream_sinks.spans import Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_feed.records import Place
    from runstream_schemas import topics
    from runstream_schemas.settings import Settings
    from runstream_sinks.fill import Caller

SINKS_WAIT_S = 30.0
SINKS_WAIT_INTERVAL_S = 0.2


class StillBehind(SinksError):
    """The sinks have not stored what the other database has already, so nobody can tell what is missing."""


class Other(Protocol):
    """The side that the tables are held against."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def database(self) -> str:
        """The database that it is in."""
        ...

    @property
    def behind(self) -> int:
        """Records that the sinks have not stored yet and that it leaves out."""
        ...

    @property
    def malformed(self) -> int:
        """Records that could not be decoded."""
        ...

    def complete(self, topic: topics.Name) -> bool:
        """Whether it still has everything that ever came by a topic."""
        ...

    @property
    def may_be_ahead(self) -> bool:
        """Whether it may hold, after `begin`, what the sinks have not stored yet."""
        ...

    def begin(self) -> None:
        """Brings it to where it may be compared."""
        ...

    def wait_for_tables(self) -> None:
        """Waits until the sinks have stored everything that it had before the call."""
        ...

    def move_on(self) -> None:
        """Brings it to where it holds everything that the tables had before the call."""
        ...


class Topics:
    """What the topics hold, in a scratch database."""

    name = "topics"
    may_be_ahead = False

    def __init__(self, settings: Settings, names: Sequence[topics.Name], runs: frozenset[str], scratch: str, caller: Caller) -> None:
        self.database = scratch
        self.behind = 0
        self.malformed = 0
        self._settings = settings
        self._names = names
        self._runs = runs
        self._caller = caller
        self._reader = Reader(settings, f"{settings.topic_prefix}-verify")
        self._places = self._reader.places(full_names(names, settings))
        self._limits = self._reader.limits(self._places)
        self._filled = {place: low for place, (low, _) in self._limits.items()}

    def complete(self, topic: topics.Name) -> bool:
        """Not where retention or compaction has removed records."""
        name = TOPICS[topic].full_name(self._settings.topic_prefix)
        return not TOPICS[topic].compacted and all(low == 0 for place, (low, _) in self._limits.items() if place.topic == name)

    def begin(self) -> None:
        """Reads what the sinks have stored by now."""
        # On one node even where the live tables are on a cluster: nobody reads these but the node that compares.
        upkeep.apply(self._settings.clickhouse_url, self.database, upkeep.todo(self._settings.clickhouse_url, self.database, upkeep.Wishes()))
        stored = stored_offsets(self._settings, self._places)
        self._limits = self._reader.limits(self._places)
        self.behind = sum(max(0, high - max(low, stored.get(place, 0))) for place, (low, high) in self._limits.items())
        self._fill({place: stored.get(place, 0) for place in self._places})

    def wait_for_tables(self) -> None:
        """There is nothing to wait for."""

    def move_on(self) -> None:
        """Reads all that has come by now."""
        self._fill({place: high for place, (_, high) in self._reader.limits(self._places).items()})

    def close(self) -> None:
        """Lets the connection go."""
        self._reader.close()

    def _fill(self, ends: Mapping[Place, int]) -> None:
        self._reader.start({place: Span(first, max(first, ends[place])) for place, first in self._filled.items()})
        self._filled = {place: max(first, ends[place]) for place, first in self._filled.items()}
        self.malformed += read_into(self._settings, self._reader, self.database, self._runs, self._caller).malformed.total()


class Database:
    """Another database with the same tables; if `replay --into` fills it, it can be moved on."""

    behind = 0
    malformed = 0
    # A replay may be filling it now, and be quicker than the sinks.
    may_be_ahead = True

    def __init__(self, settings: Settings, names: Sequence[topics.Name], database: str, caller: Caller) -> None:
        self.name = self.database = database
        self._settings = settings
        self._caller = caller
        self._names = names
        self._filled: list[topics.Name] = []
        self._places: list[Place] = []

    def complete(self, topic: topics.Name) -> bool:
        """Always: a row that it lacks would be lost if it took the place of the live tables."""
        del topic
        return True

    def begin(self) -> None:
        """Looks which topics a replay fills it from."""
        reader = Reader(self._settings, fill_group(self._settings, self.database))
        try:
            for name in self._names:
                places = reader.places(full_names([name], self._settings))
                if reader.kept(places):
                    self._filled.append(name)
                    self._places += places
        finally:
            reader.close()

    def wait_for_tables(self) -> None:
        """Waits until the sinks have passed the ends of now of the topics that it is filled from."""
        reader = Reader(self._settings, f"{self._settings.topic_prefix}-verify")
        try:
            ends = {place: high for place, (low, high) in reader.limits(self._places).items() if high > low}
        finally:
            reader.close()
        deadline = time.monotonic() + SINKS_WAIT_S
        while behind := _behind(ends, stored_offsets(self._settings, list(ends))) if ends else 0:
            if self._caller.asked():
                raise Stopped
            if time.monotonic() > deadline:
                raise StillBehind(f"the sinks have {behind} records still to store that {self.database} may have already: let them catch up, then verify again")
            time.sleep(SINKS_WAIT_INTERVAL_S)

    def move_on(self) -> None:
        """Goes on with the replay that fills it, if there is one."""
        if self._filled and not replay(self._settings, Request(topics=tuple(self._filled), into=self.database), self._caller).complete:
            raise Stopped


def _behind(filled: Mapping[Place, int], stored: Mapping[Place, int]) -> int:
    return sum(max(0, offset - stored.get(place, 0)) for place, offset in filled.items())


def stored_offsets(settings: Settings, places: Sequence[Place]) -> dict[Place, int]:
    """How far the sinks have stored each partition: everything before is in the live tables."""
    reader = Reader(settings, sinks_group(settings))
    try:
        return {place: kept.offset for place, kept in reader.kept(places).items()}
    finally:
        reader.close()
