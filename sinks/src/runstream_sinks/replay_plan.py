"""What a replay is asked to do, which group or file keeps how far it got, and what is left of one that was begun. Pure; `replay` does it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_sinks.errors import KafkaRefused
from runstream_sinks.spans import BEGINNING, Bound, Offset, Span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_feed.records import Place
    from runstream_schemas import topics
    from runstream_schemas.settings import Settings
    from runstream_sinks.kafka_reader import Kept


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
