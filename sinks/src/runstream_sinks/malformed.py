"""Records that cannot be stored: the dead letter made of one, and the bound past which setting aside would hide an outage. Pure."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING

from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import DeadLetter
from runstream_schemas.topics import MESSAGE_BYTES_MAX
from runstream_schemas.wire import schema_id_of
from runstream_sinks.errors import TooManyMalformed

if TYPE_CHECKING:
    from runstream_sinks.ledger import Position

# A letter must fit a message with its own fields beside the raw value.
VALUE_BYTES_MAX = MESSAGE_BYTES_MAX - 64 * 1024
KEY_BYTES_MAX = 16 * 1024
# Below so many records a share says nothing: two bad records at the start are no outage.
WINDOW_RECORDS_MIN = 100
WINDOW_RECORDS_MAX = 1000


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


class Window:
    """The share of malformed records among the newest ones."""

    def __init__(self, ratio_max: float) -> None:
        self._ratio_max = ratio_max
        self._newest: deque[bool] = deque(maxlen=WINDOW_RECORDS_MAX)
        self._malformed = 0

    def add(self, *, malformed: bool) -> None:
        """Counts a record; raises TooManyMalformed when the share is passed."""
        if len(self._newest) == WINDOW_RECORDS_MAX:
            self._malformed -= self._newest[0]
        self._newest.append(malformed)
        self._malformed += malformed
        if malformed and len(self._newest) >= WINDOW_RECORDS_MIN and self._malformed > self._ratio_max * len(self._newest):
            raise TooManyMalformed(self._malformed, len(self._newest), self._ratio_max)
