"""How to fetch, in the words of librdkafka's options, which users know; and what reading meets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from runstream_schemas.settings import SettingsError
from runstream_schemas.topics import BATCH_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

EARLIEST, LATEST = -2, -1
_RESETS = {"earliest": EARLIEST, "smallest": EARLIEST, "beginning": EARLIEST, "latest": LATEST, "largest": LATEST, "end": LATEST}


class FeedRefused(Exception):
    """Kafka does not let this user read a topic."""


class Trouble(NamedTuple):
    """What reading meets and goes on from by itself: a name for it, what it says, and whether it only means that no broker answers."""

    name: str
    text: str
    is_away: bool


@dataclass(frozen=True, slots=True)
class Options:
    """How to fetch. Bytes are those that Kafka stores; an answer may pass `ahead_bytes`, and a batch all of them."""

    client_id: str
    wait_ms: int = 100
    bytes_min: int = 1
    answer_bytes: int = BATCH_BYTES_MAX // 2
    partition_bytes: int = 1 << 20
    ahead_bytes: int = 32 << 20
    metadata_ms: int = 10_000
    reset: int = EARLIEST
    """Where to begin in a partition that has no offset yet, or not that one any more: a time as Kafka asks for it."""
    read_committed: bool = True
    rack: str = ""


# Each with its own unit in ours.
_NUMBERS = {
    "fetch.wait.max.ms": ("wait_ms", 1),
    "fetch.min.bytes": ("bytes_min", 1),
    "fetch.max.bytes": ("answer_bytes", 1),
    "fetch.message.max.bytes": ("partition_bytes", 1),
    "max.partition.fetch.bytes": ("partition_bytes", 1),
    "queued.max.messages.kbytes": ("ahead_bytes", 1024),
    "topic.metadata.refresh.interval.ms": ("metadata_ms", 1),
}


# What librdkafka refuses, or what would have a feed ask without end.
_LEAST = {
    "queued.max.messages.kbytes": 1,
    "fetch.max.bytes": 1,
    "fetch.message.max.bytes": 1,
    "max.partition.fetch.bytes": 1,
    "topic.metadata.refresh.interval.ms": 100,
}


def options_of(given: Mapping[str, str], client_id: str) -> Options:
    """The options that librdkafka's options come to; those that mean nothing to a feed are left out.

    Raises:
        SettingsError: a value is not what librdkafka would take.
    """
    found: dict[str, Any] = {"client_id": given.get("client.id", client_id), "rack": given.get("client.rack", "")}
    for name, (ours, unit) in _NUMBERS.items():
        # Which librdkafka takes for never: what a feed knows of leaders is renewed all the same.
        if name in given and given[name] != "-1":
            found[ours] = max(_LEAST.get(name, 0), _number(name, given[name])) * unit
    reset = given.get("auto.offset.reset", "earliest")
    if reset not in _RESETS:
        raise _wrong("auto.offset.reset", "earliest or latest")
    isolation = given.get("isolation.level", "read_committed")
    if isolation not in ("read_committed", "read_uncommitted"):
        raise _wrong("isolation.level", "read_committed or read_uncommitted")
    return Options(**found, reset=_RESETS[reset], read_committed=isolation == "read_committed")


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise _wrong(name, "a whole number")
    return int(text)


def _wrong(name: str, expected: str) -> SettingsError:
    """The value is not repeated, since options hold secrets, too."""
    return SettingsError(f"setting 'kafka_options' (RUNSTREAM_KAFKA_OPTIONS) has {name} with another value than {expected}")
