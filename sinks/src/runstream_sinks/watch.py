"""What a worker shows of itself: it is told what happens, and gives it to the log, the figures and the page of health. Nothing here decides anything."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from runstream_sinks.health import Health
from runstream_sinks.kafka_config import sinks_group
from runstream_sinks.log import log
from runstream_sinks.metrics import Metrics, Reading
from runstream_sinks.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_feed.records import Place
    from runstream_schemas.records import DeadLetter
    from runstream_schemas.settings import Settings
    from runstream_sinks.inserter import Done
    from runstream_sinks.ledger import Mark
    from runstream_sinks.pipeline import Message, Pipeline


class Watch:
    """All calls come from the worker's loop, but `retried`, which inserters call too."""

    def __init__(self, settings: Settings, pipeline: Pipeline) -> None:
        """Serves the page if there is a port for it; raises SettingsError where that cannot be had."""
        self.rows = 0
        self._pipeline = pipeline
        self._metrics = Metrics()
        self._telling = Telling(pipeline)
        self._health = Health(settings, group=sinks_group(settings), still_s_max=settings.stall_after, page=self._metrics.page)

    def waits(self, reason: str) -> None:
        """The worker has not begun: it waits for something."""
        self._health.waits(reason)

    # ---- what happens ------------------------------------------------------------------------------------------------------------------

    def read(self, messages: Sequence[Message]) -> None:
        """Records came from Kafka."""
        self._health.read({message.position.place: message.time_ms for message in messages})
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
        self._health.assigned(places)

    def revoked(self, places: set[Place], *, lost: bool) -> None:
        """Partitions are no longer this worker's."""
        log.info("partitions revoked", partitions=len(places), lost=lost)
        self._metrics.rebalances.labels("lost" if lost else "revoked").inc()
        self._health.revoked(places)

    def committed(self, marks: Mapping[Place, Mark]) -> None:
        """Offsets are handed to Kafka: everything before them is stored."""
        self._metrics.commits.labels("sent").inc()
        self._health.committed({place: mark.offset for place, mark in marks.items()})

    def not_committed(self) -> None:
        """Kafka refused offsets."""
        self._metrics.commits.labels("refused").inc()

    def turn(self) -> None:
        """The loop turned once more; says and shows what is due."""
        self._telling.now_and_then()
        if not self._health.turn():
            return
        batches = self._pipeline.batches
        self._metrics.reading = Reading(
            partitions=self._health.partitions,
            lags=self._health.lags,
            since_commit_s=self._health.since_commit_s,
            pending_bytes=batches.nbytes,
            in_flight=batches.in_flight,
            waiting=self._pipeline.waiting,
        )

    def close(self) -> None:
        """Stops serving the page."""
        self._health.close()
