"""Records that cannot be stored: the dead letter made of one, and how many may be set aside before a worker slows down or stops. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Policy:
    """How many malformed records are too many, and what becomes of the worker then.

    Attributes:
        ratio_max: share of a topic's records that may be malformed for ever; 1 sets no bound.
        run_max: malformed records in a row of one partition; 0 sets no bound.
        stops: whether the worker stops past a bound instead of setting aside slowly.
    """

    ratio_max: float
    run_max: int
    stops: bool = False


# For readers that only count what is malformed.
NO_BOUNDS = Policy(ratio_max=1.0, run_max=0)


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


@dataclass(slots=True)
class _Run:
    """Malformed records of one partition since the last good one; past the bound there is room for `PER_S` more each second."""

    since: float
    length: int = 0
    room: float = 0.0

    def may_grow(self, run_max: int, now: float) -> bool:
        if not run_max or self.length < run_max:
            return True
        self.room = min(PER_S, self.room + PER_S * max(0.0, now - self.since))
        self.since = now
        return self.room >= 1

    def grow(self, run_max: int) -> None:
        if self.length >= run_max:
            self.room -= 1
        self.length += 1


class Floods:
    """The malformed records of one topic, held against a policy."""

    def __init__(self, policy: Policy, now: float) -> None:
        self._policy = policy
        self._allowance = Allowance(policy.ratio_max, now)
        self._runs: dict[int, _Run] = {}

    def good(self, partition: int) -> None:
        """Counts a record that was stored."""
        self._allowance.good()
        self._runs.pop(partition, None)

    def forget(self, partition: int) -> None:
        """The partition is another worker's now."""
        self._runs.pop(partition, None)

    def refuses(self, partition: int, now: float) -> str | None:
        """None when one more record of the partition may be set aside, which is then counted; else the bound that says no."""
        run = self._runs.get(partition)
        if run is None:
            run = self._runs[partition] = _Run(now)
        if not run.may_grow(self._policy.run_max, now):
            return f"{run.length} records in a row of partition {partition} are malformed (dead_letter_run_max)"
        if not self._allowance.take(now):
            return f"a share of the topic's records above {self._policy.ratio_max:g} is malformed (dead_letter_ratio_max)"
        run.grow(self._policy.run_max)
        return None
