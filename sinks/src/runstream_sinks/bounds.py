"""What a value of a record must be to fit a column, checked before the record joins a chunk, so that one bad record never spoils its neighbours.

Ids and counts that do not fit make a record malformed. Clock readings do not: a wrong clock is no reason to lose data, so they are held within what ClickHouse can
store, always at the same bounds, so that a record read again gives the same row.
"""

from __future__ import annotations

import calendar
from uuid import UUID

from runstream_schemas.errors import MalformedRecord

# What DateTime64(3) holds and prints.
TIME_MS_MIN = calendar.timegm((1900, 1, 1, 0, 0, 0)) * 1000
TIME_MS_MAX = calendar.timegm((2299, 12, 31, 23, 59, 59)) * 1000
# The start of a writer chooses the month's partition of its points. 50 years bound the partitions that hostile starts can make.
STARTED_S_MIN = calendar.timegm((2000, 1, 1, 0, 0, 0))
STARTED_S_MAX = calendar.timegm((2049, 12, 31, 23, 59, 59))
STARTED_PARTITIONS = 50 * 12

NO_RUN = bytes(16)
_U32_MAX = (1 << 32) - 1
_I64_MIN, _I64_MAX = -(1 << 63), (1 << 63) - 1


def uuid_bytes(field: str, text: str) -> bytes:
    """The 16 bytes of a UUID; an empty text is all zeros, which stands for none. The message does not carry the text."""
    if not text:
        return NO_RUN
    try:
        return UUID(text).bytes
    except ValueError:
        raise MalformedRecord(f"{field} must be a UUID or empty, got {len(text)} characters that are none") from None


def some_uuid_bytes(field: str, text: str) -> bytes:
    """The 16 bytes of a UUID that may not be missing."""
    if not text:
        raise MalformedRecord(f"{field} must be a UUID, got an empty text")
    return uuid_bytes(field, text)


def whole(field: str, value: int) -> int:
    """The value, if it fits a signed 64-bit column."""
    if not _I64_MIN <= value <= _I64_MAX:
        raise MalformedRecord(f"{field} must fit 64 bits")
    return value


def count(field: str, value: int) -> int:
    """The value, if it is neither negative nor beyond the 63 bits that a long of the wire has for it."""
    if not 0 <= value <= _I64_MAX:
        raise MalformedRecord(f"{field} must be between 0 and {_I64_MAX}")
    return value


def count32(field: str, value: int) -> int:
    """The value, if it fits an unsigned 32-bit column."""
    if not 0 <= value <= _U32_MAX:
        raise MalformedRecord(f"{field} must be between 0 and {_U32_MAX}")
    return value


def time_ms(value: int) -> int:
    """Epoch milliseconds within what DateTime64(3) holds."""
    return min(max(value, TIME_MS_MIN), TIME_MS_MAX)


def started_s(value_ms: int) -> int:
    """Epoch seconds of a writer's start within the years that have partitions."""
    return min(max(value_ms // 1000, STARTED_S_MIN), STARTED_S_MAX)
