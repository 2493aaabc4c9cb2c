"""What to do with each alert: whom it goes to, what is a repeat, and how often to try. No Kafka here, and no clock of its own."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import TYPE_CHECKING

from runstream_processors.errors import DeliveryFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_processors.notify.delivery import Channel
    from runstream_schemas.records import Alert

logger = logging.getLogger(__name__)

_REMEMBERED_MAX = 100_000  # Alerts whose repeats are known; an alert is some 100 bytes here.
PAUSES_S = (0.5, 1.0, 2.0, 4.0)  # Between tries of one delivery: five tries within about 8 s and their timeouts.


class Notifier:
    """Sends each transition of an alert once, as far as it remembers. Processors may send an alert again after a crash; its id and version tell."""

    def __init__(self, channels: Sequence[Channel], say: Callable[[Alert], None], pause: Callable[[float], bool], late_ms: int) -> None:
        """Takes the ways out, and `pause`, which sleeps for some seconds and returns true when the process was asked to stop meanwhile."""
        self._channels = channels
        self._say = say
        self._pause = pause
        self._late_ms = late_ms
        self._done: OrderedDict[tuple[str, int], None] = OrderedDict()

    def take(self, alert: Alert, now_ms: int) -> list[DeliveryFailed]:
        """Says the alert and delivers it to its channels; returns the channels that were given up, which is logged too: the alert stays in the store.

        An alert that was late when it was decided notifies nobody, nor does one that has become as old since, as when a notifier starts on an old topic.
        """
        key = (alert.alert_id, alert.version)
        if key in self._done:
            return []
        self._say(alert)
        late = alert.late or now_ms - alert.time_ms > self._late_ms
        failures = [] if late else [failure for channel in self._channels_of(alert) if (failure := self._deliver(channel, alert)) is not None]
        self._done[key] = None
        if len(self._done) > _REMEMBERED_MAX:
            self._done.popitem(last=False)
        return failures

    def _channels_of(self, alert: Alert) -> list[Channel]:
        return [channel for channel in self._channels if not alert.channels or channel.kind in alert.channels]

    def _deliver(self, channel: Channel, alert: Alert) -> DeliveryFailed | None:
        failure = DeliveryFailed(channel.kind, "the notifier was asked to stop")
        for pause_s in (0.0, *PAUSES_S):
            if self._pause(pause_s):
                return failure
            try:
                channel.deliver(alert)
            except DeliveryFailed as error:
                failure = error
                logger.warning("delivery failed", extra={"alert_id": alert.alert_id, "reason": str(error)})
            else:
                return None
        logger.error("delivery given up", extra={"alert_id": alert.alert_id, "tries": len(PAUSES_S) + 1})
        return failure
