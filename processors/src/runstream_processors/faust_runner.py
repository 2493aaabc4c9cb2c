"""Faust, held at arm's length: streams of takes, a table for each source topic, and the group they are shared out in.

The only module that touches Faust. What is done with a take is the pipeline's; here are the facts of Faust that keep its order true, each tried:

- Records come through `noack_take` and are acknowledged together, in their order and without an `await` between them: Faust would otherwise commit past a record
  that is still in flight.
- The table is written with its own acknowledged sends and never through `table[key] = value`, which only queues the changelog record. Entries go to the partition that
  the writer's frames come from, so that they are recovered together whichever partitioner the producers use.
- When partitions are taken away, the handler of that signal waits for the take that is being worked on (bounded), and later takes of the old generation are dropped
  unacknowledged: their records come again to whoever owns them now.
- Nothing stops the app from inside an agent (that hangs): a failure is kept, and the process's main task stops the app and ends with it.
"""

# Faust's own annotations leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportAny=false

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import faust

from runstream_processors.engine import Entry, Output, Received
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from runstream_processors.connection import Connection
    from runstream_processors.pipeline import Ports

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a worker waits for what; the session timeout is how long a worker that was killed is missed before others take over."""

    session_timeout_s: float = 8.0
    heartbeat_s: float = 2.0
    take_within_s: float = 0.05
    take_records_max: int = 500
    commit_interval_s: float = 1.0
    # A broker that restarts is back well within this; past it the process ends and its supervisor starts it again.
    send_timeout_s: float = 60.0
    # Less than the session timeout, so that a take that hangs cannot cost this worker its place in the group.
    revoke_wait_s: float = 5.0


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
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._app: Any = faust.App(group, **_options(connection, timing, scratch))
        self._app.on_partitions_revoked.connect(self._on_revoked, weak=False)
        self._app.on_partitions_assigned.connect(self._on_assigned, weak=False)
        for source in sources:
            self._add(source)
        self._app.finalize()

    async def start(self) -> None:
        """Joins the group and recovers the tables; returns when records are being taken, or when the app stopped."""
        await self._app.start()

    @property
    def ready(self) -> bool:
        """Whether the tables are recovered and records flow."""
        return self._app.tables.recovery.completed.is_set() and not self._app.rebalancing

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
        topic = self._app.topic(source.topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

        async def agent(stream: Any) -> None:
            async for events in stream.noack_take(self._timing.take_records_max, within=self._timing.take_within_s):
                await self._take(source, table, events)

        self._app.agent(topic, name=f"{source.name}-agent", concurrency=1)(agent)

    async def _take(self, source: Source, table: Any, events: Sequence[Any]) -> None:
        ports = _FaustPorts(self._app, table, lambda: not (self._stopping or self.failed.is_set()))
        events = [event for event in events if event.message.generation_id == ports.generation]
        if not events or not ports.owned():
            return
        self._busy += 1
        self._idle.clear()
        try:
            records = [Received(source.topic, one.partition, one.offset, one.key, one.value) for one in (event.message for event in events)]
            if await source.handle(records, ports) and ports.same_generation():
                for event in events:
                    event.ack()
        except Exception as error:  # whatever it is, nothing may be acknowledged after it: the process ends
            logger.exception("take failed")
            self.failure = error
            self.failed.set()
        finally:
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def _until_idle(self, timeout_s: float) -> None:
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            logger.warning("a take is still being worked on", extra={"waited_s": timeout_s})

    async def _on_revoked(self, *_args: Any, **_named: Any) -> None:
        await self._until_idle(self._timing.revoke_wait_s)

    async def _on_assigned(self, *_args: Any, **_named: Any) -> None:
        for source in self._sources:
            source.forget()


class _FaustPorts:
    """The pipeline's ports for one take."""

    def __init__(self, app: Any, table: Any, running: Callable[[], bool]) -> None:
        self._app = app
        self._table = table
        self._running = running
        self.generation = app.consumer_generation_id

    def read(self, key: bytes) -> bytes | None:
        return cast("bytes | None", self._table.data.get(key))

    async def send(self, outputs: Sequence[Output]) -> None:
        await self._send_all([(output.topic, output.key, output.value, None) for output in outputs])

    async def store(self, entries: Sequence[Entry]) -> None:
        changelog = self._table.changelog_topic_name
        await self._send_all([(changelog, entry.key, entry.value, entry.partition) for entry in entries])
        for entry in entries:
            self._table.data[entry.key] = entry.value

    def same_generation(self) -> bool:
        return self._app.consumer_generation_id == self.generation

    def owned(self) -> bool:
        return self._running() and self.same_generation() and not self._app.rebalancing

    async def _send_all(self, records: Sequence[tuple[str, bytes, bytes, int | None]]) -> None:
        send = self._app.producer.send
        # Records for one partition are handed over in their order, and aiokafka has one request for a partition in flight at a time.
        pending = [await send(topic, key, value, partition, None, None) for topic, key, value, partition in records]
        if pending:
            await asyncio.gather(*pending)


def _options(connection: Connection, timing: Timing, scratch: Path) -> dict[str, Any]:
    return {
        "broker": [f"kafka://{server}" for server in connection.servers],
        "broker_credentials": _credentials(connection),
        "store": "memory://",
        "datadir": str(scratch),
        "autodiscover": False,
        "web_enabled": False,
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "broker_session_timeout": timing.session_timeout_s,
        "broker_heartbeat_interval": timing.heartbeat_s,
        "broker_commit_interval": timing.commit_interval_s,
        "consumer_max_fetch_size": MESSAGE_BYTES_MAX,
        "consumer_auto_offset_reset": "earliest",
        "stream_wait_empty": False,
        "producer_acks": -1,
        "producer_linger": 0.0,
        "producer_max_batch_size": 1 << 20,
        "producer_max_request_size": MESSAGE_BYTES_MAX,
        "producer_request_timeout": timing.send_timeout_s,
    }


def _credentials(connection: Connection) -> Any:
    if connection.mechanism is not None:
        return faust.SASLCredentials(
            username=connection.username,
            password=connection.password,
            mechanism=connection.mechanism,
            ssl_context=connection.tls,
        )
    return faust.SSLCredentials(context=connection.tls) if connection.tls is not None else None
