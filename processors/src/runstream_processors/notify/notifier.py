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

    def __init__(self, channels: Sequence[Channel], say: Callable[[Alert], None], sleep: Callable[[float], None]) -> None:
        self._channels = channels
        self._say = say
        self._sleep = sleep
        self._done: OrderedDict[tuple[str, int], None] = OrderedDict()

    def take(self, alert: Alert) -> list[DeliveryFailed]:
        """Says the alert and delivers it to its channels. A channel that refuses to the last is given up, logged and returned: the alert stays in the store."""
        key = (alert.alert_id, alert.version)
        if key in self._done:
            return []
        self._say(alert)
        failures = [] if alert.late else [failure for channel in self._channels_of(alert) if (failure := self._deliver(channel, alert)) is not None]
        self._done[key] = None
        if len(self._done) > _REMEMBERED_MAX:
            self._done.popitem(last=False)
        return failures

    def _channels_of(self, alert: Alert) -> list[Channel]:
        return [channel for channel in self._channels if not alert.channels or channel.kind in alert.channels]

    def _deliver(self, channel: Channel, alert: Alert) -> DeliveryFailed | None:
        failure: DeliveryFailed | None = None
        for pause_s in (0.0, *PAUSES_S):
            if pause_s:
                self._sleep(pause_s)
            try:
                channel.deliver(alert)
            except DeliveryFailed as error:
                failure = error
                logger.warning("delivery failed", extra={"alert_id": alert.alert_id, "reason": str(error)})
            else:
                return None
        logger.error("delivery given up", extra={"alert_id": alert.alert_id, "tries": len(PAUSES_S) + 1})
        return failure
