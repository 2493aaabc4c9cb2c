"""What to do with a message: decode it, give it to its table's chunk, hold it until its schema is known, or set it aside. Pure: time is an argument, nothing is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord, UnknownSchema
from runstream_schemas.topics import TOPICS
from runstream_sinks.malformed import Window, dead_letter
from runstream_sinks.points import PointRows
from runstream_sinks.rows import PlainRows
from runstream_sinks.tables import TABLE_OF, Name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_schemas.catalogue import Catalogue
    from runstream_schemas.records import DeadLetter
    from runstream_sinks.batching import Batches, Rows
    from runstream_sinks.ledger import Claim, Place, Position

# A writer announces a schema before it uses it, so an unknown id is a race of moments; past this the record is set aside.
SCHEMA_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Message:
    """One record as it came from Kafka; `value` is None for the tombstone of a compacted topic."""

    position: Position
    time_ms: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A letter to send; once it is acknowledged, the claim is to be settled."""

    letter: DeadLetter
    claim: Claim


@dataclass(slots=True)
class _Held:
    """Messages of one partition, in order, the first of which waits for its schema."""

    schema_id: int
    until: float
    messages: list[Message]


def rows_of(name: Name) -> Rows:
    """Empty rows for a table."""
    return PointRows() if name in ("metric_points", "hardware_points") else PlainRows(name)


def routes(prefix: str) -> dict[str, Name]:
    """Full topic names under a prefix, with the table that each goes into."""
    return {TOPICS[name].full_name(prefix): table for name, table in TABLE_OF.items()}


class Pipeline:
    """Takes messages in order; what comes out are rows in `batches` and letters to send."""

    def __init__(self, batches: Batches, *, prefix: str, catalogue: Catalogue, ratio_max: float, worker: str) -> None:
        self.batches = batches
        self._routes = routes(prefix)
        self._compacted = {topic.full_name(prefix) for topic in TOPICS.values() if topic.compacted}
        self._letters = TOPICS["dead-letter"].full_name(prefix)
        self._catalogue = catalogue
        self._window = Window(ratio_max)
        self._worker = worker
        self._held: dict[Place, _Held] = {}
        self._given_up: set[int] = set()
        self.newest_ms = 0
        self.records = 0
        self.malformed = 0

    @property
    def held(self) -> set[Place]:
        """Partitions that wait for a schema: do not fetch from them."""
        return set(self._held)

    @property
    def unknown(self) -> set[int]:
        """Schema ids that messages wait for, or waited for in vain."""
        return {one.schema_id for one in self._held.values()} | self._given_up

    def take(self, message: Message, now: float, now_ms: int) -> SetAside | None:
        """Handles one message; a letter comes back where it is malformed.

        Raises:
            TooManyMalformed: so many were malformed that the worker must stop. The message was not taken.
        """
        held = self._held.get(message.position.place)
        if held is not None:
            held.messages.append(message)
            return None
        return self._handle(message, now, now_ms)

    def retry(self, now: float, now_ms: int) -> Sequence[SetAside]:
        """Tries held messages again: for schemas learned since, or for waits that are over."""
        out: list[SetAside] = []
        for place, held in list(self._held.items()):
            if now >= held.until:
                self._given_up.add(held.schema_id)
            elif not self._known(held.schema_id):
                continue
            del self._held[place]
            for message in held.messages:
                aside = self.take(message, now, now_ms)
                if aside is not None:
                    out.append(aside)
        self._given_up = {schema_id for schema_id in self._given_up if not self._known(schema_id)}
        return out

    def revoke(self, places: set[Place]) -> None:
        """Drops everything of partitions that are gone."""
        for place in places:
            self._held.pop(place, None)
        self.batches.revoke(places)

    def _known(self, schema_id: int) -> bool:
        try:
            self._catalogue.by_id(schema_id)
        except UnknownSchema:
            return False
        return True

    def _handle(self, message: Message, now: float, now_ms: int) -> SetAside | None:
        topic = message.position.place.topic
        if message.value is None and topic in self._compacted:
            self.batches.skip(message.position)
            return None
        try:
            record = wire.decode(message.value or b"", self._catalogue)
            self.batches.add(self._routes[topic], record, message.position, now)
        except MalformedRecord as error:
            return self._set_aside(message, str(error), now_ms)
        except UnknownSchema as error:
            if error.schema_id in self._given_up:
                return self._set_aside(message, str(error), now_ms)
            self._held[message.position.place] = _Held(error.schema_id, now + SCHEMA_WAIT_S, [message])
            return None
        self.records += 1
        self.newest_ms = message.time_ms
        if topic != self._letters:  # Our own letters come back as good records; counting them would dilute the share.
            self._window.add(malformed=False)
        return None

    def _set_aside(self, message: Message, reason: str, now_ms: int) -> SetAside:
        self._window.add(malformed=True)
        self.malformed += 1
        letter = dead_letter(
            position=message.position,
            time_ms=message.time_ms,
            key=message.key,
            value=message.value or b"",
            reason=reason,
            worker=self._worker,
            now_ms=now_ms,
        )
        return SetAside(letter, self.batches.set_aside(message.position))
