"""Reads given spans of partitions, apart from the sinks' group and its rebalances: for replays, verification and dead letters.

How far a reading got is kept as committed offsets of a group of its own that nobody ever joins, with a note beside each offset. What is done with the messages is `fill`'s business.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from runstream_feed.connection import connection_of
from runstream_feed.feed import Feed
from runstream_feed.options import FeedRefused
from runstream_feed.records import Place, Start
from runstream_sinks.errors import KafkaAway, KafkaRefused
from runstream_sinks.kafka import Complaints, message_of, refusal, refused
from runstream_sinks.kafka_config import asker_config, feed_options
from runstream_sinks.ledger import Mark
from runstream_sinks.log import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from runstream_schemas.settings import Settings
    from runstream_sinks.pipeline import Message
    from runstream_sinks.spans import Span

ANSWER_TIMEOUT_S = 15.0
ASK_INTERVAL_S = 0.2
SILENCE_S_MAX = 30.0


# A group's topics may come later; those that somebody asked for by name are there or are a mistake.
_NOT_THERE = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_PARTITION, KafkaError._UNKNOWN_TOPIC}

Answer = TypeVar("Answer")


class Kept(NamedTuple):
    """What a group holds for a partition: the next offset to read, and the note beside it."""

    offset: int
    note: str


def _refused(error: KafkaError) -> KafkaRefused | None:
    """What to raise for an error that no retry mends; None for one that passes."""
    return KafkaRefused(f"{error.name()}: {error.str()}") if error.code() in _NOT_THERE else refusal(error)


class Reader:
    """Reads what it is told. All calls come from one thread."""

    def __init__(self, settings: Settings, group: str) -> None:
        """`group` is where offsets are kept; nothing is kept before `keep` is called."""
        self._kafka = settings.kafka
        self._group = group
        complaints = Complaints()
        self._consumer = Consumer({**asker_config(settings), "group.id": group, "error_cb": complaints.error}, logger=logger)
        self._feed = Feed(connection_of(settings), feed_options(settings), complaints.trouble)
        self._spans: dict[Place, Span] = {}
        self._next: dict[Place, int] = {}
        self._done: set[Place] = set()

    # ---- what is there -----------------------------------------------------------------------------------------------------------------

    def places(self, topics: Iterable[str]) -> list[Place]:
        """The partitions of topics.

        Raises:
            KafkaAway: no broker answers.
            KafkaRefused: a topic does not exist.
        """
        known = self._asked(lambda left_s: self._consumer.list_topics(timeout=left_s).topics)
        found: list[Place] = []
        for topic in topics:
            if topic not in known:
                raise KafkaRefused(f"topic {topic} does not exist on Kafka at {self._kafka}: look at the settings kafka and topic_prefix")
            found += [Place(topic, partition) for partition in sorted(known[topic].partitions)]
        return found

    def limits(self, places: Iterable[Place]) -> dict[Place, tuple[int, int]]:
        """For each partition the oldest offset that is kept, and the one behind the newest."""

        def limits_of(place: Place) -> tuple[int, int]:
            return self._asked(lambda left_s: self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=left_s, cached=False))

        return {place: limits_of(place) for place in places}

    def offsets_at(self, places: Iterable[Place], time_ms: int) -> dict[Place, int]:
        """For each partition the first offset that is as young as a time; partitions without are left out."""
        asked = [TopicPartition(*place, time_ms) for place in places]
        found = self._asked(lambda left_s: self._consumer.offsets_for_times(asked, timeout=left_s))
        return {Place(one.topic, one.partition): one.offset for one in found if one.offset >= 0}

    def kept(self, places: Iterable[Place]) -> dict[Place, Kept]:
        """What this reader's group holds; partitions for which it holds nothing are left out."""
        asked = [TopicPartition(*place) for place in places]
        found = self._asked(lambda left_s: self._consumer.committed(asked, timeout=left_s))
        return {Place(one.topic, one.partition): Kept(one.offset, one.metadata or "") for one in found if one.offset >= 0}

    def _asked(self, ask: Callable[[float], Answer]) -> Answer:
        """An answer of Kafka's, asked again for a while: leaders move, and new topics take a moment."""
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            try:
                return ask(max(0.1, deadline - time.monotonic()))
            except KafkaException as error:
                refused = _refused(error.args[0])
                if refused is not None:
                    raise refused from error
                if time.monotonic() + ASK_INTERVAL_S > deadline:
                    raise self._away(error) from error
                time.sleep(ASK_INTERVAL_S)

    # ---- reading -----------------------------------------------------------------------------------------------------------------------

    def start(self, spans: Mapping[Place, Span]) -> None:
        """Reads these spans from now on, each in order; what was read before is forgotten."""
        self._feed.drop(self._spans)
        self._spans = dict(spans)
        self._next = {place: span.first for place, span in spans.items()}
        self._done = {place for place, span in spans.items() if span.end is not None and span.first >= span.end}
        self._feed.add({place: Start(span.first) for place, span in spans.items() if place not in self._done})

    @property
    def done(self) -> bool:
        """Whether all spans have been read to their ends; never of one that is open."""
        return len(self._done) == len(self._spans)

    @property
    def records(self) -> tuple[int, int]:
        """Offsets passed so far, and how many there are in all spans that have an end."""
        ended = {place: span for place, span in self._spans.items() if span.end is not None}
        return sum(min(self._next[place], span.end or 0) - span.first for place, span in ended.items()), sum(span.records for span in ended.values())

    def poll(self, *, records_max: int, timeout_s: float) -> list[Message]:
        """The next records; waits up to `timeout_s` for them. Raises KafkaRefused where no retry helps."""
        out: list[Message] = []
        try:
            records = self._feed.poll(records_max=records_max, timeout_s=timeout_s)
        except FeedRefused as error:
            raise refused(error) from error
        for record in records:
            end = self._spans[record.place].end
            # A batch that was not read may begin before the end and reach past it.
            if end is None or record.offset < end or record.refused is not None:
                out.append(message_of(record))
        for place in self._spans.keys() - self._done:
            position = self._feed.position(place)
            if position is not None:
                self._reached(place, position)
        return out

    def _reached(self, place: Place, offset: int) -> None:
        self._next[place] = offset
        end = self._spans[place].end
        if end is not None and offset >= end:
            self._done.add(place)
            self._feed.drop([place])

    def read(self, spans: Mapping[Place, Span]) -> Iterator[Message]:
        """All records of spans that have an end. Raises KafkaAway when nothing comes for a while though they are not at their ends."""
        self.start(spans)
        heard = time.monotonic()
        while not self.done:
            messages = self.poll(records_max=500, timeout_s=0.1)
            if messages:
                heard = time.monotonic()
            elif time.monotonic() > heard + SILENCE_S_MAX:
                raise KafkaAway(f"nothing has come from Kafka at {self._kafka} for {SILENCE_S_MAX:g} s, though there is more")
            yield from messages

    def only(self, wanted: Callable[[Place], bool]) -> None:
        """Fetches from the partitions that are wanted and not done, and from no other."""
        self._feed.only(wanted)

    def keep(self, marks: Mapping[Place, Mark], note_of: Callable[[Place], str], *, wait: bool) -> None:
        """Keeps offsets in the group, each with a note. With `wait` they are held when this returns.

        Raises:
            KafkaRefused: with `wait`, somebody is a member of the group.
            KafkaAway: with `wait`, no broker answers.
        """
        offsets = [TopicPartition(*place, mark.offset, metadata=note_of(place)) for place, mark in marks.items()]
        if not offsets:
            return
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            if not wait:
                return
            if error.args[0].code() in (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION):
                raise KafkaRefused(f"group {self._group} has members that read by themselves: choose a --group of its own") from error
            raise self._away(error) from error

    def close(self) -> None:
        """Lets the connections go."""
        self._feed.close()
        self._consumer.close()

    def _away(self, error: KafkaException) -> KafkaAway:
        return KafkaAway(f"Kafka at {self._kafka} does not answer: {error.args[0].str()}")
