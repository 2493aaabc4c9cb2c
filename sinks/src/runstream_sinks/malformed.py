"""Records that cannot be stored: the dead letter made of one, and how fast records are set aside. Pure."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import DeadLetter
from runstream_schemas.topics import MESSAGE_BYTES_MAX
from runstream_schemas.wire import schema_id_of

if TYPE_CHECKING:
    from runstream_sinks.ledger import Position

# A letter must fit a message with its own fields beside the raw value.
VALUE_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024
KEY_BYTES_MAX = 16 * 1024
# Of one topic by one worker: what a broken producer may leave behind without holding its partition, and how fast it goes on past that. A reader that cannot read a new
# kind of record at all so sets aside no millions before somebody looks.
AT_ONCE = 5000
PER_S = 10.0


def dead_letter(*, position: Position, time_ms: int, key: bytes | None, value: bytes, reason: str, worker: str, now_ms: int) -> DeadLetter:
    """The letter for a record: raw bytes, place and reason. A value too large for a message is cut, and the reason says so; the hash is of the whole."""
    if len(value) > VALUE_BYTES_MAX:
        reason = f"{reason} (the first {VALUE_BYTES_MAX} of {len(value)} bytes are kept)"
    return DeadLetter(
        topic=position.place.topic,
        partition=position.place.partition,
        offset=position.offset,
        time_ms=time_ms,
        key=None if key is None else key[:KEY_BYTES_MAX],
        value=value[:VALUE_BYTES_MAX],
        sha256=hashlib.sha256(value).hexdigest(),
        schema_id=_schema_id(value),
        reason=reason,
        worker=worker,
        set_aside_ms=now_ms,
    )


def _schema_id(value: bytes) -> int | None:
    try:
        found = schema_id_of(value)
    except MalformedRecord:
        return None
    return found if found < 1 << 31 else None  # The field is an Avro int; ids of ours have 31 bits.


class Allowance:
    """How many records of one topic may be set aside by now: a store of `AT_ONCE`, which fills again with time and with good records."""

    def __init__(self, ratio_max: float, now: float) -> None:
        """`ratio_max` is the share of malformed records that goes on for ever without a wait; 1 sets no bound at all."""
        self._bounded = ratio_max < 1
        self._per_good = ratio_max / (1 - ratio_max) if self._bounded else 0.0
        self._left = float(AT_ONCE)
        self._since = now

    def good(self) -> None:
        """Counts a record that was stored."""
        self._left = min(AT_ONCE, self._left + self._per_good)

    def take(self, now: float) -> bool:
        """Whether one more may be set aside, which is then counted."""
        self._left = min(AT_ONCE, self._left + PER_S * max(0.0, now - self._since))
        self._since = now
        if self._bounded and self._left < 1:
            return False
        self._left -= 1
        return True
