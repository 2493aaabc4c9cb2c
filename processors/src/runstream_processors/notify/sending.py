"""A try with an end: whatever a channel's library or server does, the caller has an outcome within the time-out.

A call that does not return is left behind in its thread, since Python cannot end it; at most a few are, and while they hang the channel is not called again.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Protocol

from runstream_processors.notify.outcome import Again

if TYPE_CHECKING:
    from runstream_processors.notify.message import Message
    from runstream_processors.notify.outcome import Outcome

logger = logging.getLogger(__name__)

LEFT_BEHIND_MAX = 3


class Way(Protocol):
    """What sends messages of one channel."""

    def send(self, message: Message) -> Outcome:
        """Tries once. May block."""
        ...


class Bounded:
    """A way whose tries take `timeout_s` at most."""

    def __init__(self, way: Way, channel: str, timeout_s: float) -> None:
        self._way = way
        self._channel = channel
        self._timeout_s = timeout_s
        self._left_behind: list[threading.Thread] = []

    def send(self, message: Message) -> Outcome:
        """Tries once."""
        self._left_behind = [thread for thread in self._left_behind if thread.is_alive()]
        if len(self._left_behind) >= LEFT_BEHIND_MAX:
            return Again("earlier tries have not come back yet")
        came: list[Outcome] = []
        thread = threading.Thread(target=self._call, args=(message, came), daemon=True, name=f"channel {self._channel}")
        thread.start()
        thread.join(self._timeout_s)
        if came:
            return came[0]
        if thread.is_alive():
            self._left_behind.append(thread)
        return Again("it did not answer in time")

    def _call(self, message: Message, came: list[Outcome]) -> None:
        try:
            came.append(self._way.send(message))
        except Exception as error:  # noqa: BLE001  # a library may raise anything, and the channel goes on
            # Not its text, which may quote an address.
            logger.warning("channel broke", extra={"channel": self._channel, "error": type(error).__name__})
            came.append(Again("its library failed"))
