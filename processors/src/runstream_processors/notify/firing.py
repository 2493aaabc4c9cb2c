"""Which alerts a channel was told to fire and not yet told to be over, so that the end of one is not taken for the end of all. Pure and bounded."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

ALERTS_MAX = 20_000


class Firing:
    """Alerts by rule and run. Past the bound the oldest rule and run is forgotten: its end is then told at the first alert of it that is over."""

    def __init__(self, most: int = ALERTS_MAX) -> None:
        self._most = most
        self._count = 0
        self._open: OrderedDict[tuple[str, str], set[str]] = OrderedDict()

    def told(self, rule_id: str, run_id: str, alert_id: str, state: str) -> None:
        """Notes what the channel was told."""
        key = (rule_id, run_id)
        if state == "resolved":
            ids = self._open.get(key, set())
            self._count -= alert_id in ids
            ids.discard(alert_id)
            if not ids:
                self._open.pop(key, None)
            return
        ids = self._open.setdefault(key, set())
        self._count += alert_id not in ids
        ids.add(alert_id)
        while self._count > self._most:
            _, forgotten = self._open.popitem(last=False)
            self._count -= len(forgotten)

    def left(self, rule_id: str, run_id: str, without: AbstractSet[str]) -> int:
        """How many alerts of a rule and run fire, but for some."""
        return len(self._open.get((rule_id, run_id), set()) - without)
