"""The sink worker: Kafka to ClickHouse for all topics of a prefix, in one process.

The loop takes records, gives them to the pipeline, hands chunks that are due to the inserter, and commits offsets once everything before them is held by ClickHouse
(or, for malformed records, by the dead-letter topic). Whatever dies in between, the records are read again and the tables collapse the repeats.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, NoReturn

from runstream_schemas.catalogue import Catalogue, bundled
from runstream_sinks import kafka
from runstream_sinks.batching import Batches, Limits
from runstream_sinks.clickhouse import Server
from runstream_sinks.errors import SinksError
from runstream_sinks.inserter import Inserter
from runstream_sinks.log import log
from runstream_sinks.pipeline import Pipeline, SetAside, routes, rows_of
from runstream_sinks.readiness import wait_for_tables, wait_for_topics

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_schemas.settings import Settings
    from runstream_sinks.ledger import Place

POLL_S = 0.05
POLL_RECORDS_MAX = 500
CHUNK_BYTES_MAX = 64 << 20
# Chunks open and in flight; past it nothing is fetched until half is gone. Twice as much may be in memory while chunks turn into Arrow.
PENDING_BYTES_MAX = 192 << 20
COMMIT_INTERVAL_S = 0.2
FIGURES_INTERVAL_S = 30.0
SCHEMA_REFRESH_S = 0.5
# A rebalance waits for its members: what is not inserted by then is left to the next owner.
REVOKE_BUDGET_S = 5.0
# SIGTERM to exit takes at most 10 s: this long for the rows, the rest for Kafka, then the process ends as if it had been killed, which loses nothing.
DRAIN_BUDGET_S = 6.0
EXIT_BUDGET_S = 9.0


class Worker:
    """One process's worker; `run` works until it is asked to stop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        name = f"{socket.gethostname()}:{os.getpid()}"
        catalogue = Catalogue(bundled().entries())
        limits = Limits(rows=settings.sink_rows, nbytes=CHUNK_BYTES_MAX, age_s=settings.sink_interval)
        self._batches = Batches(limits, rows_of)
        self._pipeline = Pipeline(
            self._batches,
            prefix=settings.topic_prefix,
            catalogue=catalogue,
            ratio_max=settings.dead_letter_ratio_max,
            worker=name,
        )
        self._source = kafka.Source(settings)
        self._letters = kafka.Letters(settings)
        self._schemas = kafka.SchemaReader(settings, catalogue)
        self._inserter = Inserter(lambda: Server(settings.clickhouse_url, settings.clickhouse_database))
        self._full = self._closing = False
        self._commit_at = self._refresh_at = 0.0
        self._figures_at = time.monotonic() + FIGURES_INTERVAL_S
        self._inserted_rows = self._inserted_chunks = 0
        self._insert_s = 0.0

    def stop(self) -> None:
        """Asks the worker to drain and end; safe in a signal handler and from any thread."""
        self._stop.set()

    def run(self) -> None:
        """Works until `stop`, then inserts what it has, commits, and leaves the group.

        Raises:
            SinksError: ClickHouse or Kafka refused for good, a migration does not fit, or too many records were malformed.
        """
        topics = routes(self._settings.topic_prefix)
        try:
            if not (wait_for_tables(self._settings, self._stop) and wait_for_topics(self._settings, lambda: self._source.missing(topics), self._stop)):
                return
            self._inserter.start()
            self._source.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked)
            log.info("sink worker consumes", topics=len(topics), kafka=self._settings.kafka, database=self._settings.clickhouse_database)
            while not self._stop.is_set():
                self._turn()
            self._drain(DRAIN_BUDGET_S)
        finally:
            self._close()

    # ---- the loop ----------------------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        for message in self._source.poll(records_max=POLL_RECORDS_MAX, timeout_s=POLL_S):
            self._send(self._pipeline.take(message, time.monotonic(), time.time_ns() // 1_000_000))
        self._retry_held()
        self._letters.poll()
        for chunk in self._batches.due(time.monotonic()):
            self._inserter.submit(chunk)
        self._settle(0.0)
        self._commit()
        self._regulate()
        self._tell_figures()

    def _send(self, aside: SetAside | None) -> None:
        if aside is None:
            return
        letter = aside.letter
        log.warning("malformed record set aside", topic=letter.topic, partition=letter.partition, offset=letter.offset, reason=letter.reason)
        self._letters.send(letter, lambda: self._batches.ledger.settle(aside.claim))

    def _retry_held(self) -> None:
        now = time.monotonic()
        if not self._pipeline.unknown or now < self._refresh_at:
            return
        # While messages wait the topic is read often; an id that was given up is looked for now and then.
        self._refresh_at = now + (SCHEMA_REFRESH_S if self._pipeline.held else FIGURES_INTERVAL_S)
        self._schemas.refresh()
        for aside in self._pipeline.retry(time.monotonic(), time.time_ns() // 1_000_000):
            self._send(aside)

    def _settle(self, wait_s: float) -> None:
        """Takes note of inserts that ended; raises the error of one that never will be taken."""
        for done in self._inserter.finished(wait_s):
            if done.error is not None:
                raise done.error
            self._batches.acknowledge(done.chunk)
            self._inserted_rows += done.chunk.rows.rows
            self._inserted_chunks += 1
            self._insert_s += done.seconds

    def _commit(self, *, wait: bool = False) -> None:
        now = time.monotonic()
        if not wait and now < self._commit_at:
            return
        marks = self._batches.ledger.safe()
        if marks:
            self._commit_at = now + COMMIT_INTERVAL_S
            self._source.commit(marks, wait=wait)
            self._batches.ledger.committed(marks)

    def _regulate(self) -> None:
        """Fetches nothing while memory is full, and nothing from partitions that wait for a schema."""
        nbytes = self._batches.nbytes
        if nbytes >= PENDING_BYTES_MAX and not self._full:
            self._full = True
            log.warning("memory for rows is full, fetching waits for clickhouse", bytes=nbytes)
        elif nbytes <= PENDING_BYTES_MAX // 2:
            self._full = False
        held = self._pipeline.held
        self._source.only(lambda place: not self._full and place not in held)

    def _tell_figures(self) -> None:
        now = time.monotonic()
        if now < self._figures_at:
            return
        self._figures_at = now + FIGURES_INTERVAL_S
        log.info(
            "figures",
            records=self._pipeline.records,
            malformed=self._pipeline.malformed,
            newest_age_s=time.time() - self._pipeline.newest_ms / 1000 if self._pipeline.newest_ms else "none",
            rows=self._inserted_rows,
            inserts=self._inserted_chunks,
            insert_ms=1000 * self._insert_s / max(1, self._inserted_chunks),
            pending_bytes=self._batches.nbytes,
            in_flight=self._batches.in_flight,
        )

    # ---- partitions come and go --------------------------------------------------------------------------------------------------------

    def _assigned(self, places: set[Place]) -> None:
        log.info("partitions assigned", partitions=len(places))
        ready_file = self._settings.ready_file
        if ready_file is not None:
            _write_ready(ready_file)

    def _revoked(self, places: set[Place], lost: bool) -> None:
        """Inserts and commits within the budget, then drops what is left: its next owner reads it again."""
        log.info("partitions revoked", partitions=len(places), lost=lost)
        if not lost and not self._closing:
            self._drain(REVOKE_BUDGET_S)
        self._pipeline.revoke(places)

    def _drain(self, budget_s: float) -> None:
        """Inserts everything and commits it, as far as the time goes."""
        deadline = time.monotonic() + budget_s
        for chunk in self._batches.due(time.monotonic(), everything=True):
            self._inserter.submit(chunk)
        while self._batches.in_flight and (left := deadline - time.monotonic()) > 0:
            self._settle(min(left, 0.1))
        self._letters.flush(max(0.1, deadline - time.monotonic()))
        self._letters.poll()
        if self._batches.in_flight:
            log.warning("out of time, the rest will be read again", chunks=self._batches.in_flight)
        self._commit(wait=True)

    def _close(self) -> None:
        self._closing = True
        self._inserter.close(timeout_s=0.5)
        self._schemas.close()
        self._source.close()
        log.info("sink worker ended", records=self._pipeline.records, rows=self._inserted_rows, malformed=self._pipeline.malformed)


def _write_ready(path: Path) -> None:
    # Whole or not at all: who waits for the file must not read half of it.
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    fresh.write_text("ready\n", encoding="utf-8")
    fresh.replace(path)


def _give_up() -> NoReturn:
    log.error("out of time to end in order: what is not committed will be read again")
    os._exit(1)


def main(settings: Settings) -> int:
    """Runs a worker until SIGTERM or SIGINT; 0 when it drained, 1 when it stopped for a reason, which is logged."""
    worker = Worker(settings)

    def ask(signum: int, _: object) -> None:
        log.info("sink worker was asked to end", signal=signal.Signals(signum).name)
        worker.stop()
        last = threading.Timer(EXIT_BUDGET_S, _give_up)
        last.daemon = True
        last.start()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, ask)
    try:
        worker.run()
    except SinksError as error:
        log.error("sink worker stops", reason=f"{type(error).__name__}: {error}")
        return 1
    return 0
