"""What to do with a message: decode it, give it to its table's chunk, hold it until its schema is known, or set it aside. Pure: time is an argument, nothing is sent."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord, UnknownSchema
from runstream_schemas.topics import TOPICS
from runstream_sinks.errors import TooManyMalformed
from runstream_sinks.malformed import Floods, Policy, dead_letter
from runstream_sinks.points import PointRows, fits
from runstream_sinks.rows import PlainRows
from runstream_sinks.summaries import SummaryRows
from runstream_sinks.tables import TABLE_OF, Name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runstream_feed.records import Place
    from runstream_schemas.catalogue import Catalogue
    from runstream_schemas.frame_batch import Batch
    from runstream_schemas.records import DeadLetter, Record
    from runstream_sinks.batching import Batches, Rows
    from runstream_sinks.ledger import Claim, Position

_POINTS: tuple[Name, ...] = ("metric_points", "hardware_points")
# A writer announces a schema before it uses it, so an unknown id is a race of moments. For it a partition waits this long, once in a period, whatever number of ids come.
SCHEMA_WAIT_S = 5.0
SCHEMA_WAIT_PERIOD_S = 300.0
# A record that was written so long before a reading of the schema topic to its end was explained there, if ever.
SCHEMA_DUE_S = 5.0
# After that wait an id needs one reading of the schema topic to its end; a topic that cannot be read holds nothing longer than this.
SCHEMA_READ_S_MAX = 2.0


# A named tuple, since one is made for every record on the way.
class Message(NamedTuple):
    """One record as it came from Kafka; `value` is None for the tombstone of a compacted topic.

    `refused` says why what stands there could not be read: then it is the last record of a batch, and stands for all of it.
    """

    position: Position
    time_ms: int
    key: bytes | None
    value: bytes | None
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class SetAside:
    """A letter to send; once it is acknowledged, the claim is to be settled."""

    letter: DeadLetter
    claim: Claim


@dataclass(slots=True)
class _Held:
    """Messages of one partition with the times they were met at, in order; the first waits for its schema, or until it may be set aside."""

    for_schema: bool
    messages: deque[tuple[Message, float]]


class _Together(NamedTuple):
    """Frames that were read together, and their table."""

    name: Name
    batch: Batch


class _MustWait(Exception):
    """The message was not taken: it waits for its schema, or until it may be set aside."""

    def __init__(self, *, for_schema: bool) -> None:
        super().__init__()
        self.for_schema = for_schema


def rows_of(name: Name) -> Rows:
    """Empty rows for a table."""
    return PointRows() if name in _POINTS else SummaryRows() if name == "summary_series" else PlainRows(name)


def routes(prefix: str) -> dict[str, Name]:
    """Full topic names under a prefix, with the table that each goes into."""
    return {TOPICS[name].full_name(prefix): table for name, table in TABLE_OF.items()}


class Pipeline:
    """Takes messages in order; what comes out are rows in `batches` and letters to send. Taking raises TooManyMalformed where the policy says to stop."""

    def __init__(
        self, batches: Batches, *, prefix: str, catalogue: Catalogue, policy: Policy, worker: str, wanted: Callable[[Record], bool] | None = None
    ) -> None:
        """Records for which `wanted` is false are passed over; None wants all."""
        self.batches = batches
        self._routes = routes(prefix)
        self._compacted = {topic.full_name(prefix) for topic in TOPICS.values() if topic.compacted}
        self._catalogue = catalogue
        self._policy = policy
        self._wanted = wanted
        self._floods: dict[str, Floods] = {}
        self._worker = worker
        self._held: dict[Place, _Held] = {}
        # For each partition: the end of its last wait for a schema.
        self._waits: dict[Place, float] = {}
        # When the last reading of the schema topic to its end began: on the monotonic clock, and in epoch milliseconds.
        self._schemas_read: tuple[float, int] | None = None
        self.newest_ms = 0
        self.records = 0
        self.malformed: Counter[str] = Counter()

    @property
    def held(self) -> set[Place]:
        """Partitions that wait: do not fetch from them."""
        return set(self._held)

    @property
    def wants_schemas(self) -> bool:
        """Whether messages wait for the schema topic to be read to its end: say so by `schemas_read`, then `retry`."""
        return any(one.for_schema for one in self._held.values())

    @property
    def slowed(self) -> dict[str, int]:
        """Topics of which more is malformed than may be set aside at once, with the number of partitions that wait for it."""
        return Counter(place.topic for place, one in self._held.items() if not one.for_schema)

    @property
    def waiting(self) -> dict[str, int]:
        """How many partitions wait for a schema, and how many for room to set more aside."""
        return Counter("schema" if one.for_schema else "flood" for one in self._held.values())

    def schemas_read(self, began: float, began_ms: int) -> None:
        """Notes that the catalogue has everything that was on the schema topic at that time."""
        self._schemas_read = (began, began_ms)

    def take(self, message: Message, now: float, now_ms: int) -> SetAside | None:
        """Handles one message; a letter comes back where it is malformed."""
        place = message.position.place
        held = self._held.get(place)
        if held is not None:
            held.messages.append((message, now))
            return None
        try:
            return self._handle(message, now, now, now_ms)
        except _MustWait as wait:
            self._held[place] = _Held(wait.for_schema, deque([(message, now)]))
            return None

    def take_all(self, messages: Sequence[Message], now: float, now_ms: int) -> Iterator[SetAside]:
        """Handles messages as `take` does, one after the other, but reads frames of points together; letters come as their messages' turn comes."""
        batches, batch_of = self._read_together(messages)
        chosen: list[list[int]] = [[] for _ in batches]
        try:
            for place, message in enumerate(messages):
                found = batch_of.get(place)
                if found is None or message.position.place in self._held:
                    aside = self.take(message, now, now_ms)
                    if aside is not None:
                        yield aside
                    continue
                batch, at = found
                chosen[batch].append(at)
                self.batches.ledger.read(message.position, self.batches.opened(batches[batch].name, now).claim)
                self._taken(message, now)
        finally:
            # The ledger says that they are in the chunk, whatever came after them.
            for one, some in zip(batches, chosen, strict=True):
                if some:
                    rows = self.batches.opened(one.name, now).rows
                    assert isinstance(rows, PointRows)
                    rows.add_batch(one.batch, some)

    def _read_together(self, messages: Sequence[Message]) -> tuple[list[_Together], dict[int, tuple[int, int]]]:
        """Frames that can be read together and have a place in their table; and for each message that is one of them its batch and its place there."""
        batches: list[_Together] = []
        batch_of: dict[int, tuple[int, int]] = {}
        for name in _POINTS:
            places = [place for place, one in enumerate(messages) if one.value is not None and self._routes[one.position.place.topic] == name]
            if len(places) < 2:
                continue
            for batch in wire.decode_frames([messages[place].value or b"" for place in places])[0]:
                for at, place in enumerate(batch.places):
                    if fits(batch.heads[at]) and (self._wanted is None or self._wanted(batch.frame(at))):
                        batch_of[places[place]] = len(batches), at
                batches.append(_Together(name, batch))
        return batches, batch_of

    def retry(self, now: float, now_ms: int) -> Sequence[SetAside]:
        """Tries held messages again, each partition's in order."""
        out: list[SetAside] = []
        for place, held in list(self._held.items()):
            while held.messages:
                message, met = held.messages[0]
                try:
                    aside = self._handle(message, met, now, now_ms)
                except _MustWait as wait:
                    held.for_schema = wait.for_schema
                    break
                held.messages.popleft()
                if aside is not None:
                    out.append(aside)
            else:
                del self._held[place]
        return out

    def revoke(self, places: set[Place]) -> None:
        """Drops everything of partitions that are gone."""
        for place in places:
            self._held.pop(place, None)
            self._waits.pop(place, None)
            if place.topic in self._floods:
                self._floods[place.topic].forget(place.partition)
        self.batches.revoke(places)

    def _handle(self, message: Message, met: float, now: float, now_ms: int) -> SetAside | None:
        topic = message.position.place.topic
        if message.refused is not None:
            return self._set_aside(message, message.refused, now, now_ms)
        if message.value is None and topic in self._compacted:
            self.batches.skip(message.position)
            return None
        try:
            record = wire.decode(message.value or b"", self._catalogue)
            if self._wanted is None or self._wanted(record):
                self.batches.add(self._routes[topic], record, message.position, now)
            else:
                self.batches.skip(message.position)
        except MalformedRecord as error:
            return self._set_aside(message, str(error), now, now_ms)
        except UnknownSchema as error:
            if not self._nobody_announced_it(message, met, now):
                raise _MustWait(for_schema=True) from None
            return self._set_aside(message, str(error), now, now_ms)
        self._taken(message, now)
        return None

    def _taken(self, message: Message, now: float) -> None:
        self.records += 1
        self.newest_ms = message.time_ms
        self._floods_of(message.position.place.topic, now).good(message.position.place.partition)

    def _nobody_announced_it(self, message: Message, met: float, now: float) -> bool:
        """Whether a schema that the catalogue lacks will not come any more."""
        read, read_ms = self._schemas_read or (float("-inf"), 0)
        if message.time_ms <= read_ms - 1000 * SCHEMA_DUE_S:
            return True
        place = message.position.place
        until = self._waits.get(place)
        if until is None or now >= until + SCHEMA_WAIT_PERIOD_S:
            until = self._waits[place] = now + SCHEMA_WAIT_S
        return now >= until and (read > met or now >= met + SCHEMA_READ_S_MAX)

    def _floods_of(self, topic: str, now: float) -> Floods:
        found = self._floods.get(topic)
        if found is None:
            found = self._floods[topic] = Floods(self._policy, now)
        return found

    def _set_aside(self, message: Message, reason: str, now: float, now_ms: int) -> SetAside:
        topic, partition = message.position.place
        bound = self._floods_of(topic, now).refuses(partition, now)
        if bound is not None:
            if self._policy.stops:
                raise TooManyMalformed(topic, partition, bound)
            raise _MustWait(for_schema=False)
        self.malformed[topic] += 1
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
