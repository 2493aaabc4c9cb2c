"""A member of a consumer group that reads what the group gives it: librdkafka is the member, and fetches nothing; a `Feed` reads.

librdkafka joins, beats, is given partitions and commits, in any group protocol, but is told that it reads none of them. So nothing is decompressed that is not bounded.
"""

# confluent-kafka's stubs leave some types open.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, KafkaException, TopicPartition

from runstream_feed.feed import Feed
from runstream_feed.records import Place, Start

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from confluent_kafka import KafkaError

    from runstream_feed.connection import Connection
    from runstream_feed.options import Options, Trouble
    from runstream_feed.records import Record

    Config = Mapping[str, object]

COMMITTED_TIMEOUT_S = 1.0
_EVENTS_MAX = 100


class Committed(NamedTuple):
    """What a group has committed for a partition: the next offset to read, the epoch of the leader before it, and a note."""

    offset: int
    epoch: int | None
    note: str


def committed_of(found: Iterable[TopicPartition]) -> dict[Place, Committed]:
    """What a group holds, of librdkafka's answer; partitions for which it holds nothing are left out."""
    return {Place(one.topic, one.partition): Committed(one.offset, one.leader_epoch, one.metadata or "") for one in found if one.offset >= 0}


class Member:
    """All calls come from one thread; the callbacks run inside `poll` and `close`."""

    def __init__(
        self,
        config: Config,
        connection: Connection,
        options: Options,
        *,
        on_error: Callable[[KafkaError], None],
        on_trouble: Callable[[Trouble], None],
        logger: logging.Logger | None = None,
    ) -> None:
        """`config` is librdkafka's; `on_error` gets what it meets inside `poll`, and may raise.

        Raises:
            KafkaException: librdkafka does not take the options.
        """
        self.consumer = Consumer(dict(config), **({} if logger is None else {"logger": logger}))
        """For what is asked of the group and of topics; it is never assigned anything."""
        self._feed = Feed(connection, options, on_trouble)
        self._on_error = on_error
        strategy = str(config.get("partition.assignment.strategy", ""))
        self._is_incremental = config.get("group.protocol") == "consumer" or "cooperative" in strategy
        self._assigned: set[Place] = set()
        self._fresh: set[Place] = set()

    def subscribe(self, topics: Sequence[str], *, on_assign: Callable[[set[Place]], None], on_revoke: Callable[[set[Place], bool], None]) -> None:
        """Joins the group. `on_revoke` gets whether the partitions are lost already, so that nothing may be committed."""

        def assigned(consumer: Consumer, partitions: list[TopicPartition]) -> None:
            places = _places(partitions)
            self._assigned |= places
            self._fresh |= places
            if self._is_incremental:
                consumer.incremental_assign([])
            else:
                consumer.assign([])
            on_assign(places)

        def gone(consumer: Consumer, partitions: list[TopicPartition], *, lost: bool) -> None:
            places = _places(partitions)
            self._feed.drop(places)
            self._fresh -= places
            self._assigned -= places
            on_revoke(places, lost)
            # Last, since it lets the group go on without us.
            if self._is_incremental:
                consumer.incremental_unassign([])
            else:
                consumer.unassign()

        self.consumer.subscribe(
            list(topics),
            on_assign=assigned,
            on_revoke=lambda consumer, partitions: gone(consumer, partitions, lost=False),
            on_lost=lambda consumer, partitions: gone(consumer, partitions, lost=True),
        )

    def poll(self, *, records_max: int, timeout_s: float) -> list[Record]:
        """The next records; waits up to `timeout_s` for them, or, while there is nothing to read, for something of the group's.

        Raises:
            FeedRefused: Kafka does not let this user read.
        """
        is_idle = not self._assigned
        for raw in self.consumer.consume(1 if is_idle else _EVENTS_MAX, timeout_s if is_idle else 0.0):
            if (error := raw.error()) is not None:
                self._on_error(error)
        if self._fresh:
            self._begin()
        return [] if is_idle else self._feed.poll(records_max=records_max, timeout_s=timeout_s)

    def only(self, wanted: Callable[[Place], bool]) -> None:
        """Reads partitions that are wanted, and no other, until it is told otherwise. Those that come later are told again."""
        self._feed.only(wanted)

    def committed(self, places: Iterable[Place], timeout_s: float) -> dict[Place, Committed]:
        """What the group holds. Raises KafkaException when there is no answer in time."""
        found = self.consumer.committed([TopicPartition(*place) for place in places], timeout=timeout_s)
        return committed_of(found)

    def close(self) -> None:
        """Leaves the group; partitions are revoked first."""
        self.consumer.close()
        self._feed.close()

    def _begin(self) -> None:
        """Reads new partitions from where the group left them; while nobody says where, they wait for the next poll."""
        try:
            held = self.committed(self._fresh, COMMITTED_TIMEOUT_S)
        except KafkaException as error:
            self._on_error(error.args[0])
            return
        self._feed.add({place: Start(held[place].offset, held[place].epoch) if place in held else None for place in self._fresh})
        self._fresh.clear()


def _places(partitions: Iterable[TopicPartition]) -> set[Place]:
    return {Place(one.topic, one.partition) for one in partitions}
