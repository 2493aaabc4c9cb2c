"""The archive's consumer: records as they are, headers included, and offsets with the name of the file that is about to be written.

A file's name is committed before the file is written, and the offset behind it afterwards. Who finds a name writes the same file again, so that whoever is late only replaces it with the
same records; and a commit is refused to a worker whose partitions have gone to another.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runstream_sinks.archive_files import Name, Raw
from runstream_sinks.kafka import place_of, refusal, time_ms_of
from runstream_sinks.kafka_config import consumer_config
from runstream_sinks.kafka_passing import Passing
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.ledger import Place
from runstream_sinks.log import log, logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from runstream_schemas.settings import Settings
    from runstream_sinks.kafka_reader import Kept

METADATA_TIMEOUT_S = 3.0


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
        self._consumer = Consumer({**consumer_config(settings), "group.id": group_of(settings), "error_cb": self._on_error}, logger=logger)
        self._settings = settings
        self._passing = Passing(settings)
        self._assigned: set[Place] = set()
        self._paused = False

    def missing(self, topics: Iterable[str]) -> set[str] | None:
        """Which of the topics do not exist yet; None while the brokers cannot be reached."""
        try:
            return set(topics) - set(self._consumer.list_topics(timeout=METADATA_TIMEOUT_S).topics)
        except KafkaException:
            return None

    def subscribe(
        self, topics: Iterable[str], *, on_assign: Callable[[dict[Place, tuple[Start, tuple[int, int]]]], None], on_gone: Callable[[set[Place], bool], None]
    ) -> None:
        """Joins the group.

        `on_assign` gets for each partition where it goes on, its oldest offset and the one behind its newest; `on_gone` whether they are lost already, so that nothing may be committed.
        """

        def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
            places = [Place(one.topic, one.partition) for one in partitions]
            self._assigned |= set(places)
            self._paused = False
            # Asked by another connection, since this one is busy with its rebalance.
            reader = Reader(self._settings, group_of(self._settings))
            try:
                kept, limits = reader.kept(places), reader.limits(places)
            finally:
                reader.close()
            on_assign({place: (_start(place, kept.get(place)), limits[place]) for place in places})

        def gone(partitions: list[TopicPartition], *, lost: bool) -> None:
            places = {Place(one.topic, one.partition) for one in partitions}
            on_gone(places, lost)
            self._assigned -= places

        self._consumer.subscribe(
            list(topics),
            on_assign=assigned,
            on_revoke=lambda _, partitions: gone(partitions, lost=False),
            on_lost=lambda _, partitions: gone(partitions, lost=True),
        )

    def poll(self, *, records_max: int, timeout_s: float) -> list[tuple[Place, Raw]]:
        """The next records; waits up to `timeout_s` for them."""
        out: list[tuple[Place, Raw]] = []
        for raw in self._consumer.consume(records_max, timeout_s):
            error = raw.error()
            if error is not None:
                refused = refusal(error)
                if refused is not None:
                    raise refused
                # The sinks set it aside; of it the archive has nothing to write.
                passed = self._passing.look(raw)
                if passed is None:
                    self._on_error(error)
                else:
                    self._passing.go_on(self._consumer, passed)
                continue
            place, offset = place_of(raw)
            headers = tuple((name, value.encode() if isinstance(value, str) else value) for name, value in raw.headers() or ())
            out.append((place, Raw(offset, time_ms_of(raw), raw.key(), raw.value(), headers)))
        return out

    def pause(self, *, paused: bool) -> None:
        """Fetches nothing, or everything again."""
        if paused == self._paused:
            return
        self._paused = paused
        places = [TopicPartition(*place) for place in self._assigned]
        if paused:
            self._consumer.pause(places)
        else:
            self._consumer.resume(places)

    def commit(self, place: Place, offset: int, note: str) -> bool:
        """Commits an offset and a note; whether the broker has taken them, which it does not from a worker that has lost its partitions."""
        try:
            done = self._consumer.commit(offsets=[TopicPartition(*place, offset, metadata=note)], asynchronous=False)
        except KafkaException as error:
            log.warning("an offset was not committed", topic=place.topic, partition=place.partition, offset=offset, error=error.args[0].str())
            return False
        return all(one.error is None for one in done or ())

    def close(self) -> None:
        """Leaves the group; partitions are revoked first."""
        self._consumer.close()

    @staticmethod
    def _on_error(error: KafkaError) -> None:
        log.warning("kafka error, going on when it has passed", code=error.name(), error=error.str())
