"""One channel's decisions: which alerts make one message, when it goes, what a failed try leads to. Pure: `now` is seconds of a steady clock, luck is given.

Alerts of one rule, run and state are a group. A group's message goes once nothing was added for a moment, so that a storm is one message; the next of the same group
goes no sooner than `group_s` later. A message costs a token; the last token there is tells everything that is due in one summary, so that nothing waits in line and
nothing is lost. One message is on its way at a time; a full lane refuses, and its owner records that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

from runstream_processors.notify.bucket import Bucket
from runstream_processors.notify.channels import SEVERITIES
from runstream_processors.notify.firing import Firing
from runstream_processors.notify.outcome import Accepted, Refused, backoff_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_processors.notify.channels import Policy
    from runstream_processors.notify.outcome import Outcome
    from runstream_schemas.records import Alert


class Item(NamedTuple):
    """An alert on its way to a channel: its place on the alert topic, and when it was read, epoch milliseconds."""

    alert: Alert
    partition: int
    offset: int
    taken_ms: int


class Key(NamedTuple):
    """What a group has in common. Alerts that no rule decided go by their name."""

    rule: str
    run_id: str
    state: str


class Batch(NamedTuple):
    """What one message is to tell: groups of alerts, in the order in which they came, and of each how many alerts of its rule and run still fire after it.

    `untold` is how many alerts came meanwhile that the lane had no room for.
    """

    message_id: str
    groups: tuple[tuple[Item, ...], ...]
    still_firing: tuple[int, ...]
    untold: int = 0

    @property
    def items(self) -> tuple[Item, ...]:
        """All alerts of the message."""
        return tuple(item for group in self.groups for item in group)


class Settled(NamedTuple):
    """The end of a message: delivered or failed."""

    batch: Batch
    outcome: Literal["delivered", "failed"]
    reason: str
    tries: int


@dataclass(slots=True)
class _Group:
    first_at: float
    newest_at: float
    severity: int
    items: list[Item] = field(default_factory=list[Item])


@dataclass(slots=True)
class _Flight:
    batch: Batch
    began_at: float
    try_at: float
    tries: int = 0


class Lane:
    """Changes only through its methods, which one thread calls at a time."""

    def __init__(self, name: str, policy: Policy, now: float) -> None:
        """Begins empty, with all tokens."""
        self.firing = Firing()
        self._name = name
        self._policy = policy
        self._bucket = Bucket(policy.per_minute, policy.burst, now)
        self._groups: dict[Key, _Group] = {}
        self._told_at: dict[Key, float] = {}
        self._flight: _Flight | None = None
        self._pending = 0
        self._untold = 0

    @property
    def pending(self) -> int:
        """Alerts that wait or are on their way."""
        return self._pending

    def add(self, item: Item, now: float) -> bool:
        """Takes an alert; False when there are too many, and nothing was taken."""
        if self._pending >= self._policy.pending_max:
            self._untold += 1
            return False
        key = key_of(item.alert)
        group = self._groups.setdefault(key, _Group(now, now, SEVERITIES.index(item.alert.severity)))
        group.items.append(item)
        group.newest_at = now
        group.severity = max(group.severity, SEVERITIES.index(item.alert.severity))
        self._pending += 1
        return True

    def drop(self, is_gone: Callable[[Item], bool]) -> list[Item]:
        """Takes back what waits and is no longer this notifier's to tell, and says what that was; a message on its way stays."""
        gone: list[Item] = []
        for key, group in list(self._groups.items()):
            gone += filter(is_gone, group.items)
            group.items = [item for item in group.items if not is_gone(item)]
            if not group.items:
                del self._groups[key]
        self._pending -= len(gone)
        return gone

    def wait_s(self, now: float) -> float | None:
        """Seconds until `take` may have something; None until something is added."""
        if self._flight is not None:
            return max(0.0, self._flight.try_at - now)
        if not self._groups:
            return None
        wait_s = min(self._due_at(key, group) for key, group in self._groups.items()) - now
        return max(0.0, wait_s, self._bucket.wait_s(now))

    def take(self, now: float) -> Batch | None:
        """The message to try now, if there is one; `settle` must follow."""
        if self._flight is None:
            groups = self._choose(now)
            if groups:
                self._flight = _Flight(self._batch(groups), now, now)
        if self._flight is None or self._flight.try_at > now:
            return None
        return self._flight.batch

    def settle(self, outcome: Outcome, now: float, luck: float) -> Settled | None:
        """Takes what came of the try; None when the message will be tried again."""
        flight = self._flight
        assert flight is not None, "something was taken"
        flight.tries += 1
        if not isinstance(outcome, Accepted | Refused):
            flight.try_at = now + max(backoff_s(flight.tries, luck), outcome.after_s)
            if flight.try_at <= flight.began_at + self._policy.budget_s:
                return None
        self._flight = None
        self._pending -= len(flight.batch.items)
        for group in flight.batch.groups:
            self._told_at[key_of(group[0].alert)] = now
        self._told_at = {key: at for key, at in self._told_at.items() if now < at + self._policy.group_s}
        if isinstance(outcome, Accepted):
            for item in flight.batch.items:
                self.firing.told(key_of(item.alert).rule, item.alert.run_id, item.alert.alert_id, item.alert.state)
            return Settled(flight.batch, "delivered", "", flight.tries)
        return Settled(flight.batch, "failed", outcome.reason, flight.tries)

    def _due_at(self, key: Key, group: _Group) -> float:
        quiet_at = min(group.newest_at + self._policy.wait_s, group.first_at + self._policy.wait_max_s)
        told_at = self._told_at.get(key)
        return quiet_at if told_at is None else max(quiet_at, told_at + self._policy.group_s)

    def _choose(self, now: float) -> list[Key]:
        due = [key for key, group in self._groups.items() if self._due_at(key, group) <= now]
        if not due:
            return []
        # What fires is told before it is told to be over.
        before = (Key(key.rule, key.run_id, "firing") for key in due if key.state == "resolved")
        due += [key for key in before if key in self._groups and key not in due]
        due.sort(key=lambda key: (key.state == "resolved", -self._groups[key].severity, self._groups[key].first_at))
        all_of_them = self._bucket.is_last(now) and len(due) > 1
        if not self._bucket.take(now):
            return []
        return due if all_of_them else due[:1]

    def _batch(self, keys: Sequence[Key]) -> Batch:
        groups = tuple(tuple(self._groups.pop(key).items) for key in keys)
        names = "\n".join(f"{item.alert.alert_id} {item.alert.version}" for group in groups for item in group)
        message_id = hashlib.sha256(f"{self._name}\n{names}".encode()).hexdigest()[:32]
        still = tuple(
            self.firing.left(key.rule, key.run_id, {item.alert.alert_id for item in group} if key.state == "resolved" else set())
            for key, group in zip(keys, groups, strict=True)
        )
        untold, self._untold = self._untold, 0
        return Batch(message_id, groups, still, untold)


def key_of(alert: Alert) -> Key:
    """The group of an alert."""
    return Key(alert.rule_id or alert.rule_name, alert.run_id, alert.state)
