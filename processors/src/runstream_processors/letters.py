"""Dead letters of rules: a rule that is refused, or that broke while it was applied, is set aside with its place on the rule topic, so that whoever made it finds it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from runstream_processors.engine import Output
from runstream_schemas import wire
from runstream_schemas.records import DeadLetter
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from runstream_rules import RulesError


class Followed(NamedTuple):
    """A record of a followed topic, and where it stands. Without a value it takes its key off the topic."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None


def letter(place: Followed, error: RulesError, prefix: str, now_ms: int) -> Output:
    """The dead letter of a rule; its key is the place, so that however many workers meet the rule it is one letter."""
    value = place.value or b""
    record = DeadLetter(
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        time_ms=place.time_ms,
        value=value,
        sha256=hashlib.sha256(value).hexdigest(),
        reason=str(error),
        key=place.key,
        schema_id=wire.schema_id_of(value),
        worker="processors",
        set_aside_ms=now_ms,
    )
    return Output(TOPICS["dead-letter"].full_name(prefix), f"{place.topic}/{place.partition}/{place.offset}".encode(), wire.encode(record))
