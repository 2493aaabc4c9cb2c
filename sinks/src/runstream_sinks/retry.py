"""Which ClickHouse errors pass by themselves, and how long to wait before the next try. Pure."""

from __future__ import annotations

# A server that goes away, is short of something, or does not know whether it stored what it got. An insert whose fate is unknown is repeated: the tables collapse repeats.
RETRYABLE_CODES = frozenset(
    {
        3,  # UNEXPECTED_END_OF_FILE
        159,  # TIMEOUT_EXCEEDED
        164,  # READONLY
        202,  # TOO_MANY_SIMULTANEOUS_QUERIES
        203,  # NO_FREE_CONNECTION
        209,  # SOCKET_TIMEOUT
        210,  # NETWORK_ERROR
        236,  # ABORTED, which a server says while it stops
        241,  # MEMORY_LIMIT_EXCEEDED
        242,  # TABLE_IS_READ_ONLY
        243,  # NOT_ENOUGH_SPACE
        252,  # TOO_MANY_PARTS
        279,  # ALL_CONNECTION_TRIES_FAILED
        285,  # TOO_FEW_LIVE_REPLICAS
        319,  # UNKNOWN_STATUS_OF_INSERT
        394,  # QUERY_WAS_CANCELLED
        425,  # SYSTEM_ERROR
        439,  # CANNOT_SCHEDULE_TASK
        999,  # KEEPER_EXCEPTION
        1002,  # UNKNOWN_EXCEPTION
    }
)
# Errors whose text speaks of names and rights, not of values; the text of any other is not logged, since it may quote what users logged.
SPEAKABLE_CODES = frozenset({16, 36, 60, 62, 81, 115, 192, 193, 194, 195, 497, 516})

DELAY_S_MIN = 0.1
DELAY_S_MAX = 5.0


def is_retryable(code: int | None) -> bool:
    """Whether to try again; an error without a code is one of the connection."""
    return code is None or code in RETRYABLE_CODES


def delay_s(failures: int, jitter: float) -> float:
    """Seconds to wait after so many failures in a row: doubling, bounded, and spread by `jitter` in [0, 1) so that workers do not come back together."""
    return min(DELAY_S_MAX, DELAY_S_MIN * 2 ** min(failures - 1, 16)) * (0.5 + jitter / 2)
