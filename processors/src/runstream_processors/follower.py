"""Reads small topics whole and goes on reading: every worker by itself, without a group, so that each knows all of them.

With `bounded_batches` the only module that touches aiokafka. What the records mean is the caller's.
"""

# aiokafka is typed in part.
# pyright: reportUnknownMemberType=false, reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, cast

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from runstream_feed.connection import aiokafka_security
from runstream_processors import bounded_batches
from runstream_processors.letters import Followed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runstream_feed.connection import Connection

    Learn = Callable[[Followed], None]

logger = logging.getLogger(__name__)

_POLL_MS = 500
_PAUSE_S = 1.0


class Follower:
    """Follows topics from their beginnings; `caught_up` is set once everything that was there at the start was handed on."""

    def __init__(self, connection: Connection, topics: Mapping[str, tuple[int, Learn]]) -> None:
        """Follows each topic, given with its number of partitions and the function that takes each record."""
        self._learn = {topic: learn for topic, (_, learn) in topics.items()}
        self._partitions = [TopicPartition(topic, number) for topic, (count, _) in topics.items() for number in range(count)]
        bounded_batches.install()
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=",".join(connection.servers),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            **aiokafka_security(connection),
        )
        self.caught_up = asyncio.Event()

    async def run(self) -> None:
        """Follows until cancelled. Trouble with the broker is waited out, since aiokafka takes up where it was."""
        await self._consumer.start()
        try:
            self._consumer.assign(self._partitions)
            ends = cast("dict[Any, int]", await self._consumer.end_offsets(self._partitions))
            while True:
                try:
                    await self._step(ends)
                except KafkaError as error:
                    logger.warning("followed topics could not be read", extra={"reason": repr(error)})
                    await asyncio.sleep(_PAUSE_S)
        finally:
            await self._consumer.stop()

    async def _step(self, ends: dict[Any, int]) -> None:
        if not self.caught_up.is_set():
            behind = [place for place, end in ends.items() if end > 0 and await self._consumer.position(place) < end]
            if not behind:
                self.caught_up.set()
        records = cast("dict[Any, list[Any]]", await self._consumer.getmany(timeout_ms=_POLL_MS if self.caught_up.is_set() else 50))
        for place, every in records.items():
            learn = self._learn[str(place.topic)]
            for record in every:
                learn(Followed(str(place.topic), place.partition, record.offset, record.timestamp, record.key, record.value))
