"""The archive's consumer: records as they are, headers included, and offsets with the name of the file that is about to be written.

A file's name is committed before the file is written, and the offset behind it afterwards. Who finds a name writes the same file again, so that whoever is late only replaces it with the
same records; and a commit is refused to a worker whose partitions have gone to another.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import KafkaException, TopicPartition

from runstream_feed.connection import connection_of
from runstream_feed.member import Member
from runstream_feed.options import FeedRefused
from runstream_feed.records import Place
from runstream_sinks.archive_files import Name, Raw
from runstream_sinks.kafka import Complaints, missing_of, refusal, refused
from runstream_sinks.kafka_config import consumer_config, feed_options
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.log import log, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from confluent_kafka import KafkaError

    from runstream_schemas.settings import Settings
    from runstream_sinks.kafka_reader import Kept


class Start(NamedTuple):
    """Where a partition's next record is (None where its group has no offset), and the file that was about to be written from there."""

    offset: int | None
    intent: Name | None


def group_of(settings: Settings) -> str:
    """The group of the archive's workers."""
    return f"{settings.topic_prefix}-archive"


def note_of(name: Name) -> str:
    """A file's name as it stands beside an offset."""
    return json.dumps({"archive": 1, "first": name.first, "last": name.last, "day": name.day})


def parse_note(place: Place, text: str) -> Name | None:
    """The name that stands beside an offset."""
    try:
        found = json.loads(text)
        return Name(place, int(found["day"]), int(found["first"]), int(found["last"]))
    except (ValueError, TypeError, KeyError):
        return None


def _start(place: Place, kept: Kept | None) -> Start:
    return Start(None, None) if kept is None else Start(kept.offset, parse_note(place, kept.note))


class Stream:
    """The group's consumer. All calls come from one thread; the callbacks run inside `poll` and `close`."""

    def __init__(self, settings: Settings) -> None:
        self._complaints = Complaints()
        config = {**consumer_config(settings), "group.id": group_of(settings), "error_cb": self._complaints.error}
        self._member = Member(config, connection_of(settings), feed_options(settings), on_error=self._meets, on_trouble=self._complaints.trouble, logger=logger)
        self._settings = settings

    def missing(self, topics: Iterable[str]) -> set[str] | None:
        """Which of the topics do not exist yet; None while the brokers cannot be reached."""
        return missing_of(self._member, topics)

    def subscribe(
        self, topics: Iterable[str], *, on_assign: Callable[[dict[Place, tuple[Start, tuple[int, int]]]], None], on_gone: Callable[[set[Place], bool], None]
    ) -> None:
        """Joins the group.

        `on_assign` gets for each partition where it goes on, its oldest offset and the one behind its newest; `on_gone` whether they are lost already, so that nothing may be committed.
        """

        def assigned(places: set[Place]) -> None:
            # Asked by another connection, since this one is busy with its rebalance.
            reader = Reader(self._settings, group_of(self._settings))
            try:
                kept, limits = reader.kept(places), reader.limits(places)
            finally:
                reader.close()
            on_assign({place: (_start(place, kept.get(place)), limits[place]) for place in places})

        self._member.subscribe(list(topics), on_assign=assigned, on_revoke=on_gone)

    def poll(self, *, records_max: int, timeout_s: float) -> list[tuple[Place, Raw]]:
        """The next records; waits up to `timeout_s` for them. Of a batch that was not read there is nothing to write; the sinks set it aside. Raises KafkaRefused where no retry helps."""
        try:
            records = self._member.poll(records_max=records_max, timeout_s=timeout_s)
        except FeedRefused as error:
            raise refused(error) from error
        return [(one.place, Raw(one.offset, max(0, one.time_ms), one.key, one.value, tuple(one.headers))) for one in records if one.refused is None]

    def pause(self, *, paused: bool) -> None:
        """Reads nothing, or everything again."""
        self._member.only(lambda _: not paused)

    def commit(self, place: Place, offset: int, note: str) -> bool:
        """Commits an offset and a note; whether the broker has taken them, which it does not from a worker that has lost its partitions."""
        try:
            done = self._member.consumer.commit(offsets=[TopicPartition(*place, offset, metadata=note)], asynchronous=False)
        except KafkaException as error:
            log.warning("an offset was not committed", topic=place.topic, partition=place.partition, offset=offset, error=error.args[0].str())
            return False
        return all(one.error is None for one in done or ())

    def close(self) -> None:
        """Leaves the group; partitions are revoked first."""
        self._member.close()

    def _meets(self, error: KafkaError) -> None:
        if (refused := refusal(error)) is not None:
            raise refused
        self._complaints.error(error)
