"""What a stage sends and stores, through Faust's producer and into Faust's table: acknowledged, in order, and never by `table[key] = value`, which only queues the changelog record."""

# Faust's own annotations leave most types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownParameterType=false
# pyright: reportMissingTypeStubs=false, reportAny=false

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_processors.engine import Entry, Output


class FaustPorts:
    """A stage's ports, for one take or one beat."""

    def __init__(self, app: Any, table: Any, owned: Callable[[], bool], grew: Callable[[int], None]) -> None:
        """`owned` says whether the partitions are still this worker's; `grew` is told by how many bytes of keys and values the table grew."""
        self._app = app
        self._table = table
        self._grew = grew
        self.owned = owned

    def read(self, key: bytes) -> bytes | None:
        """What the table holds of a key."""
        return cast("bytes | None", self._table.data.get(key))

    async def send(self, outputs: Sequence[Output]) -> None:
        """Sends records; they are held by Kafka when this returns."""
        await self._send_all([(output.topic, output.key, output.value, None) for output in outputs])

    async def store(self, entries: Sequence[Entry]) -> None:
        """Writes entries to the changelog, and to the table once Kafka holds them."""
        changelog = self._table.changelog_topic_name
        await self._send_all([(changelog, entry.key, entry.value, entry.partition) for entry in entries])
        store = self._table.data
        for entry in entries:
            before = store.data.get(entry.key)
            self._grew(len(entry.value or b"") - len(before or b"") + len(entry.key) * ((entry.value is not None) - (before is not None)))
            if entry.value is None:
                store.data.pop(entry.key, None)
                store._key_partition.pop(entry.key, None)
            else:
                store.data[entry.key] = entry.value
                store._key_partition[entry.key] = entry.partition

    async def _send_all(self, records: Sequence[tuple[str, bytes, bytes | None, int | None]]) -> None:
        send = self._app.producer.send
        # Records for one partition are handed over in their order, and aiokafka has one request for a partition in flight at a time.
        pending = [await send(topic, key, value, partition, None, None) for topic, key, value, partition in records]
        if pending:
            await asyncio.gather(*pending)
