"""Faust, held at arm's length: streams of takes, a table for each source topic, and the group they are shared out in.

With `faust_options` and `faust_transport` the only module that touches Faust. What is done with a take is the pipeline's; here are the facts of Faust that keep its order true, each tried:

- Records come through `noack_take` and are acknowledged together, in their order and without an `await` between them: Faust would otherwise commit past a record
  that is still in flight.
- The table is written with its own acknowledged sends and never through `table[key] = value`, which only queues the changelog record. Entries go to the partition that
  the writer's frames come from, so that they are recovered together whichever partitioner the producers use.
- When partitions are taken away, the handler of that signal ends the generation and waits for the take that is being worked on (bounded); takes of an ended generation
  are dropped unacknowledged, since their records come again to whoever owns them now. Only the generation tells: while `app.rebalancing` is still true, the first
  records of the new generation may be on their way already, and dropping those would lose them.
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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import faust

from runstream_processors.engine import Entry, Output, Received
from runstream_processors.errors import EngineFailed
from runstream_processors.faust_options import options
from runstream_processors.faust_transport import Transport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from runstream_processors.connection import Connection
    from runstream_processors.faust_options import Timing
    from runstream_processors.pipeline import Ports

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Source:
    """One topic to work on: `handle` takes a take of records, and says whether they may be acknowledged; `forget` is told when partitions came or went."""

    name: str
    topic: str
    partitions: int
    handle: Callable[[Sequence[Received], Ports], Awaitable[bool]]
    forget: Callable[[], None]


def changelog_of(group: str, source: str) -> str:
    """The name that Faust gives a table's changelog."""
    return f"{group}-{source}-changelog"


class FaustRunner:
    """Runs sources in one consumer group until stopped. `failed` is set, with the reason in `failure`, when it cannot go on."""

    def __init__(self, connection: Connection, group: str, sources: Sequence[Source], timing: Timing, scratch: Path) -> None:
        self.failed = asyncio.Event()
        self.failure: BaseException | None = None
        self._timing = timing
        self._sources = sources
        self._stopping = False
        self._pulse_s = _clock_s()
        self._ended_generation: int | None = None
        self._next_offsets: dict[Any, int] = {}
        self._moved_s = _clock_s()
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._app: Any = faust.App(group, **options(connection, timing, scratch))
        self._app.transport = Transport(self._app.conf.broker_consumer, self._app)
        self._app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        self._app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        self._app.on_rebalance_complete.connect(self._on_recovered, weak=False)
        for source in sources:
            self._add(source)
        self._app.finalize()

    async def start(self) -> None:
        """Joins the group and recovers the tables; returns when records are being taken, or when the app stopped."""
        self._pulse_s = _clock_s()
        await self._app.start()

    @property
    def ready(self) -> bool:
        """Whether the tables are recovered and records flow."""
        return self._app.tables.recovery.completed.is_set() and not self._app.rebalancing

    def pulse(self) -> None:
        """Says that the event loop runs; to be called several times a second."""
        if self._still():
            self._pulse_s = _clock_s()

    async def check_progress(self) -> None:
        """Fails the runner when records have waited for `stuck_s` without a take; to be called every few seconds. Blocks at most twice `call_timeout_s`.

        Faust can stop handing out records without a word; that is seen by offsets that do not move, and by nothing else.
        """
        try:
            behind = await self._behind()
        except Exception as error:  # noqa: BLE001  # no answer says nothing about progress, whatever the reason
            logger.info("progress unknown", extra={"reason": repr(error)})
            return
        now_s = _clock_s()
        if not behind or self._busy:
            self._moved_s = now_s
        elif now_s - self._moved_s > self._timing.stuck_s:
            self._fail(EngineFailed(f"{behind} records have waited for {now_s - self._moved_s:.0f} s and none is handed over"))

    @property
    def stopped(self) -> bool:
        """Whether Faust has stopped or crashed by itself."""
        return bool(self._app.should_stop or self._app.crashed)

    async def stop(self, timeout_s: float) -> None:
        """Lets the takes that are being worked on finish, commits and leaves the group; gives up after `timeout_s`."""
        self._stopping = True
        deadline = asyncio.get_running_loop().time() + timeout_s
        await self._until_idle(timeout_s / 2)
        left = max(deadline - asyncio.get_running_loop().time(), 0.5)
        try:
            await asyncio.wait_for(self._app.stop(), left)
        except TimeoutError:
            logger.warning("stopping took too long", extra={"timeout_s": timeout_s})

    def _add(self, source: Source) -> None:
        table = self._app.Table(source.name, partitions=source.partitions, key_type=bytes, value_type=bytes, use_partitioner=True)
        topic = self._app.topic(source.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", allow_empty=True)

        async def agent(stream: Any) -> None:
            async for events in stream.noack_take(self._timing.take_records_max, within=self._timing.take_within_s):
                await self._take(source, table, events)

        self._app.agent(topic, name=f"{source.name}-agent", concurrency=1)(agent)

    async def _take(self, source: Source, table: Any, events: Sequence[Any]) -> None:
        generation = self._app.consumer_generation_id
        ports = _FaustPorts(self._app, table, lambda: self._owned(generation))
        events = [event for event in events if event.message.generation_id == generation]
        if not events or not ports.owned():
            return
        self._busy += 1
        self._idle.clear()
        try:
            records = [Received(source.topic, one.partition, one.offset, one.key, one.value) for one in (event.message for event in events)]
            await self._check_offsets([event.message for event in events])
            if await source.handle(records, ports) and ports.owned():
                for event in events:
                    event.ack()
        except Exception as error:  # whatever it is, nothing may be acknowledged after it: the process ends
            logger.exception("take failed")
            self._fail(error)
        finally:
            self._busy -= 1
            self._moved_s = _clock_s()
            if not self._busy:
                self._idle.set()

    async def _behind(self) -> int:
        """Records of this worker's source partitions that no take has had."""
        consumer = self._app.consumer
        topics = {source.topic for source in self._sources}
        places = [place for place in consumer.assignment() if place.topic in topics]
        if not places:
            return 0
        ends = await asyncio.wait_for(consumer.highwaters(*places), self._timing.call_timeout_s)
        starts = await asyncio.wait_for(consumer.earliest_offsets(*places), self._timing.call_timeout_s)
        return sum(max((ends.get(place) or 0) - max(self._next_offset(place), starts.get(place) or 0), 0) for place in places)

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

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error
        self.failed.set()

    async def _until_idle(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            logger.warning("a take is still being worked on", extra={"waited_s": timeout_s})

    async def _on_revoked(self, *_args: Any, **_named: Any) -> None:
        self._ended_generation = self._app.consumer_generation_id
        await self._until_idle(self._timing.revoke_wait_s)

    async def _on_recovered(self, *_args: Any, **_named: Any) -> None:
        self._app.consumer.stop_flow()
        self._app.flow_control.suspend()

    async def _on_assigned(self, *_args: Any, **_named: Any) -> None:
        self._next_offsets.clear()
        self._moved_s = _clock_s()
        for source in self._sources:
            source.forget()


class _FaustPorts:
    """The pipeline's ports for one take."""

    def __init__(self, app: Any, table: Any, owned: Callable[[], bool]) -> None:
        self._app = app
        self._table = table
        self.owned = owned

    def read(self, key: bytes) -> bytes | None:
        return cast("bytes | None", self._table.data.get(key))

    async def send(self, outputs: Sequence[Output]) -> None:
        await self._send_all([(output.topic, output.key, output.value, None) for output in outputs])

    async def store(self, entries: Sequence[Entry]) -> None:
        changelog = self._table.changelog_topic_name
        await self._send_all([(changelog, entry.key, entry.value, entry.partition) for entry in entries])
        for entry in entries:
            self._table.data[entry.key] = entry.value

    async def _send_all(self, records: Sequence[tuple[str, bytes, bytes, int | None]]) -> None:
        send = self._app.producer.send
        # Records for one partition are handed over in their order, and aiokafka has one request for a partition in flight at a time.
        pending = [await send(topic, key, value, partition, None, None) for topic, key, value, partition in records]
        if pending:
            await asyncio.gather(*pending)


def _clock_s() -> float:
    """Seconds that count while the machine sleeps too, where the system has such a clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
