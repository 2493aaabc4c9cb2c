"""Replays: spans of topics through the pipeline again, into the live tables, where rows collapse, or into another database. How far one got is kept in Kafka.

A replay has a group of its own that nobody joins. Beside each offset the group holds what the replay is to do, so that the same command, given again on any machine, goes on where it was.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runstream_feed.records import Place
from runstream_schemas.catalogue import Catalogue, bundled
from runstream_schemas.topics import TOPICS
from runstream_sinks import migrations, upkeep
from runstream_sinks.clickhouse import Server, has_database
from runstream_sinks.errors import KafkaRefused, ServerRefused, SinksError
from runstream_sinks.fill import Caller, Counts, Fill, Malformed, runs_filter
from runstream_sinks.kafka import SchemaReader
from runstream_sinks.kafka_config import sinks_group
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.layout import Cluster
from runstream_sinks.ledger import Mark
from runstream_sinks.replay_plan import Note, Request, go_on, group_of, remarks, spans_to_read
from runstream_sinks.retention import RETAINED, Keep
from runstream_sinks.spans import END, At, Bound, Span, resolve

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
