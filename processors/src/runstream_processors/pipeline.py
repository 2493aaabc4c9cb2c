"""The order that keeps outputs: decide, send and have it acknowledged at once; and every second or so send the rest, store what changed, have that acknowledged, and
only then let the records go.

A crash at any place repeats work and loses none: what was sent is sent again under the same ids, and rows that a stored state holds are not taken twice. State is stored
less often than decisions are made, since a writer's whole state is written for each of its frames otherwise; alerts do not wait for that. Written once, against three
small ports, so that the order can be tried without a broker; Faust provides the ports in the worker.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol

from runstream_processors.engine import Engine, Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runstream_processors.engine import Checkpoint, Entry, Output, Received
    from runstream_processors.knowledge import Knowledge

logger = logging.getLogger(__name__)

_WAIT_STEP_S = 0.5  # A hold looks this often whether the partitions were taken away meanwhile.


class Ports(Protocol):
    """What a stage needs of the world."""

    def read(self, key: bytes) -> bytes | None:
        """An entry of the table."""
        ...

    async def send(self, outputs: Sequence[Output]) -> None:
        """Sends records; returns when every one was acknowledged, raises when one was not."""
        ...

    async def store(self, entries: Sequence[Entry]) -> None:
        """Stores entries in their order; returns when every one was acknowledged, raises when one was not."""
        ...

    def owned(self) -> bool:
        """Whether the records being handled are still this worker's: no rebalance has begun since they came."""
        ...


@dataclass(frozen=True, slots=True)
class Pace:
    """How often state is stored: `store_s` after the last time, later where that takes more than `share` of all time, and after `late_s` in any case."""

    store_s: float = 1.0
    late_s: float = 10.0
    share: float = 0.25


class Stage(Generic[Work]):
    """One source topic's work."""

    def __init__(self, engine: Engine[Work], knowledge: Knowledge, now_ms: Callable[[], int], wait_s_max: float, pace: Pace | None = None) -> None:
        """Takes an engine, what everybody knows, the processor's clock in epoch milliseconds, and for how long records are held at most."""
        self._engine = engine
        self._knowledge = knowledge
        self._now_ms = now_ms
        self._wait_s_max = wait_s_max
        self._pace = pace or Pace()
        self._lock = asyncio.Lock()
        self._due_s = 0.0

    async def take(self, records: Sequence[Received], ports: Ports) -> bool:
        """Handles one take of records. True: their outputs are sent, and they may be acknowledged after the next `store`; False: the partitions were taken away."""
        clock = asyncio.get_running_loop().time  # Monotonic: a wall clock that is set back must not make a hold longer.
        began = clock()
        if self._engine.unknown_schemas(records):
            patience_s = min(self._knowledge.schema_patience_s(int(began * 1000)), self._wait_s_max)
            while self._engine.unknown_schemas(records) and (left_s := patience_s - (clock() - began)) > 0 and ports.owned():
                await self._knowledge.wait(min(_WAIT_STEP_S, left_s))
        left = self._engine.sort(records)
        while ports.owned():
            waited_ms = int((clock() - began) * 1000)
            held = [one for one in left if self._engine.held(one, ports.read, waited_ms)]
            ready = [one for one in left if not any(one is other for other in held)] if held else left
            await self._conclude(ready, ports)
            if not held:
                return ports.owned()
            left = held
            await self._knowledge.wait(min(_WAIT_STEP_S, max(self._wait_s_max - waited_ms / 1000, 0.01)))
        return False

    async def tick(self, ports: Ports, *, hears: bool) -> None:
        """Does what time brings; to be called a few times a second while the partitions are this worker's."""
        async with self._lock:
            if ports.owned():
                await ports.send(self._engine.tick(ports.read, self._now_ms(), hears=hears))

    @property
    def due(self) -> bool:
        """Whether it is time to store."""
        return asyncio.get_running_loop().time() >= self._due_s

    async def store(self, ports: Ports) -> bool:
        """Sends and stores all that has changed. True: every record that was taken before may be acknowledged; False: the partitions were taken away."""
        clock = asyncio.get_running_loop().time
        began = clock()
        parts = self._engine.checkpoints(self._now_ms())
        while await self._store_next(parts, ports):
            await asyncio.sleep(0)  # Takes may come in between: alerts do not wait for the states of a thousand other writers.
        ended = clock()
        wait_s = max(self._pace.store_s, (ended - began) / self._pace.share)
        self._due_s = ended + min(wait_s, self._pace.late_s)
        return ports.owned()

    async def _store_next(self, parts: Iterator[Checkpoint], ports: Ports) -> bool:
        """Sends and stores one part; False where there was none, or the partitions were taken away."""
        async with self._lock:
            if not ports.owned() or (part := next(parts, None)) is None:
                return False
            if part.outputs:
                await ports.send(part.outputs)
            # Another worker may own the state by now; writing over its entries would set them back.
            if not ports.owned():
                return False
            if part.entries:
                await ports.store(part.entries)
            self._engine.settled(part)
            return True

    def forget(self) -> None:
        """Partitions came or went."""
        self._engine.forget()

    def recovered(self, entries: Sequence[Entry]) -> None:
        """The table has been read anew."""
        self._engine.recovered(entries)

    async def _conclude(self, ready: Sequence[Work], ports: Ports) -> None:
        async with self._lock:
            outputs: list[Output] = []
            for one in ready:
                outputs += self._engine.decide(one, ports.read, self._now_ms())
                await asyncio.sleep(0)  # A large take must not keep heartbeats and signals waiting.
            await ports.send([*outputs, *self._engine.concluded()])
