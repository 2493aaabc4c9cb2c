"""The words of reading: a partition, where reading it begins, and a record."""

from __future__ import annotations

from typing import NamedTuple

Headers = list[tuple[str, bytes | None]]


class Place(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class Start(NamedTuple):
    """Where reading begins: an offset, and the epoch of the leader that the record before it was read from (None where unknown)."""

    offset: int
    epoch: int | None = None


class Record(NamedTuple):
    """A record; or what stands for a batch that was not read, at the offset of its last record, with the reason."""

    place: Place
    offset: int
    epoch: int | None
    time_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    refused: str | None = None
