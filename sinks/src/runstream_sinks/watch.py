"""What a worker shows of itself: it is told what happens, and gives it to the log, the figures and the page of health. Nothing here decides anything."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from runstream_schemas.endpoint import Endpoint
from runstream_schemas.lag import Lags
from runstream_sinks.kafka_ends import Ends
from runstream_sinks.log import log
from runstream_sinks.metrics import KIND, Metrics, Reading
from runstream_sinks.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_schemas.records import DeadLetter
    from runstream_schemas.settings import Settings
    from runstream_sinks.inserter import Done
    from runstream_sinks.ledger import Mark, Place
    from runstream_sinks.pipeline import Message, Pipeline

READING_INTERVAL_S = 1.0
# The loop turns many times a second, whatever it waits for, but for a rebalance or a drain, which have their budgets.
TURN_S_MAX = 30.0


class Watch:
    """All calls come from the worker's loop, but `retried`, which inserters call too, and the page, which has its own thread."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        """Serves the page if there is a port for it; raises SettingsError where that cannot be had."""
        now = time.monotonic()
        self.rows = 0
        self._pipeline = pipeline
        self._metrics = Metrics()
        self._telling = Telling(pipeline)
        self._lags: Lags[Place] = Lags(now)
        self._still_s_max = settings.stall_after
        self._newest: dict[Place, float] = {}
        self._committed_at: float | None = None
        self._turned, self._trouble, self._reading_at = now, "the worker has just begun", 0.0
        self._ends: Ends | None = None
        self._endpoint: Endpoint | None = None
        if settings.metrics_port is not None:
            self._ends = Ends(settings)
            self._endpoint = Endpoint(settings.metrics_host, settings.metrics_port, page=self._metrics.page, kind=KIND, trouble=self.trouble)

    def trouble(self) -> str:
        """Why this worker is not healthy, in one sentence; empty when it is."""
        since_s = time.monotonic() - self._turned
        return f"the loop of the worker has not turned for {since_s:.0f} s: it hangs" if since_s > TURN_S_MAX else self._trouble

    def waits(self, reason: str) -> None:
        """The worker has not begun: it waits for something."""
        self._turned, self._trouble = time.monotonic(), reason

    # ---- what happens ------------------------------------------------------------------------------------------------------------------

    def read(self, messages: Sequence[Message]) -> None:
        """Records came from Kafka."""
        now, wall = time.monotonic(), time.time()
        for message in messages:
            self._newest[message.position.place] = now - max(0.0, wall - message.time_ms / 1000)
        for topic, records in Counter(message.position.place.topic for message in messages).items():
            self._metrics.records.labels(topic).inc(records)

    def set_aside(self, letter: DeadLetter) -> None:
        """A record goes to the dead letters."""
        self._metrics.dead_letters.labels(letter.topic).inc()
        self._telling.set_aside(letter)

    def inserted(self, done: Done) -> None:
        """ClickHouse holds a chunk."""
        table, rows = done.chunk.name, done.chunk.rows.rows
        self.rows += rows
        self._metrics.rows.labels(table).inc(rows)
        self._metrics.insert_rows.labels(table).observe(rows)
        self._metrics.insert_bytes.labels(table).observe(done.nbytes)
        self._metrics.insert_seconds.labels(table).observe(done.last_try_s)
        self._telling.inserted(done)

    def retried(self, code: int | None) -> None:
        """An insert failed in a way that passes."""
        self._metrics.retries.labels("connection" if code is None else str(code)).inc()

    def assigned(self, places: set[Place]) -> None:
        """Partitions are this worker's from now on."""
        log.info("partitions assigned", partitions=len(places))
        self._metrics.rebalances.labels("assigned").inc()
        self._lags.assigned(places, time.monotonic())

    def revoked(self, places: set[Place], *, lost: bool) -> None:
        """Partitions are no longer this worker's."""
        log.info("partitions revoked", partitions=len(places), lost=lost)
        self._metrics.rebalances.labels("lost" if lost else "revoked").inc()
        self._lags.revoked(places)
        for place in places:
            self._newest.pop(place, None)

    def committed(self, marks: Mapping[Place, Mark]) -> None:
        """Offsets are handed to Kafka: everything before them is stored."""
        self._committed_at = time.monotonic()
        self._metrics.commits.labels("sent").inc()
        self._lags.stored({place: mark.offset for place, mark in marks.items()}, self._newest, self._committed_at)

    def not_committed(self) -> None:
        """Kafka refused offsets."""
        self._metrics.commits.labels("refused").inc()

    def turn(self) -> None:
        """The loop turned once more; says and shows what is due."""
        self._turned = now = time.monotonic()
        self._telling.now_and_then()
        if now < self._reading_at:
            return
        self._reading_at = now + READING_INTERVAL_S
        if self._ends is not None:
            answers = self._ends.answers()
            if answers is not None:
                self._lags.ends(*answers, now)
            self._ends.ask(self._lags.places, now)
            self._trouble = self._lags.trouble(now, self._still_s_max)
        batches = self._pipeline.batches
        self._metrics.reading = Reading(
            partitions=len(self._lags.places),
            lags=self._lags.lags(now),
            since_commit_s=None if self._committed_at is None else now - self._committed_at,
            pending_bytes=batches.nbytes,
            in_flight=batches.in_flight,
            waiting=self._pipeline.waiting,
        )

    def close(self) -> None:
        """Stops serving the page."""
        if self._endpoint is not None:
            self._endpoint.close()
