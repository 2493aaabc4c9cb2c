"""Dead letters as an operator looks for them: in their table, or on their topic where the sinks do not run.

A listing never carries raw bytes; those are fetched for the letters that are asked for, a bounded number of bytes at a time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from runstream_feed.records import Place
from runstream_schemas import wire
from runstream_schemas.errors import SchemasError
from runstream_schemas.records import DeadLetter
from runstream_schemas.settings import SettingsError
from runstream_schemas.topics import TOPICS
from runstream_sinks.clickhouse import Server
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.spans import Span

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from runstream_schemas.settings import Settings

FETCH_BYTES_MAX = 32 << 20
FETCH_MAX = 500
Where = Literal["table", "topic"]


@dataclass(frozen=True, slots=True)
class Letter:
    """What a listing says of a dead letter. `at` is its own partition and offset on the topic of letters, where it was found there."""

    topic: str
    partition: int
    offset: int
    sha256: str
    time_ms: int
    key_bytes: int | None
    value_bytes: int
    schema_id: int | None
    reason: str
    worker: str
    set_aside_ms: int
    at: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """By what people name it: the place of the record."""
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which letters: all conditions must hold, and those that are empty do.

    Attributes:
        places: of records, as `topic/partition/offset`.
        topics: full names.
        since_ms, until_ms: when the record was set aside, from and up to, not including.
        reason: a part of the reason, whatever its case.
    """

    places: frozenset[tuple[str, int, int]] = frozenset()
    topics: frozenset[str] = frozenset()
    since_ms: int | None = None
    until_ms: int | None = None
    reason: str = ""

    def takes(self, one: Letter) -> bool:
        """Whether a letter is one of them."""
        return (
            (not self.places or (one.topic, one.partition, one.offset) in self.places)
            and (not self.topics or one.topic in self.topics)
            and (self.since_ms is None or one.set_aside_ms >= self.since_ms)
            and (self.until_ms is None or one.set_aside_ms < self.until_ms)
            and self.reason.lower() in one.reason.lower()
        )


def parse_place(text: str) -> tuple[str, int, int]:
    """The place that a person wrote. Raises SettingsError."""
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (topic and partition.isdigit() and offset.isdigit()):
        raise SettingsError(f"a dead letter is named by the place of its record, TOPIC/PARTITION/OFFSET, got {text!r}: `runstream dlq ls` lists them")
    return topic, int(partition), int(offset)


class Letters(Protocol):
    """A place where letters are."""

    def find(self, wanted: Wanted, most: int | None = None) -> list[Letter]:
        """The letters, newest first, at most so many; each once, however often its record was set aside."""
        ...

    def count(self, wanted: Wanted) -> Counter[tuple[str, str]]:
        """How many there are by topic and reason."""
        ...

    def fetch(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, DeadLetter]]:
        """The letters with their raw bytes, in any order."""
        ...


# ---- in the table ----------------------------------------------------------------------------------------------------------------------

_WANTED = """
FROM dead_letters
WHERE ({topics:Array(String)} = [] OR topic IN (SELECT arrayJoin({topics:Array(String)})))
    AND set_aside >= fromUnixTimestamp64Milli({since:Int64}) AND set_aside < fromUnixTimestamp64Milli({until:Int64})
    AND positionCaseInsensitiveUTF8(reason, {reason:String}) > 0
    AND ({places:Array(String)} = [] OR concat(topic, '/', toString(partition), '/', toString(offset)) IN (SELECT arrayJoin({places:Array(String)})))
"""
_FIND = f"""
SELECT topic, partition, offset, sha256, toUnixTimestamp64Milli(time), length(key), length(value), schema_id, reason, worker, toUnixTimestamp64Milli(set_aside)
{_WANTED}
ORDER BY set_aside DESC, topic, partition, offset DESC
LIMIT {{most:UInt64}}
"""
_COUNT = f"SELECT topic, reason, count() {_WANTED} GROUP BY topic, reason"
# As hexadecimal digits, since a client makes texts of what is none.
_FETCH = """
SELECT topic, partition, offset, sha256, hex(key), key IS NULL, hex(value) FROM dead_letters
WHERE concat(topic, '/', toString(partition), '/', toString(offset)) IN (SELECT arrayJoin({places:Array(String)}))
"""
_TIME_MS_MAX = 10**13
_COUNT_MAX = 10**9


class InTable:
    """The view `dead_letters`."""

    def __init__(self, settings: Settings) -> None:
        self._server = Server(settings.clickhouse_url, settings.clickhouse_database)

    def find(self, wanted: Wanted, most: int | None = None) -> list[Letter]:
        """As the protocol says. Raises ServerBusy or ServerRefused."""
        return [Letter(*row) for row in self._server.query(_FIND, self._asked(wanted) | {"most": _COUNT_MAX if most is None else most})]

    def count(self, wanted: Wanted) -> Counter[tuple[str, str]]:
        """As the protocol says. Raises ServerBusy or ServerRefused."""
        return Counter({(topic, reason): count for topic, reason, count in self._server.query(_COUNT, self._asked(wanted))})

    @staticmethod
    def _asked(wanted: Wanted) -> dict[str, object]:
        return {
            "topics": sorted(wanted.topics),
            "since": wanted.since_ms or 0,
            "until": _TIME_MS_MAX if wanted.until_ms is None else wanted.until_ms,
            "reason": wanted.reason,
            "places": [f"{topic}/{partition}/{offset}" for topic, partition, offset in sorted(wanted.places)],
        }

    def fetch(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, DeadLetter]]:
        """As the protocol says."""
        some: list[Letter] = []
        nbytes = 0
        for one in letters:
            if some and (len(some) >= FETCH_MAX or nbytes + one.value_bytes > FETCH_BYTES_MAX):
                yield from self._fetch(some)
                some, nbytes = [], 0
            some.append(one)
            nbytes += one.value_bytes
        yield from self._fetch(some)

    def _fetch(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, DeadLetter]]:
        known = {(one.topic, one.partition, one.offset, one.sha256): one for one in letters}
        for topic, partition, offset, sha256, key, no_key, value in self._server.query(_FETCH, {"places": [one.id for one in letters]}):
            one = known.get((topic, partition, offset, sha256))
            if one is not None:
                yield one, _whole(one, None if no_key else bytes.fromhex(key), bytes.fromhex(value))

    def close(self) -> None:
        """Lets the connection go."""
        self._server.close()


def _whole(one: Letter, key: bytes | None, value: bytes) -> DeadLetter:
    return DeadLetter(
        topic=one.topic,
        partition=one.partition,
        offset=one.offset,
        time_ms=one.time_ms,
        key=key,
        value=value,
        sha256=one.sha256,
        schema_id=one.schema_id,
        reason=one.reason,
        worker=one.worker,
        set_aside_ms=one.set_aside_ms,
    )


# ---- on the topic ----------------------------------------------------------------------------------------------------------------------


class OnTopic:
    """The topic of letters, read from its beginning: of use where the sinks, or ClickHouse, do not run."""

    def __init__(self, settings: Settings) -> None:
        self._reader = Reader(settings, f"{settings.topic_prefix}-dlq")
        self._topic = TOPICS["dead-letter"].full_name(settings.topic_prefix)

    def find(self, wanted: Wanted, most: int | None = None) -> list[Letter]:
        """As the protocol says. Raises KafkaAway or KafkaRefused."""
        return sorted(self._all(wanted), key=lambda one: (-one.set_aside_ms, one.topic, one.partition, -one.offset))[:most]

    def count(self, wanted: Wanted) -> Counter[tuple[str, str]]:
        """As the protocol says. Raises KafkaAway or KafkaRefused."""
        return Counter((one.topic, one.reason) for one in self._all(wanted))

    def _all(self, wanted: Wanted) -> list[Letter]:
        places = self._reader.places([self._topic])
        found: dict[tuple[str, int, int, str], Letter] = {}
        for place, offset, record in self._read({place: Span(low, high) for place, (low, high) in self._reader.limits(places).items()}):
            one = _told(record, (place.partition, offset))
            if wanted.takes(one):
                found.setdefault((one.topic, one.partition, one.offset, one.sha256), one)
        return list(found.values())

    def fetch(self, letters: Sequence[Letter]) -> Iterator[tuple[Letter, DeadLetter]]:
        """As the protocol says."""
        by_place = {one.at: one for one in letters if one.at is not None}
        offsets: dict[int, list[int]] = {}
        for partition, offset in by_place:
            offsets.setdefault(partition, []).append(offset)
        for place, offset, record in self._read({Place(self._topic, number): Span(min(some), max(some) + 1) for number, some in offsets.items()}):
            one = by_place.get((place.partition, offset))
            if one is not None:
                yield one, record

    def since(self, starts: dict[Place, int]) -> Iterator[DeadLetter]:
        """The letters that have come since some offsets of `ends`."""
        for _, _, record in self._read(
            {place: Span(starts[place], max(starts[place], high)) for place, (_, high) in self._reader.limits(list(starts)).items()}
        ):
            yield record

    def ends(self) -> dict[Place, int]:
        """Where the topic ends now."""
        return {place: high for place, (_, high) in self._reader.limits(self._reader.places([self._topic])).items()}

    def _read(self, spans: dict[Place, Span]) -> Iterator[tuple[Place, int, DeadLetter]]:
        for message in self._reader.read(spans):
            try:
                record = wire.decode(message.value or b"")
            except SchemasError:
                continue  # Anybody may write to the topic; the sinks make a letter of it.
            if isinstance(record, DeadLetter):
                yield message.position.place, message.position.offset, record

    def close(self) -> None:
        """Lets the connection go."""
        self._reader.close()


def _told(record: DeadLetter, at: tuple[int, int]) -> Letter:
    return Letter(
        record.topic,
        record.partition,
        record.offset,
        record.sha256,
        record.time_ms,
        None if record.key is None else len(record.key),
        len(record.value),
        record.schema_id,
        record.reason,
        record.worker,
        record.set_aside_ms,
        at,
    )
