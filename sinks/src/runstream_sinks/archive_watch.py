"""What an archive's worker shows of itself: it is told what happens, and gives it to the log, the figures and the page of health. Nothing here decides anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runstream_sinks.archive_kafka import group_of
from runstream_sinks.health import Health
from runstream_sinks.log import log
from runstream_sinks.metrics import ArchiveMetrics, ArchiveReading

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from runstream_feed.records import Place
    from runstream_schemas.settings import Settings
    from runstream_sinks.archive_files import File, Raw

FIGURES_INTERVAL_S = 30.0


class ArchiveWatch:
    """All calls come from the worker's loop, but `retried`, which its writer calls."""

    def __init__(self, settings: Settings) -> None:
        """Serves the page if there is a port for it; raises SettingsError where that cannot be had."""
        self._metrics = ArchiveMetrics()
        # Offsets stand still until a file is full or old enough.
        still_s_max = settings.archive_interval + settings.stall_after
        self._health = Health(settings, group=group_of(settings), still_s_max=still_s_max, page=self._metrics.page)
        self._figures_at = time.monotonic() + FIGURES_INTERVAL_S
        self.files = 0
        self.records = 0

    def waits(self, reason: str) -> None:
        """The worker has not begun: it waits for something."""
        self._health.waits(reason)

    def read(self, records: Sequence[tuple[Place, Raw]]) -> None:
        """Records came from Kafka."""
        self._health.read({place: record.time_ms for place, record in records})

    def written(self, file: File, seconds: float) -> None:
        """A file is there."""
        self.files += 1
        self.records += len(file.records)
        self._metrics.files.labels(file.name.place.topic).inc()
        self._metrics.records.labels(file.name.place.topic).inc(len(file.records))
        self._metrics.write_seconds.observe(seconds)

    def retried(self) -> None:
        """The storage did not take a file."""
        self._metrics.retries.inc()

    def assigned(self, places: Collection[Place]) -> None:
        """Partitions are this worker's from now on."""
        log.info("partitions assigned", partitions=len(places))
        self._metrics.rebalances.labels("assigned").inc()
        self._health.assigned(places)

    def revoked(self, places: Collection[Place], *, lost: bool) -> None:
        """Partitions are no longer this worker's."""
        log.info("partitions revoked", partitions=len(places), lost=lost)
        self._metrics.rebalances.labels("lost" if lost else "revoked").inc()
        self._health.revoked(places)

    def committed(self, place: Place, offset: int, *, taken: bool) -> None:
        """Everything before an offset is archived, and Kafka was told; whether it has taken that."""
        self._metrics.commits.labels("sent" if taken else "refused").inc()
        if taken:
            self._health.committed({place: offset})

    def turn(self, *, pending_bytes: int, waiting_files: int) -> None:
        """The loop turned once more; says and shows what is due."""
        if self._health.turn():
            self._metrics.reading = ArchiveReading(self._health.partitions, self._health.lags, self._health.since_commit_s, pending_bytes, waiting_files)
        if time.monotonic() >= self._figures_at:
            self._figures_at = time.monotonic() + FIGURES_INTERVAL_S
            log.info("figures", files=self.files, records=self.records, pending_bytes=pending_bytes, waiting_files=waiting_files)

    def close(self) -> None:
        """Stops serving the page, and says what was done."""
        self._health.close()
        log.info("archive worker ended", files=self.files, records=self.records)
