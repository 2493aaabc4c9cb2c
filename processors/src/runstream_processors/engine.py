"""What a stage of the processors is made of: an engine turns records into outputs and state, without Kafka and without Faust.

Here are the values that pass between the two, and what a stage asks of any engine.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord, UnknownSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from runstream_schemas.catalogue import Catalogue
    from runstream_schemas.records import Record

    Read = Callable[[bytes], bytes | None]

logger = logging.getLogger(__name__)

Work = TypeVar("Work")
TEXT_CHARACTERS_MAX = 10_000  # Of ids, projects and attempts: as many as the SDK takes.


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Received(NamedTuple):
    """One record of a source topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Output(NamedTuple):
    """One record to send; without a value it takes the key off a compacted topic."""

    topic: str
    key: bytes
    value: bytes | None


class Entry(NamedTuple):
    """One entry of a source's table, to be stored in a partition, or to be taken out of it."""

    partition: int
    key: bytes
    value: bytes | None


class Checkpoint(NamedTuple):
    """What is to be done before records may be acknowledged: send `outputs`, then store `entries` in their order."""

    outputs: list[Output]
    entries: list[Entry]


class Engine(Protocol[Work]):
    """Decisions for one source topic. Its state is ahead of the table until `settled`; `forget` drops what is not."""

    def unknown_schemas(self, records: Iterable[Received]) -> set[int]:
        """Ids of schemas that the records name and nobody knows: worth a short wait, since the schema topic may be behind."""
        ...

    def sort(self, records: Iterable[Received]) -> list[Work]:
        """The records as pieces of work. What is no record is logged by its place and left out; the sinks set it aside as a dead letter."""
        ...

    def held(self, work: Work, read: Read, waited_ms: int) -> bool:
        """Whether a piece of work waits for rules that are on their way."""
        ...

    def decide(self, work: Work, read: Read, now_ms: int) -> list[Output]:
        """What a piece of work comes to: what must be sent at once."""
        ...

    def concluded(self) -> list[Output]:
        """What some pieces of work come to together: what must be sent at once."""
        ...

    def tick(self, read: Read, now_ms: int, *, hears: bool) -> list[Output]:
        """What the passing of time comes to. `hears` says that all records there were have been read a moment ago."""
        ...

    def checkpoints(self, now_ms: int) -> Iterator[Checkpoint]:
        """All that had changed when it was asked, in parts of a bounded size; takes may come between two parts, and what they change again is for the next time.

        A part's entries are stored, and `settled`, before the next one is asked for.
        """
        ...

    def settled(self, checkpoint: Checkpoint) -> None:
        """The entries of a part are in the table."""
        ...

    def forget(self) -> None:
        """Drops what is remembered, as when partitions came or went."""
        ...

    def recovered(self, entries: Iterable[Entry]) -> None:
        """The table has been read anew: these are all of its entries."""
        ...


def unknown_schemas(records: Iterable[Received], catalogue: Catalogue) -> set[int]:
    """Ids of schemas that some records name and the catalogue lacks."""
    unknown: set[int] = set()
    for record in records:
        try:
            catalogue.by_id(wire.schema_id_of(record.value or b""))
        except UnknownSchema as error:
            unknown.add(error.schema_id)
        except MalformedRecord:
            pass
    return unknown


def short(*texts: str) -> None:
    """Refuses what would make states and messages of any size out of one record: raises MalformedRecord where one of the texts has more than `TEXT_CHARACTERS_MAX` characters."""
    longest = max(map(len, texts))
    if longest > TEXT_CHARACTERS_MAX:
        raise MalformedRecord(f"expected ids, projects and attempts of at most {TEXT_CHARACTERS_MAX} characters, got one of {longest}")


def decoded(records: Iterable[Received], catalogue: Catalogue, read: Callable[[Received, Record], Work]) -> Sequence[Work]:
    """What `read` makes of each record; it raises MalformedRecord for what is not of its topic. What does not decode is logged by its place and left out."""
    out: list[Work] = []
    for record in records:
        try:
            if record.value is None:
                raise MalformedRecord("expected a record with a value, got one without")
            out.append(read(record, wire.decode(record.value, catalogue)))
        except (MalformedRecord, UnknownSchema) as error:
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            logger.warning("record skipped", extra={**place, "reason": str(error)})
    return out
