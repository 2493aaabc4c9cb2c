"""Dead letters sent again: the raw bytes with their key, onto the topic and partition they came from, and what became of each.

Sending a record again is harmless, since its rows are keyed by its own identity; of letters with the same bytes one is sent. What this version still cannot store, what was cut, and what a
newer record of a compacted topic has replaced, is not sent. Whether the sinks stored a record shows by their committed offsets and by the letters that have come since.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from runstream_feed.records import Place
from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord, UnknownSchema
from runstream_schemas.topics import TOPICS
from runstream_sinks.kafka_config import sinks_group
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.kafka_sender import Sender
from runstream_sinks.malformed import KEY_BYTES_MAX
from runstream_sinks.pipeline import routes, rows_of
from runstream_sinks.replay import schemas_of
from runstream_sinks.spans import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runstream_schemas.catalogue import Catalogue
    from runstream_schemas.records import DeadLetter
    from runstream_schemas.settings import Settings
    from runstream_sinks.letters import Letter, Letters, OnTopic
    from runstream_sinks.tables import Name

FLUSH_TIMEOUT_S = 30.0
LOOK_INTERVAL_S = 0.2
Outcome = Literal["stored", "sent", "set aside again", "still malformed", "cut", "repeat", "superseded", "foreign", "failed", "would send"]
DONE: frozenset[Outcome] = frozenset({"stored", "repeat", "superseded", "would send"})


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of a letter. `why` says more where there is more to say; `offset` is where its record lies now."""

    letter: Letter
    outcome: Outcome
    why: str = ""
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides whether a letter may be sent: the topics of this deployment with their tables, and the schemas that are known."""

    tables: Mapping[str, Name]
    catalogue: Catalogue
    force: bool = False

    def refuse(self, letter: Letter, whole: DeadLetter) -> Fate | None:
        """Why a letter is not sent; None where it is. Pure."""
        table = self.tables.get(letter.topic)
        if table is None:
            return Fate(letter, "foreign", "its topic is none of this deployment's: look at topic_prefix")
        if hashlib.sha256(whole.value).hexdigest() != letter.sha256:
            return Fate(letter, "cut", f"only {len(whole.value):,} bytes of it were kept: take it from the topic, or an archive, if they still hold it")
        if whole.key is not None and len(whole.key) >= KEY_BYTES_MAX:
            return Fate(letter, "cut", "its key may have been cut: take it from the topic, or an archive, if they still hold it")
        if self.force:
            return None
        try:
            rows_of(table).add(wire.decode(whole.value, self.catalogue))
        except (MalformedRecord, UnknownSchema) as error:
            return Fate(letter, "still malformed", str(error))
        return None


def send_again(
    settings: Settings, source: Letters, letters: Sequence[Letter], topic: OnTopic, *, force: bool, dry_run: bool, wait_s: float, asked: Callable[[], bool]
) -> list[Fate]:
    """Sends letters again and looks for up to `wait_s` what the sinks make of them; all fates, in the order of the letters.

    Raises:
        SinksError: Kafka or ClickHouse refused, or do not answer.
    """
    replaced = _newer(settings, letters)
    fates: dict[Letter, Fate] = {}
    before = topic.ends()
    with schemas_of(settings) as (catalogue, _):
        rules = Rules(routes(settings.topic_prefix), catalogue, force)
        sender = None if dry_run else Sender(settings)
        seen: set[tuple[str, bytes | None, str]] = set()
        for letter, whole in source.fetch(letters):
            if asked():
                break
            fate = rules.refuse(letter, whole)
            content = (letter.topic, whole.key, letter.sha256)
            if fate is None and content in seen:
                fate = Fate(letter, "repeat", "another letter has the same key and bytes")
            newer = replaced.get((letter.topic, letter.partition), {}).get(whole.key, -1)
            if fate is None and newer > letter.offset:
                fate = Fate(letter, "superseded", f"a newer record of its key stands at offset {newer}")
            if fate is None:
                seen.add(content)
                fate = Fate(letter, "would send")
                if sender is not None:
                    fate = Fate(letter, "failed", "nothing is known of it")
                    place, headers = Place(letter.topic, letter.partition), {"runstream-retry-of": letter.id.encode()}
                    sender.send(place, whole.key, whole.value, headers, _noted(fates, letter))
            fates.setdefault(letter, fate)
        if sender is not None:
            sender.flush(FLUSH_TIMEOUT_S)
    if not dry_run:
        _follow(settings, fates, topic, before, wait_s, asked)
    return [fates.get(one) or Fate(one, "failed", "it was not looked at") for one in letters]


def _noted(fates: dict[Letter, Fate], letter: Letter) -> Callable[[int | None, str], None]:
    def on_sent(offset: int | None, why: str) -> None:
        fates[letter] = Fate(letter, "failed", why) if offset is None else Fate(letter, "sent", "no sink has read it yet", offset)

    return on_sent


def _newer(settings: Settings, letters: Iterable[Letter]) -> dict[tuple[str, int], dict[bytes | None, int]]:
    """For the partitions of compacted topics that have letters: keys with the offset of their newest record behind the first letter.

    A record of such a topic says what holds now. Sent again behind a newer one it would take its place, for whoever reads the topic and when it is compacted.
    """
    compacted = {topic.full_name(settings.topic_prefix) for topic in TOPICS.values() if topic.compacted}
    firsts: dict[Place, int] = {}
    for one in letters:
        if one.topic in compacted:
            place = Place(one.topic, one.partition)
            firsts[place] = min(firsts.get(place, one.offset), one.offset)
    if not firsts:
        return {}
    reader = Reader(settings, f"{settings.topic_prefix}-dlq")
    try:
        limits = reader.limits(list(firsts))
        found: dict[tuple[str, int], dict[bytes | None, int]] = {}
        for message in reader.read({place: Span(max(low, min(firsts[place] + 1, high)), high) for place, (low, high) in limits.items()}):
            found.setdefault(message.position.place, {})[message.key] = message.position.offset
        return found
    finally:
        reader.close()


def _follow(settings: Settings, fates: dict[Letter, Fate], topic: OnTopic, before: dict[Place, int], wait_s: float, asked: Callable[[], bool]) -> None:
    """Looks until the sinks have read everything that was sent, or the time is up, and sets the fates."""
    sent = {letter: fate for letter, fate in fates.items() if fate.outcome == "sent" and fate.offset is not None}
    places = sorted({Place(letter.topic, letter.partition) for letter in sent})
    if not places:
        return
    reader = Reader(settings, sinks_group(settings))
    deadline = time.monotonic() + wait_s
    try:
        while True:
            stored = {place: kept.offset for place, kept in reader.kept(places).items()}
            left = [fate for letter, fate in sent.items() if stored.get(Place(letter.topic, letter.partition), 0) <= (fate.offset or 0)]
            if not left or time.monotonic() >= deadline or asked():
                break
            time.sleep(LOOK_INTERVAL_S)
    finally:
        reader.close()
    # A letter is held by Kafka before the offset behind its record is committed.
    aside = {(one.topic, one.partition, one.offset): one.reason for one in topic.since(before)}
    for letter, fate in sent.items():
        reason = aside.get((letter.topic, letter.partition, fate.offset or 0))
        if reason is not None:
            fates[letter] = replace(fate, outcome="set aside again", why=reason)
        elif fate not in left:
            fates[letter] = replace(fate, outcome="stored", why="")
