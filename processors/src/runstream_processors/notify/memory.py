"""What has been told already, so that an alert that comes again tells nobody twice. Pure and bounded.

An alert that is older than the bound of lateness notifies nobody anyway, so nothing needs to be remembered for much longer than that.
"""

from __future__ import annotations

from collections import OrderedDict

REMEMBERED_MAX = 300_000
NOBODY = ""  # The channel of alerts that paged nobody.

_Told = tuple[str, int, str]


class Memory:
    """Remembers transitions by channel for `keep_ms` after they were noted, and so many at most: the oldest are forgotten first."""

    def __init__(self, keep_ms: int, most: int = REMEMBERED_MAX) -> None:
        self._keep_ms = keep_ms
        self._most = most
        self._noted: OrderedDict[_Told, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._noted)

    def knows(self, alert_id: str, version: int, channel: str) -> bool:
        """Whether the channel was told, or is about to be."""
        return (alert_id, version, channel) in self._noted

    def note(self, alert_id: str, version: int, channel: str, now_ms: int) -> None:
        """Remembers it."""
        self._noted[alert_id, version, channel] = now_ms
        self._noted.move_to_end((alert_id, version, channel))
        while self._noted and (len(self._noted) > self._most or next(iter(self._noted.values())) < now_ms - self._keep_ms):
            self._noted.popitem(last=False)

    def forget(self, alert_id: str, version: int, channel: str) -> None:
        """Takes back what will not be told after all."""
        self._noted.pop((alert_id, version, channel), None)
