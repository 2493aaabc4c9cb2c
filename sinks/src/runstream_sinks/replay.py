"""Replays: spans of topics through the pipeline again, into the live tables, where rows collapse, or into another database. How far one got is kept in Kafka.

A replay has a group of its own that nobody joins. Beside each offset the group holds what the replay is to do, so that the same command, given again on any machine, goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runstream_schemas.catalogue import Catalogue, bundled
from runstream_schemas.topics import TOPICS
from runstream_sinks import migrations, upkeep
from runstream_sinks.clickhouse import Server, has_database
from runstream_sinks.errors import KafkaRefused, ServerRefused, SinksError
from runstream_sinks.fill import Caller, Counts, Fill, Malformed, runs_filter
from runstream_sinks.kafka import SchemaReader
from runstream_sinks.kafka_reader import Kept, Reader, sinks_group
from runstream_sinks.layout import Cluster
from runstream_sinks.ledger import Mark, Place
from runstream_sinks.retention import RETAINED, Keep
from runstream_sinks.spans import BEGINNING, END, At, Bound, Offset, Span, resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence

    from runstream_schemas import topics
    from runstream_schemas.settings import Settings
    from runstream_sinks.pipeline import Message

SCHEMAS_TIMEOUT_S = 10.0


class Stopped(SinksError):
    """The work was asked to stop before all of it was done; the same command goes on."""

    def __init__(self) -> None:
        super().__init__("asked to stop before all was done: the same command goes on")


@dataclass(frozen=True, slots=True)
class Request:
    """What to replay, and where to.

    Attributes:
        since, until: bounds; `until` None is what is there when the replay begins, and again whenever it is called for another database.
        said: the bounds as they were written: with the rest they tell one replay from another.
        runs: lower-case UUIDs; empty is all.
        into: another database, whose tables are made where they are missing; None is the live one.
        follow: goes on with what comes, until it is asked to stop.
    """

    topics: tuple[topics.Name, ...]
    since: Bound = BEGINNING
    until: Bound | None = None
    said: tuple[str, str] = ("", "")
    runs: frozenset[str] = frozenset()
    into: str | None = None
    group: str | None = None
    rows_s: float | None = None
    follow: bool = False

    @property
    def fills(self) -> bool:
        """Whether it fills another database with all there is, and so may be called again and again to catch up."""
        return self.into is not None and self.since == BEGINNING and self.until is None and not self.runs


@dataclass(frozen=True, slots=True)
class Result:
    """What a replay did. `complete` is false when it was stopped; the same command goes on then from what stands in `kept_in`, a group or a file."""

    kept_in: str
    database: str
    complete: bool
    resumed: bool
    records: Mapping[str, int]
    rows: Mapping[str, int]
    malformed: Mapping[str, int]
    seconds: float
    notes: Sequence[str] = ()
    examples: Sequence[Malformed] = field(default_factory=list[Malformed])


def group_of(settings: Settings, request: Request) -> str:
    """The group that keeps a replay's offsets; the same request has the same."""
    if request.group is not None:
        return request.group
    if request.fills:
        return fill_group(settings, str(request.into))
    return f"{settings.topic_prefix}-replay-{digest_of(settings, request)}"


def digest_of(settings: Settings, request: Request, source: str = "") -> str:
    """What tells one replay from another."""
    parts = (sorted(request.topics), request.said, sorted(request.runs), request.into or settings.clickhouse_database, source)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def fill_group(settings: Settings, database: str) -> str:
    """The group that says how far another database has been filled."""
    return f"{settings.topic_prefix}-replay-{database}"


@dataclass(frozen=True, slots=True)
class Note:
    """What the group keeps beside an offset: where the replay is to end, and whether all of it is done, so that the same command begins anew."""

    end: int | None
    done: bool = False

    def text(self) -> str:
        """As it stands in Kafka."""
        return json.dumps({"replay": 1, "end": self.end, "done": self.done})


def parse_note(text: str) -> Note | None:
    """The note in a text; None where it is no replay's."""
    try:
        found = json.loads(text)
        return Note(found["end"], bool(found["done"]))
    except (ValueError, TypeError, KeyError):
        return None


def go_on(kept: Mapping[Place, Kept], group: str) -> dict[Place, Span]:
    """What is left of a replay that was begun, by partition; nothing where none was begun, or all of it is done.

    Raises:
        KafkaRefused: the group's offsets are not a replay's.
    """
    left: dict[Place, Span] = {}
    done = True
    for place, (offset, text) in kept.items():
        note = parse_note(text)
        if note is None:
            raise KafkaRefused(f"group {group} holds offsets that no replay wrote: choose a --group of its own")
        left[place] = Span(offset, note.end)
        done = done and note.done
    return {} if done else left


class _Spans:
    """A reader as a source: it keeps a note beside each offset."""

    def __init__(self, reader: Reader, spans: Mapping[Place, Span]) -> None:
        """Keeps where each span begins, so that whoever goes on has the same bounds, and starts reading."""
        self._reader = reader
        self._spans = spans
        self.keep({place: Mark(span.first, None) for place, span in spans.items()}, wait=True)
        reader.start(spans)

    def finish(self, *, done: bool) -> None:
        """Keeps that everything was read, or that there is nothing left to do at all."""
        marks = {place: Mark(span.first if span.end is None else span.end, None) for place, span in self._spans.items()}
        self._reader.keep(marks, lambda place: Note(self._spans[place].end, done).text(), wait=True)

    @property
    def done(self) -> bool:
        return self._reader.done

    @property
    def records(self) -> tuple[int, int]:
        return self._reader.records

    def poll(self, *, records_max: int, timeout_s: float) -> Sequence[Message]:
        return self._reader.poll(records_max=records_max, timeout_s=timeout_s)

    def only(self, wanted: Callable[[Place], bool]) -> None:
        self._reader.only(wanted)

    def keep(self, marks: Mapping[Place, Mark], *, wait: bool) -> None:
        self._reader.keep(marks, lambda place: Note(self._spans[place].end).text(), wait=wait)


class _Reading:
    """A reader as a source whose progress nobody keeps."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    @property
    def done(self) -> bool:
        return self._reader.done

    @property
    def records(self) -> tuple[int, int]:
        return self._reader.records

    def poll(self, *, records_max: int, timeout_s: float) -> Sequence[Message]:
        return self._reader.poll(records_max=records_max, timeout_s=timeout_s)

    def only(self, wanted: Callable[[Place], bool]) -> None:
        self._reader.only(wanted)

    def keep(self, marks: Mapping[Place, Mark], *, wait: bool) -> None:
        pass


def read_into(settings: Settings, reader: Reader, database: str, runs: frozenset[str], caller: Caller) -> Counts:
    """Reads the spans that a reader was started with into a database, and keeps no progress. Raises Stopped where it was asked to."""
    with schemas_of(settings) as (catalogue, refresh):
        fill = Fill(settings, database=database, source=_Reading(reader), catalogue=catalogue, wanted=runs_filter(runs), read_schemas=refresh)
        if not fill.run(caller):
            raise Stopped
    return fill.counts


def forget(settings: Settings, group: str, places: Sequence[Place]) -> None:
    """Lets a group's replay be over, so that the next one begins anew."""
    reader = Reader(settings, group)
    try:
        marks = {place: Mark(kept.offset, None) for place, kept in reader.kept(places).items()}
        reader.keep(marks, lambda place: Note(marks[place].offset, done=True).text(), wait=True)
    finally:
        reader.close()


def full_names(names: Iterable[topics.Name], settings: Settings) -> list[str]:
    """Topics under the deployment's prefix."""
    return [TOPICS[name].full_name(settings.topic_prefix) for name in names]


def spans_of(reader: Reader, places: Sequence[Place], since: Bound, until: Bound) -> dict[Place, Span]:
    """The spans of partitions between two bounds; blocks for a few answers of Kafka."""
    limits = reader.limits(places)
    at_since = reader.offsets_at(places, since.time_ms) if isinstance(since, At) else {}
    at_until = reader.offsets_at(places, until.time_ms) if isinstance(until, At) else {}
    return {
        place: resolve(since, until, low=low, high=high, at_since=at_since.get(place), at_until=at_until.get(place)) for place, (low, high) in limits.items()
    }


@contextmanager
def schemas_of(settings: Settings) -> Generator[tuple[Catalogue, Callable[[], bool]]]:
    """A catalogue with what is on the schema topic, and a way to add what comes."""
    catalogue = Catalogue(bundled().entries())
    schemas = SchemaReader(settings, catalogue)
    try:
        schemas.refresh(timeout_s=SCHEMAS_TIMEOUT_S)
        yield catalogue, schemas.refresh
    finally:
        schemas.close()


def prepare_tables(settings: Settings, into: str | None) -> str:
    """The name of the database to fill, its tables being there: made where it is another than the live one, with the retention of that.

    Raises:
        ServerRefused: the live one has no tables yet.
        MigrationMismatch: the database is not what this version makes.
    """
    url, live = settings.clickhouse_url, settings.clickhouse_database
    server = Server(url, live)
    try:
        is_there = has_database(url, live)
        if into is None:
            if not is_there or migrations.plan(migrations.bundled(), migrations.applied(server)):
                raise ServerRefused(f"database {live} lacks tables of this version: runstream migrate makes them")
            return live
        days = upkeep.kept(server) if is_there else dict[str, int]()
    finally:
        server.close()
    cluster = None if settings.clickhouse_cluster is None else Cluster(settings.clickhouse_cluster, into)
    wishes = upkeep.Wishes(cluster, keeps=[Keep(name, days.get(name, 0)) for name in RETAINED])
    upkeep.apply(url, into, upkeep.todo(url, into, wishes))
    return into


def replay(settings: Settings, request: Request, caller: Caller) -> Result:
    """Replays until everything is stored, or it is asked to stop.

    Raises:
        SinksError: ClickHouse or Kafka refused, or Kafka does not answer. What was stored by then is not read again by the next call.
    """
    group = group_of(settings, request)
    if group == sinks_group(settings):
        raise KafkaRefused(f"group {group} is the sinks' own: choose another --group")
    database = prepare_tables(settings, request.into)
    reader = Reader(settings, group)
    try:
        places = reader.places(full_names(request.topics, settings))
        begun = go_on(reader.kept(places), group)
        fresh = spans_of(reader, places, request.since, request.until or END)
        spans = spans_to_read(request, begun, fresh)
        source = _Spans(reader, spans)
        with schemas_of(settings) as (catalogue, refresh):
            fill = Fill(
                settings,
                database=database,
                source=source,
                catalogue=catalogue,
                wanted=runs_filter(request.runs),
                rows_s=request.rows_s,
                read_schemas=refresh,
            )
            complete = fill.run(caller)
        if complete:
            source.finish(done=not request.fills)
        counts = fill.counts
        return Result(
            group,
            database,
            complete,
            bool(begun),
            counts.records,
            counts.rows,
            counts.malformed,
            fill.progress.seconds,
            [] if begun else remarks(request.since, fresh),
            counts.examples,
        )
    finally:
        reader.close()


def spans_to_read(request: Request, begun: Mapping[Place, Span], fresh: Mapping[Place, Span]) -> dict[Place, Span]:
    """What to read: what is left of a replay that was begun, with its bounds; what fills a database goes on to what is there by now."""
    spans: dict[Place, Span] = {}
    for place, whole in fresh.items():
        span = begun.get(place, whole)
        end = whole.end if request.fills else span.end
        spans[place] = Span(span.first, None if request.follow else end)
    return spans


def remarks(since: Bound, spans: Mapping[Place, Span]) -> list[str]:
    """What people should know of a replay that begins: records they asked for that Kafka keeps no more."""
    if not isinstance(since, Offset):
        return []
    return [
        f"{place.topic}/{place.partition} begins at offset {span.first}: what was before is no longer kept by Kafka (an archive has it: --from-archive)"
        for place, span in spans.items()
        if span.first > since.offset and span.records
    ]
