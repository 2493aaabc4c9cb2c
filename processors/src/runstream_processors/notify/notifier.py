"""What happens to each alert: it is said, routed, given to the channels' runners, and what becomes of it is recorded. No Kafka here, and no clock."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from runstream_processors.notify.lane import Item
from runstream_processors.notify.memory import Memory
from runstream_processors.notify.route import Nobody, route
from runstream_schemas.records import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from runstream_processors.notify.figures import Figures
    from runstream_processors.notify.runner import Finished, Runner
    from runstream_schemas.records import Alert, DeliveryOutcome

    Record = Callable[[Delivery, int, int], None]
    Silenced = Callable[[Alert, int], str]

logger = logging.getLogger(__name__)

FULL = "too many alerts wait for it"
_WARNED_MAX = 1000


class Notifier:
    """Called by one thread only. `record` takes each outcome with the alert's partition and offset; `silenced` says which silence holds an alert back now, if any."""

    def __init__(
        self, runners: Mapping[str, Runner], *, say: Callable[[Alert], None], record: Record, silenced: Silenced, figures: Figures, late_ms: int
    ) -> None:
        self._runners = runners
        self._channels = {name: runner.channel for name, runner in runners.items()}
        self._say = say
        self._record = record
        self._silenced = silenced
        self._figures = figures
        self._late_ms = late_ms
        self._memory = Memory(keep_ms_of(late_ms))
        self._warned: set[str] = set()

    def take(self, alert: Alert, partition: int, offset: int, now_ms: int) -> int:
        """Takes an alert that was read, and returns how many outcomes will be recorded of it, some of them already."""
        way = route(alert, self._channels, self._memory, self._silenced(alert, now_ms), now_ms, self._late_ms)
        if way.repeated:
            self._figures.repeats.inc()
            return 0
        self._say(alert)
        nobody = list(way.nobody)
        item = Item(alert, partition, offset, now_ms)
        for name in way.channels:
            self._memory.note(alert.alert_id, alert.version, name, now_ms)
            if not self._runners[name].add(item):
                nobody.append(Nobody(name, "failed", FULL))
        for one in nobody:
            self._memory.note(alert.alert_id, alert.version, one.channel, now_ms)
            self._figures.deliveries.labels(one.channel if one.channel in self._channels else "", one.outcome).inc()
            self._warn(one)
            self._record(_delivery(item, one.channel, self._way_of(one.channel), one.outcome, one.reason, now_ms), partition, offset)
        return len(way.channels) + len(way.nobody)

    def finish(self, finished: Finished) -> None:
        """Records what became of a message, for each of its alerts."""
        channel, settled = finished.channel, finished.settled
        alerts = len(settled.batch.items)
        for item in settled.batch.items:
            delivery = _delivery(
                item,
                channel.name,
                channel.way,
                settled.outcome,
                settled.reason,
                finished.done_ms,
                message_id=settled.batch.message_id,
                alerts=alerts,
                tries=settled.tries,
            )
            self._record(delivery, item.partition, item.offset)

    def learn(self, delivery: Delivery) -> None:
        """Takes an outcome that was recorded before this notifier had its partitions."""
        self._memory.note(delivery.alert_id, delivery.version, delivery.channel, delivery.done_ms)
        runner = self._runners.get(delivery.channel)
        if runner is not None and delivery.outcome == "delivered":
            runner.told(delivery.rule_id, delivery.run_id, delivery.alert_id, delivery.state)

    def give_up(self, partitions: Collection[int]) -> None:
        """Lets go of alerts that wait and stand on partitions that are somebody else's now."""
        for name, runner in self._runners.items():
            for item in runner.drop(lambda item: item.partition in partitions):
                self._memory.forget(item.alert.alert_id, item.alert.version, name)

    def _way_of(self, name: str) -> str:
        channel = self._channels.get(name)
        return "" if channel is None else channel.way

    def _warn(self, one: Nobody) -> None:
        """One warning for each channel that is missing or full; the delivery log has them all."""
        said = f"{one.channel} {one.reason}"
        if one.channel and said not in self._warned and len(self._warned) < _WARNED_MAX:
            self._warned.add(said)
            logger.warning("alert not delivered", extra={"channel": one.channel, "reason": one.reason})


def keep_ms_of(late_ms: int) -> int:
    """How long outcomes are remembered: twice the bound of lateness, since producers' clocks may be ahead, and ten minutes."""
    return 2 * late_ms + 600_000


def _delivery(
    item: Item, channel: str, way: str, outcome: DeliveryOutcome, reason: str, done_ms: int, *, message_id: str = "", alerts: int = 0, tries: int = 0
) -> Delivery:
    alert = item.alert
    return Delivery(
        alert_id=alert.alert_id,
        version=alert.version,
        channel=channel,
        way=way,
        outcome=outcome,
        reason=reason,
        message_id=message_id,
        alerts=alerts,
        tries=tries,
        run_id=alert.run_id,
        rule_id=alert.rule_id,
        severity=alert.severity,
        state=alert.state,
        time_ms=alert.time_ms,
        taken_ms=item.taken_ms,
        done_ms=done_ms,
    )
