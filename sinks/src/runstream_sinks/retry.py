"""Which ClickHouse errors pass by themselves, and how long to wait before the next try. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# A server that goes away, is short of something, or does not know whether it stored what it got, by ClickHouse's own names; a test holds them against the engine's.
# An insert whose fate is unknown is repeated: the tables collapse repeats. What is not here stops the worker with its reason.
RETRYABLE_CODES: Mapping[int, str] = {
    # Cut on the way.
    3: "UNEXPECTED_END_OF_FILE",
    23: "CANNOT_READ_FROM_ISTREAM",
    32: "ATTEMPT_TO_READ_AFTER_EOF",
    33: "CANNOT_READ_ALL_DATA",
    95: "CANNOT_READ_FROM_SOCKET",
    96: "CANNOT_WRITE_TO_SOCKET",
    198: "DNS_ERROR",
    209: "SOCKET_TIMEOUT",
    210: "NETWORK_ERROR",
    279: "ALL_CONNECTION_TRIES_FAILED",
    297: "SHARD_HAS_NO_CONNECTIONS",
    519: "NO_REMOTE_SHARD_AVAILABLE",
    # Too slow, or stopped.
    159: "TIMEOUT_EXCEEDED",
    160: "TOO_SLOW",
    236: "ABORTED",  # What a server says while it stops.
    394: "QUERY_WAS_CANCELLED",
    473: "DEADLOCK_AVOIDED",
    677: "THREAD_WAS_CANCELED",
    722: "ASYNC_LOAD_WAIT_FAILED",  # Tables are still being loaded after a start.
    733: "TABLE_IS_BEING_RESTARTED",
    735: "QUERY_WAS_CANCELLED_BY_CLIENT",
    # Short of something that comes back: connections, threads, memory, disk, parts that merges will join, a quota's next interval.
    74: "CANNOT_READ_FROM_FILE_DESCRIPTOR",
    75: "CANNOT_WRITE_TO_FILE_DESCRIPTOR",
    76: "CANNOT_OPEN_FILE",
    173: "CANNOT_ALLOCATE_MEMORY",
    201: "QUOTA_EXCEEDED",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    203: "NO_FREE_CONNECTION",
    204: "CANNOT_FSYNC",
    241: "MEMORY_LIMIT_EXCEEDED",
    243: "NOT_ENOUGH_SPACE",
    252: "TOO_MANY_PARTS",
    364: "RECEIVED_ERROR_TOO_MANY_REQUESTS",
    425: "SYSTEM_ERROR",
    439: "CANNOT_SCHEDULE_TASK",
    499: "S3_ERROR",
    574: "DISTRIBUTED_TOO_MANY_PENDING_BYTES",
    745: "SERVER_OVERLOADED",
    749: "TCP_CONNECTION_LIMIT_REACHED",
    762: "HTTP_CONNECTION_LIMIT_REACHED",
    776: "RESOURCE_LIMIT_EXCEEDED",
    777: "MEMORY_RESERVATION_KILLED",
    778: "MEMORY_RESERVATION_FAILED",
    1019: "QUERY_SLOT_ACQUISITION_TIMEOUT",
    1020: "MEMORY_RESERVATION_ACQUISITION_TIMEOUT",
    # A replica, its keeper or its quorum.
    164: "READONLY",
    225: "NO_ZOOKEEPER",
    242: "TABLE_IS_READ_ONLY",  # Also a replica that lost its keeper.
    244: "UNEXPECTED_ZOOKEEPER_ERROR",
    254: "NO_ACTIVE_REPLICAS",
    265: "NO_AVAILABLE_REPLICA",
    285: "TOO_FEW_LIVE_REPLICAS",
    286: "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE",
    289: "REPLICA_IS_NOT_IN_QUORUM",
    319: "UNKNOWN_STATUS_OF_INSERT",
    384: "PART_IS_TEMPORARILY_LOCKED",
    416: "REPLICA_STATUS_CHANGED",
    529: "NOT_A_LEADER",
    999: "KEEPER_EXCEPTION",
    # Whatever an operating system or a library threw at the server.
    1000: "POCO_EXCEPTION",
    1001: "STD_EXCEPTION",
    1002: "UNKNOWN_EXCEPTION",
}
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
