"""The order that keeps outputs: decide, send and have it acknowledged, store and have it acknowledged, and only then let the records go.

A crash at any place repeats work and loses none: what was sent is sent again under the same ids, and rows that a state holds are not taken twice. Written once, against
three small ports, so that the order can be tried without a broker; Faust provides the ports in the worker.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_processors.engine import Batch, Decision, Engine, Entry, Output, Received
    from runstream_processors.knowledge import Knowledge

logger = logging.getLogger(__name__)

_WAIT_STEP_S = 0.5  # A hold looks this often whether the partitions were taken away meanwhile.


class Ports(Protocol):
    """What the pipeline needs of the world."""

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


async def process(engine: Engine, knowledge: Knowledge, records: Sequence[Received], ports: Ports, now_ms: Callable[[], int], wait_s_max: float) -> bool:
    """Handles one take of records. True: all of it is stored and the records may be acknowledged; False: the partitions were taken away, and nothing may be."""
    clock = asyncio.get_running_loop().time  # Monotonic: a wall clock that is set back must not make a hold longer.
    began = clock()
    if engine.unknown_schemas(records):
        patience_s = min(knowledge.schema_patience_s(int(began * 1000)), wait_s_max)
        while engine.unknown_schemas(records) and (left_s := patience_s - (clock() - began)) > 0 and ports.owned():
            await knowledge.wait(min(_WAIT_STEP_S, left_s))
    left = engine.sort(records)
    while ports.owned():
        waited_ms = int((clock() - began) * 1000)
        held = [batch for batch in left if engine.must_wait(batch, ports.read, waited_ms)]
        ready = [batch for batch in left if batch not in held] if held else left
        if not await _conclude(engine, ready, ports, now_ms):
            return False
        if not held:
            return True
        left = held
        await knowledge.wait(min(_WAIT_STEP_S, max(wait_s_max - waited_ms / 1000, 0.01)))
    return False


async def _conclude(engine: Engine, batches: list[Batch], ports: Ports, now_ms: Callable[[], int]) -> bool:
    decisions: list[Decision] = []
    for batch in batches:
        decisions.append(engine.decide(batch, ports.read, now_ms()))
        await asyncio.sleep(0)  # A large take must not keep heartbeats and signals waiting.
    await ports.send([output for decision in decisions for output in decision.outputs])
    # Another worker may own the state by now; writing over its entries would set them back.
    if not ports.owned():
        return False
    await ports.store([entry for decision in decisions for entry in decision.entries])
    engine.stored(decisions)
    return True
