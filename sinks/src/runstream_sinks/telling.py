"""What a worker says of itself while it works: figures, records set aside, and topics that wait. Bounded, however many records are malformed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runstream_sinks.log import log

if TYPE_CHECKING:
    from runstream_schemas.records import DeadLetter
    from runstream_sinks.inserter import Done
    from runstream_sinks.pipeline import Pipeline

FIGURES_INTERVAL_S = 30.0
LETTERS_TOLD_MAX = 20


class Telling:
    """The lines of one worker, and the counts that they need."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._figures_at = time.monotonic() + FIGURES_INTERVAL_S
        self._letters_told = 0
        self._slowed_at: dict[str, float] = {}
        self._chunks = 0
        self._insert_s = 0.0
        self._rows = 0

    def inserted(self, done: Done) -> None:
        """Counts a chunk that ClickHouse holds."""
        self._rows += done.chunk.rows.rows
        self._chunks += 1
        self._insert_s += done.seconds

    def set_aside(self, letter: DeadLetter) -> None:
        """Says which record is set aside; of a flood only the first ones."""
        self._letters_told += 1
        if self._letters_told <= LETTERS_TOLD_MAX:
            log.warning("malformed record set aside", topic=letter.topic, partition=letter.partition, offset=letter.offset, reason=letter.reason)
        elif self._letters_told == LETTERS_TOLD_MAX + 1:
            log.warning("more malformed records are set aside, the figures count them")

    def now_and_then(self) -> None:
        """Says what is due: topics that wait, and figures."""
        now = time.monotonic()
        for topic, partitions in self._pipeline.slowed.items():
            if now >= self._slowed_at.get(topic, 0.0):
                self._slowed_at[topic] = now + FIGURES_INTERVAL_S
                log.warning(
                    "too many of a topic's records are malformed, they are set aside slowly and what is behind them waits",
                    topic=topic,
                    partitions=partitions,
                    set_aside=self._pipeline.malformed[topic],
                    action="look at the view dead_letters, then stop their producer, or upgrade the sinks, or raise RUNSTREAM_DEAD_LETTER_RATIO_MAX",
                )
        if now >= self._figures_at:
            self._figures_at = now + FIGURES_INTERVAL_S
            self._letters_told = 0
            self._tell_figures()

    def _tell_figures(self) -> None:
        pipeline = self._pipeline
        log.info(
            "figures",
            records=pipeline.records,
            malformed=pipeline.malformed.total(),
            slowed=",".join(sorted(pipeline.slowed)) or "none",
            newest_age_s=time.time() - pipeline.newest_ms / 1000 if pipeline.newest_ms else "none",
            rows=self._rows,
            inserts=self._chunks,
            insert_ms=1000 * self._insert_s / max(1, self._chunks),
            pending_bytes=pipeline.batches.nbytes,
            in_flight=pipeline.batches.in_flight,
        )
