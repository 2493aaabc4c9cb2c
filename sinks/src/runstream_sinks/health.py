"""Whether a worker gets on: how far behind Kafka it is, when it committed last, and the page that says so. What it counts besides is its own business.

All calls come from the worker's loop, but `trouble`, which the page's thread calls.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runstream_schemas.endpoint import Endpoint
from runstream_schemas.lag import Lags
from runstream_sinks.kafka_ends import Ends
from runstream_sinks.metrics import KIND

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from runstream_feed.records import Place
    from runstream_schemas.lag import Lag
    from runstream_schemas.settings import Settings

READING_INTERVAL_S = 1.0
# The loop turns many times a second, whatever it waits for, but for a rebalance or a drain, which have their budgets.
TURN_S_MAX = 30.0


class Health:
    """What is known of one worker's partitions."""

    def __init__(self, settings: Settings, *, group: str, still_s_max: float, page: Callable[[], bytes]) -> None:
        """Serves the page if there is a port for it; raises SettingsError where that cannot be had. `still_s_max` is for how long offsets may stand still while records wait."""
        now = time.monotonic()
        self._lags: Lags[Place] = Lags(now)
        self._still_s_max = still_s_max
        self._newest: dict[Place, float] = {}
        self._committed_at: float | None = None
        self._turned, self._trouble, self._reading_at = now, "the worker has just begun", 0.0
        self._ends: Ends | None = None
        self._endpoint: Endpoint | None = None
        if settings.metrics_port is not None:
            self._ends = Ends(settings, group)
            self._endpoint = Endpoint(settings.metrics_host, settings.metrics_port, page=page, kind=KIND, trouble=self.trouble)

    def trouble(self) -> str:
        """Why this worker is not healthy, in one sentence; empty when it is."""
        since_s = time.monotonic() - self._turned
        return f"the loop of the worker has not turned for {since_s:.0f} s: it hangs" if since_s > TURN_S_MAX else self._trouble

    def waits(self, reason: str) -> None:
        """The worker has not begun: it waits for something."""
        self._turned, self._trouble = time.monotonic(), reason

    @property
    def partitions(self) -> int:
        """How many partitions the worker has."""
        return len(self._lags.places)

    @property
    def lags(self) -> Mapping[Place, Lag]:
        """How far behind each of them is, as far as it is known."""
        return self._lags.lags(time.monotonic())

    @property
    def since_commit_s(self) -> float | None:
        """Seconds since offsets were committed; None before the first time."""
        return None if self._committed_at is None else time.monotonic() - self._committed_at

    # ---- what happens ------------------------------------------------------------------------------------------------------------------

    def read(self, newest_ms: Mapping[Place, int]) -> None:
        """Records came from Kafka; the newest of each partition was written at that time."""
        now, wall = time.monotonic(), time.time()
        for place, time_ms in newest_ms.items():
            self._newest[place] = now - max(0.0, wall - time_ms / 1000)

    def assigned(self, places: Collection[Place]) -> None:
        """Partitions are this worker's from now on."""
        self._lags.assigned(places, time.monotonic())

    def revoked(self, places: Collection[Place]) -> None:
        """Partitions are no longer this worker's."""
        self._lags.revoked(places)
        for place in places:
            self._newest.pop(place, None)

    def committed(self, offsets: Mapping[Place, int]) -> None:
        """Everything before these offsets is stored, and Kafka is told."""
        self._committed_at = time.monotonic()
        self._lags.stored(offsets, self._newest, self._committed_at)

    def turn(self) -> bool:
        """The loop turned once more; whether it is time for a reading of what is shown."""
        self._turned = now = time.monotonic()
        if now < self._reading_at:
            return False
        self._reading_at = now + READING_INTERVAL_S
        if self._ends is not None:
            answers = self._ends.answers()
            if answers is not None:
                self._lags.ends(*answers, now)
            self._ends.ask(self._lags.places, now)
            self._trouble = self._lags.trouble(now, self._still_s_max)
        return True

    def close(self) -> None:
        """Stops serving the page."""
        if self._endpoint is not None:
            self._endpoint.close()
