"""Faust, held at arm's length: streams of takes, a table for each source topic, and the group they are shared out in.

With the other modules named `faust_…` the only one that touches Faust. What is done with a take is the pipeline's; here are the facts of Faust that keep its order true, each tried:

- Records come through `noack_take` and are acknowledged together, once what they changed is stored, in their order and without an `await` between them: Faust would
  otherwise commit past a record that is still in flight.
- The table is written with its own acknowledged sends and never through `table[key] = value`, which only queues the changelog record. Entries go to the partition that
  the writer's frames come from, so that they are recovered together whichever partitioner the producers use.
- When partitions are taken away, the handler of that signal lets the take that is being worked on come to its end, stores what was taken, and ends the generation (bounded);
  takes of an ended generation are dropped unacknowledged, since their records come again to whoever owns them now. Only the generation tells: while `app.rebalancing` is still
  true, the first records of the new generation may be on their way already, and dropping those would lose them.
- A table in memory forgets the partitions that left only for keys that came from its changelog; what is stored here is noted with its partition, so that it goes too.
- When a recovery ends, Faust lets source partitions flow before it has seeked them to their committed offsets, and then loses what it handed out in between (tried: one
  record in some restarts). So the flow is stopped when recovery says that it is complete; Faust resumes it after the seek. `faust_transport` closes two more leaks.
- No offset may be left out: before a take is worked on, its offsets must follow on the last ones, or on the committed offset. If they do not, the process ends with
  nothing of it acknowledged, and the records are read again.
- A process that was frozen past its session timeout has lost its partitions without knowing it, and would set state back when it wakes. It notices by its clock, and
  ends.
- Nothing stops the app from inside an agent (that hangs): a failure is kept, and the process's main task stops the app and ends with it.
"""

# Faust's own annotations leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportAny=false

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import faust

from runstream_processors import faust_leader
from runstream_processors.engine import Entry, Place, Received
from runstream_processors.errors import EngineFailed
from runstream_processors.faust_options import options
from runstream_processors.faust_ports import FaustPorts
from runstream_processors.faust_transport import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runstream_feed.connection import Connection
    from runstream_processors.faust_options import Timing
    from runstream_processors.pipeline import Ports

logger = logging.getLogger(__name__)


class Stage(Protocol):
    """What is done with the records of a source: see `pipeline.Stage`, which is the only one outside of tests."""

    async def take(self, records: Sequence[Received], ports: Ports) -> bool:
        """Handles a take of records."""
        ...

    async def tick(self, ports: Ports, *, hears: bool) -> None:
        """Does what time brings."""
        ...

    @property
    def due(self) -> bool:
        """Whether it is time to store."""
        ...

    async def store(self, ports: Ports) -> bool:
        """Stores what was taken, which may then be acknowledged."""
        ...

    def forget(self) -> None:
        """Partitions came or went."""
        ...

    def recovered(self, entries: Sequence[Entry]) -> None:
        """The table has been read anew."""
        ...


@dataclass(frozen=True, slots=True)
class Source:
    """One topic to work on."""

    name: str
    topic: str
    partitions: int
    stage: Stage


@dataclass(slots=True)
class _Work:
    """A source while it runs: its table, what was taken and is not acknowledged yet, and since when all that was there has been read."""

    source: Source
    table: Any
    pending: list[Any] = field(default_factory=list[Any])
    pending_bytes: int = 0
    state_bytes: int = 0
    generation: int | None = None
    ends: dict[Any, int] = field(default_factory=dict[Any, int])
    heard_s: float = float("-inf")

    def grew(self, by: int) -> None:
        """The table has so many more bytes of keys and values."""
        self.state_bytes += by


def changelog_of(group: str, source: str) -> str:
    """The name that Faust gives a table's changelog."""
    return f"{group}-{source}-changelog"


class FaustRunner:
    """Runs sources in one consumer group until stopped. `failed` is set, with the reason in `failure`, when it cannot go on."""

    def __init__(self, connection: Connection, group: str, sources: Sequence[Source], timing: Timing, scratch: Path) -> None:
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None
        self._timing = timing
        self._stopping = False
        self._leaving: int | None = None
        self._pulse_s = _clock_s()
        self._ended_generation: int | None = None
        self._next_offsets: dict[Any, int] = {}
        self._starts: dict[Place, int] = {}
        self.counts: Counter[tuple[str, str]] = Counter()
        self.ends: dict[Place, int] = {}
        self.ends_at_s = 0.0
        self.newest_s: dict[Place, float] = {}
        self._moved_s = _clock_s()
        self._left: int | None = -1  # Of changelogs at the last look; None while there is nothing to recover.
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._app: Any = faust.App(group, **options(connection, timing, scratch))
        self._app.transport = Transport(self._app.conf.broker_consumer, self._app)
        self._app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        self._app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        self._app.on_rebalance_complete.connect(self._on_recovered, weak=False)
        self._works = [self._add(source) for source in sources]
        faust_leader.guard(
            self._app.assignor, {name for work in self._works for name in (work.source.topic, work.table.changelog_topic_name)}, self._fail_from_outside
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._beats: list[asyncio.Task[None]] = []
        self._app.finalize()

    async def start(self) -> None:
        """Joins the group and recovers the tables; returns when records are being taken, or when the app stopped."""
        self._pulse_s = _clock_s()
        self._loop = asyncio.get_running_loop()
        self._beats = [asyncio.create_task(self._beat(work)) for work in self._works]
        await self._app.start()

    @property
    def ready(self) -> bool:
        """Whether the tables are recovered and records flow."""
        return self._app.tables.recovery.completed.is_set() and not self._app.rebalancing

    @property
    def acknowledged(self) -> dict[Place, int]:
        """Of each source partition that is this worker's, the offset before which all is committed."""
        consumer = self._app.consumer
        topics = {work.source.topic for work in self._works}
        places = [Place(one.topic, one.partition) for one in consumer.assignment() if one.topic in topics]
        return {place: consumer._committed_offset.get(place) or self._starts.get(place, 0) for place in places}

    @property
    def state_bytes(self) -> dict[str, int]:
        """Bytes of keys and values in this worker's tables, by source."""
        return {work.source.name: work.state_bytes for work in self._works}

    @property
    def pending_bytes(self) -> dict[str, int]:
        """Bytes of records that are taken and not acknowledged yet, by source."""
        return {work.source.name: work.pending_bytes for work in self._works}

    def pulse(self) -> None:
        """Says that the event loop runs; to be called several times a second."""
        if self._still():
            self._pulse_s = _clock_s()

    async def check_progress(self) -> None:
        """Fails the runner when records have waited for `stuck_s` without a take; to be called every few seconds. Blocks at most twice `call_timeout_s`.

        Faust can stop handing out records without a word; that is seen by offsets that do not move, and by nothing else. While tables are recovered, which takes as long as they are
        large, it is the changelogs that must move.
        """
        try:
            behind = await self._behind()
        except Exception as error:  # noqa: BLE001  # no answer says nothing about progress, whatever the reason
            logger.info("progress unknown", extra={"reason": repr(error)})
            return
        now_s = _clock_s()
        left = None if self.ready else self._app.tables.recovery.active_remaining_total()
        if not behind or self._busy or left != self._left:
            self._moved_s, self._left = now_s, left
        elif now_s - self._moved_s > self._timing.stuck_s:
            self._fail(EngineFailed(f"{behind} records have waited for {now_s - self._moved_s:.0f} s and none is handed over"))

    @property
    def stopped(self) -> bool:
        """Whether Faust has stopped or crashed by itself."""
        return bool(self._app.should_stop or self._app.crashed)

    async def stop(self, timeout_s: float) -> None:
        """Lets the takes that are being worked on finish, stores what was taken, commits and leaves the group; gives up after `timeout_s`."""
        deadline = asyncio.get_running_loop().time() + timeout_s
        self._leaving = self._app.consumer_generation_id
        await self._until_idle(timeout_s / 4)
        await self._store_all(timeout_s / 4)
        self._stopping = True
        for beat in self._beats:
            beat.cancel()
        left = max(deadline - asyncio.get_running_loop().time(), 0.5)
        try:
            await asyncio.wait_for(self._app.stop(), left)
        except TimeoutError:
            logger.warning("stopping took too long", extra={"timeout_s": timeout_s})

    def _add(self, source: Source) -> _Work:
        table = self._app.Table(source.name, partitions=source.partitions, key_type=bytes, value_type=bytes, use_partitioner=True)
        topic = self._app.topic(source.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True)
        work = _Work(source, table)

        async def agent(stream: Any) -> None:
            async for events in stream.noack_take(self._timing.take_records_max, within=self._timing.take_within_s):
                await self._take(work, events)

        self._app.agent(topic, name=f"{source.name}-agent", concurrency=1)(agent)
        return work

    async def _take(self, work: _Work, events: Sequence[Any]) -> None:
        generation = self._app.consumer_generation_id
        ports = FaustPorts(self._app, work.table, lambda: self._owned(generation) and self._leaving != generation, work.grew)
        events = [event for event in events if event.message.generation_id == generation]
        if not events or not ports.owned():
            return
        self._busy += 1
        self._idle.clear()
        try:
            self._recover(work, generation)
            records = [Received(work.source.topic, one.partition, one.offset, one.key, one.value) for one in (event.message for event in events)]
            await self._check_offsets([event.message for event in events])
            self._note(work, events)
            if await work.source.stage.take(records, ports) and self._owned(generation):
                work.pending += events
                work.pending_bytes += sum(len(record.value or b"") for record in records)
            if work.pending_bytes > self._timing.pending_bytes_max:
                await self._store(work)
        except Exception as error:  # whatever it is, nothing may be acknowledged after it: the process ends
            logger.exception("take failed")
            self._fail(error)
        finally:
            self._busy -= 1
            self._moved_s = _clock_s()
            if not self._busy:
                self._idle.set()

    async def _beat(self, work: _Work) -> None:
        """Lets a source know that time passes, and stores what it took when that is due."""
        while True:
            await asyncio.sleep(self._timing.beat_s)
            generation = self._app.consumer_generation_id
            if not self.ready or not self._owned(generation) or self._leaving == generation:
                continue
            try:
                self._recover(work, generation)
                hears = _clock_s() - work.heard_s < self._timing.hears_s
                await work.source.stage.tick(self._ports(work, generation), hears=hears)
                if work.source.stage.due:
                    await self._store(work)
            except Exception as error:  # as in a take
                logger.exception("beat failed")
                self._fail(error)
                return

    async def _store(self, work: _Work) -> None:
        """Stores what was taken and acknowledges it."""
        generation = self._app.consumer_generation_id
        taken, work.pending, work.pending_bytes = work.pending, [], 0
        stored = await work.source.stage.store(self._ports(work, generation))
        if stored and self._owned(generation):
            self.counts["stores", work.source.name] += 1
            for event in taken:
                event.ack()

    def _note(self, work: _Work, events: Sequence[Any]) -> None:
        """Counts records, and notes when the newest of each partition was written."""
        self.counts["records", work.source.name] += len(events)
        now_s, wall_s = time.monotonic(), time.time()
        for message in {event.message.tp: event.message for event in events}.values():
            self.newest_s[Place(*message.tp)] = now_s - max(0.0, wall_s - (message.timestamp or wall_s))

    def _ports(self, work: _Work, generation: int) -> FaustPorts:
        return FaustPorts(self._app, work.table, lambda: self._owned(generation), work.grew)

    async def _store_all(self, timeout_s: float) -> None:
        """Stores what all sources have taken, if there is time."""
        try:
            await asyncio.wait_for(asyncio.gather(*(self._store(work) for work in self._works)), timeout_s)
        except TimeoutError:
            logger.warning("what was taken is read again: storing it took too long", extra={"timeout_s": timeout_s})
        except Exception as error:  # as in a take
            logger.exception("storing failed")
            self._fail(error)

    def _recover(self, work: _Work, generation: int) -> None:
        """Tells a source, once in a generation, what its table holds of the partitions that are this worker's."""
        if work.generation == generation or not self._app.tables.recovery.completed.is_set():
            return
        work.generation = generation
        store = work.table.data
        own = {place.partition for place in self._app.consumer.assignment() if place.topic == work.source.topic}
        partitions = store._key_partition
        work.state_bytes = sum(len(key) + len(value) for key, value in store.data.items())
        work.source.stage.recovered([Entry(partitions[key], key, value) for key, value in store.data.items() if partitions.get(key) in own])

    async def _behind(self) -> int:
        """Records of this worker's source partitions that no take has had. Notes which sources have had all that was there at the last call."""
        consumer = self._app.consumer
        topics = {work.source.topic for work in self._works}
        places = [place for place in consumer.assignment() if place.topic in topics]
        if not places:
            return 0
        ends = await asyncio.wait_for(consumer.highwaters(*places), self._timing.call_timeout_s)
        starts = await asyncio.wait_for(consumer.earliest_offsets(*places), self._timing.call_timeout_s)
        self._starts = {Place(*place): offset or 0 for place, offset in starts.items()}
        self.ends, self.ends_at_s = {Place(*place): offset or 0 for place, offset in ends.items()}, time.monotonic()
        reached = {place: max(self._next_offset(place), starts.get(place) or 0) for place in places}
        for work in self._works:
            own = [place for place in places if place.topic == work.source.topic]
            if own and all(place in work.ends and reached[place] >= work.ends[place] for place in own):
                work.heard_s = _clock_s()
            work.ends = {place: ends.get(place) or 0 for place in own}
        return sum(max((ends.get(place) or 0) - reached[place], 0) for place in places)

    def _next_offset(self, place: Any) -> int:
        known = self._next_offsets.get(place)
        return known if known is not None else self._app.consumer._committed_offset.get(place) or 0

    async def _check_offsets(self, messages: Sequence[Any]) -> None:
        """Raises EngineFailed when a record of a partition was left out; repeats are fine."""
        consumer = self._app.consumer
        for message in messages:
            expected = self._next_offset(message.tp)
            if message.offset > expected:
                earliest = (await consumer.earliest_offsets(message.tp)).get(message.tp)
                if earliest is None or message.offset > max(earliest, expected):
                    raise EngineFailed(f"{message.tp} goes on at offset {message.offset}, expected {expected}: records in between were not handed over")
            self._next_offsets[message.tp] = max(expected, message.offset + 1)

    def _owned(self, generation: int) -> bool:
        """Whether partitions of a generation are still this worker's, as far as it can know."""
        ended = generation != self._app.consumer_generation_id or generation == self._ended_generation
        return not (ended or self._stopping or self.failed.is_set()) and self._still()

    def _still(self) -> bool:
        """Whether the event loop has not stood still too long; fails the runner if it has."""
        stood_s = _clock_s() - self._pulse_s
        if stood_s > self._timing.frozen_s:
            self._fail(EngineFailed(f"the process stood still for {stood_s:.1f} s, long enough to have lost its partitions"))
        return not self.failed.is_set()

    def _fail_from_outside(self, error: BaseException) -> None:
        """Fails the runner from another thread; before it has begun, nobody has asked."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._fail, error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.failed.set()

    async def _until_idle(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            logger.warning("a take is still being worked on", extra={"waited_s": timeout_s})

    async def _on_revoked(self, *_args: Any, **_named: Any) -> None:
        generation = self._app.consumer_generation_id
        self.counts["rebalances", "revoked"] += 1
        self._leaving = generation
        await self._until_idle(self._timing.revoke_wait_s / 2)
        await self._store_all(self._timing.revoke_wait_s / 2)
        self._ended_generation = generation
        await self._until_idle(self._timing.revoke_wait_s / 2)

    async def _on_recovered(self, *_args: Any, **_named: Any) -> None:
        self._app.consumer.stop_flow()
        self._app.flow_control.suspend()

    async def _on_assigned(self, *_args: Any, **_named: Any) -> None:
        self.counts["rebalances", "assigned"] += 1
        self._next_offsets.clear()
        self.newest_s.clear()
        self._moved_s = _clock_s()
        for work in self._works:
            work.pending, work.pending_bytes, work.generation = [], 0, None
            work.ends.clear()
            work.heard_s = float("-inf")
            work.source.stage.forget()


def _clock_s() -> float:
    """Seconds that count while the machine sleeps too, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
