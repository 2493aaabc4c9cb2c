"""Dead letters of rules: a rule that is refused, or that broke while it was applied, is set aside with its place on the rule topic, so that whoever made it finds it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from runstream_processors.engine import Output
from runstream_schemas import wire
from runstream_schemas.records import DeadLetter
from runstream_schemas.topics import MESSAGE_BYTES_MAX, TOPICS

if TYPE_CHECKING:
    from runstream_rules import RulesError


# A letter must fit a message with its own fields; a record may be larger than one, since topics bound what is compressed. The sinks' letters have the same bounds.
VALUE_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024
KEY_BYTES_MAX = 16 * 1024


class Followed(NamedTuple):
    """A record of a followed topic, and where it stands. Without a value it takes its key off the topic."""

    topic: str
    partition: int
    offset: int
    time_ms: int
    key: bytes | None
    value: bytes | None


def letter(place: Followed, error: RulesError, prefix: str, now_ms: int) -> Output:
    """The dead letter of a rule; its key is the place, so that however many workers meet the rule it is one letter. What fits no message is cut, and the reason says so."""
    value = place.value or b""
    reason = str(error)
    if len(value) > VALUE_BYTES_MAX:
        reason = f"{reason} (the first {VALUE_BYTES_MAX} of {len(value)} bytes are kept)"
    record = DeadLetter(
        topic=place.topic,
        partition=place.partition,
        offset=place.offset,
        time_ms=place.time_ms,
        value=value[:VALUE_BYTES_MAX],
        sha256=hashlib.sha256(value).hexdigest(),
        reason=reason,
        key=None if place.key is None else place.key[:KEY_BYTES_MAX],
        schema_id=wire.schema_id_of(value),
        worker="processors",
        set_aside_ms=now_ms,
    )
    return Output(TOPICS["dead-letter"].full_name(prefix), f"{place.topic}/{place.partition}/{place.offset}".encode(), wire.encode(record))
