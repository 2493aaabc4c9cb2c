"""What a worker shows of itself: once a second it looks at the runner and the engines, and leaves what it saw for the page of figures and health. Nothing here decides anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from runstream_processors.metrics import KIND, Metrics, Reading
from runstream_schemas.endpoint import Endpoint
from runstream_schemas.lag import Lags

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from prometheus_client import CollectorRegistry

    from runstream_processors.engine import Place
    from runstream_schemas.settings import Settings

READING_INTERVAL_S = 1.0
# The loop turns many times a second but for a take that decides, which has its budget: past it the worker would lose its place in the group.
TURN_S_MAX = 30.0


class Runner(Protocol):
    """What is looked at: see `FaustRunner`, which is the only one outside of tests."""

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """What was counted, by name and source."""
        ...

    @property
    def acknowledged(self) -> Mapping[Place, int]:
        """Of each partition that is this worker's, the offset before which all is committed."""
        ...

    @property
    def ends(self) -> Mapping[Place, int]:
        """Where Kafka last said that these partitions end."""
        ...

    @property
    def ends_at_s(self) -> float:
        """When Kafka last said so, on the monotonic clock."""
        ...

    @property
    def newest_s(self) -> Mapping[Place, float]:
        """When the newest record that was taken from each partition was written, on the monotonic clock."""
        ...

    @property
    def state_bytes(self) -> Mapping[str, int]:
        """Bytes of state by source."""
        ...

    @property
    def pending_bytes(self) -> Mapping[str, int]:
        """Bytes of records that are not acknowledged yet, by source."""
        ...


class Watch:
    """All calls come from the worker's loop, but those of the page, which has its own thread."""

    def __init__(
        self, settings: Settings, counts: Mapping[str, Counter[str]], registry: CollectorRegistry | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Serves the page if there is a port for it; `counts` are those of the engines by source, `clock` is a monotonic one.

        Raises:
            SettingsError: the port cannot be had.
        """
        now = clock()
        self._clock = clock
        self._counts = counts
        self._metrics = Metrics(registry)
        self._lags: Lags[Place] = Lags(now)
        self._still_s_max = settings.stall_after
        self._acknowledged: dict[Place, int] = {}
        self._ends_at_s = 0.0
        self._committed_at_s: float | None = None
        self._turned_s, self._trouble, self._reading_at_s = now, "the worker has just begun", 0.0
        self._endpoint: Endpoint | None = None
        if settings.metrics_port is not None:
            self._endpoint = Endpoint(settings.metrics_host, settings.metrics_port, page=self._metrics.page, kind=KIND, trouble=self.trouble)

    def trouble(self) -> str:
        """Why this worker is not healthy, in one sentence; empty when it is."""
        since_s = self._clock() - self._turned_s
        return f"the loop of the worker has not turned for {since_s:.0f} s: it hangs" if since_s > TURN_S_MAX else self._trouble

    def waits(self, reason: str) -> None:
        """The worker has not begun: it waits for something."""
        self._turned_s, self._trouble = self._clock(), reason

    def turn(self, runner: Runner, rules: int) -> None:
        """The loop turned once more; shows what is due."""
        self._turned_s = now = self._clock()
        if now < self._reading_at_s:
            return
        self._reading_at_s = now + READING_INTERVAL_S
        acknowledged = dict(runner.acknowledged)
        self._follow(acknowledged, runner, now)
        counts = dict(runner.counts)
        for source, counted in self._counts.items():
            counts |= {(name, source): count for name, count in counted.items()}
        self._trouble = self._lags.trouble(now, self._still_s_max)
        self._metrics.reading = Reading(
            partitions=len(acknowledged),
            rules=rules,
            counts=counts,
            lags=self._lags.lags(now),
            state_bytes=dict(runner.state_bytes),
            pending_bytes=dict(runner.pending_bytes),
            since_commit_s=None if self._committed_at_s is None else now - self._committed_at_s,
        )

    def _follow(self, acknowledged: dict[Place, int], runner: Runner, now: float) -> None:
        """Tells the lags what partitions there are, how far they got, and where they end."""
        before = self._acknowledged
        self._lags.revoked(before.keys() - acknowledged.keys())
        if new := acknowledged.keys() - before.keys():
            self._lags.assigned(new, now)
        if any(place in before and before[place] != offset for place, offset in acknowledged.items()):
            self._committed_at_s = now
        self._lags.stored(acknowledged, runner.newest_s, now)
        self._acknowledged = acknowledged
        if runner.ends_at_s != self._ends_at_s:
            self._ends_at_s = runner.ends_at_s
            self._lags.ends(runner.ends, acknowledged, now)

    def close(self) -> None:
        """Stops serving the page."""
        if self._endpoint is not None:
            self._endpoint.close()
