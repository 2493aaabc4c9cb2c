"""Faust's Kafka consumer with two leaks closed, through which a rebalance could lose records for good.

Both were found by killing workers while records flowed, with Faust 0.15.3 and aiokafka 0.14:

- A fetch that is under way when partitions are paused, revoked or assigned hands out records that Faust then drops, while their partition's position has moved on. It reads
  the set of active partitions while others change it; and when that set is empty, aiokafka takes it for "no filter" and hands out records of every partition.
  Here a fetch works on a copy, and what must not be handed out any more is put back: the position returns to where it was, in the same step of the consumer's thread.
- After a recovery Faust seeks every source partition to its committed offset, which is to undo such losses; but aiokafka leaves a partition alone that has no committed
  offset yet. Here such a partition is seeked to its beginning.

And batches of records that expand past a bound are passed over (`bounded_batches`). Nothing else changes. A version of Faust that renames what is overridden here fails the tests
that kill workers.
"""

# Faust's own annotations leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportAny=false, reportIncompatibleMethodOverride=false, reportIncompatibleVariableOverride=false

from __future__ import annotations

import asyncio
from typing import Any

from faust.transport.drivers import aiokafka as driver

from runstream_processors import bounded_batches

_FETCH_S = 0.25  # How long a fetch waits for records: short, since a rebalance waits for it.
_NOTHING_TO_FETCH_S = 0.05


class _Thread(driver.AIOKafkaConsumerThread):
    async def seek_to_committed(self) -> Any:
        """Seeks every source partition to its committed offset, or to its beginning; returns the committed offsets, None where there is none."""
        return await self.call_thread(self._seek_sources)

    async def _seek_sources(self) -> dict[Any, int | None]:
        consumer: Any = self._ensure_consumer()
        changelogs = self.app.tables.changelog_topics
        places = [place for place in consumer.assignment() if place.topic not in changelogs]
        committed: dict[Any, int | None] = {place: await consumer.committed(place) for place in places}
        uncommitted = [place for place in places if not committed[place]]
        starts: dict[Any, int] = await consumer.beginning_offsets(uncommitted) if uncommitted else {}
        for place in places:
            consumer.seek(place, committed[place] or starts[place])
        return committed

    async def _fetch_records(self, consumer: Any, active_partitions: Any, timeout: float | None = None, max_records: int | None = None) -> Any:
        wanted = frozenset(active_partitions or ())
        if not (wanted and self.consumer.flow_active):
            await asyncio.sleep(_NOTHING_TO_FETCH_S)
            return {}
        fetched: Any = await super()._fetch_records(consumer, set(wanted), timeout=min(timeout or _FETCH_S, _FETCH_S), max_records=max_records)
        records: dict[Any, list[Any]] = dict(fetched)
        faust_consumer: Any = self.consumer
        now_active = faust_consumer._get_active_partitions() | faust_consumer._buffered_partitions
        for place in list(records):
            if not faust_consumer.flow_active or place not in now_active:
                if place in consumer.assignment():
                    consumer.seek(place, records[place][0].offset)
                del records[place]
        return records


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> _Thread:
        return _Thread(self, loop=self.loop, beacon=self.beacon)


class Transport(driver.Transport):
    """Faust's transport for Kafka, with the consumer of this module."""

    Consumer = _Consumer

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        bounded_batches.install()
        super().__init__(*args, **kwargs)
