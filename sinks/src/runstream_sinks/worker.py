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
from runstream_sinks.errors import SinksError, TooManyMalformed
from runstream_sinks.inserter import Inserter
from runstream_sinks.log import log
from runstream_sinks.malformed import Policy
from runstream_sinks.pipeline import Message, Pipeline, SetAside, routes, rows_of
from runstream_sinks.pressure import Pressure
from runstream_sinks.readiness import ReadyFile, wait_for_tables, wait_for_topics
from runstream_sinks.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runstream_feed.records import Place
    from runstream_schemas.settings import Settings

POLL_S = 0.05
# Taken at once: many small records, so that frames can be read together, but few large ones, so that a chunk is not far past its limits when it is looked at.
POLL_RECORDS_MAX = 2000
POLL_BYTES_MAX = 4 << 20
CHUNK_BYTES_MAX = 64 << 20
# Chunks open and in flight; past it nothing is taken until half is gone. Twice as much may be in memory while chunks turn into Arrow.
PENDING_BYTES_MAX = 192 << 20
COMMIT_INTERVAL_S = 0.2
SCHEMA_REFRESH_S = 0.5
RETRY_HELD_S = 0.2
# A rebalance waits for its members: what is not inserted by then is left to the next owner.
REVOKE_BUDGET_S = 5.0
# SIGTERM to exit takes at most 10 s: this long for the rows, the rest for Kafka, then the process ends as if it had been killed, which loses nothing.
DRAIN_BUDGET_S = 6.0
EXIT_BUDGET_S = 9.0
# A worker that stops for good keeps what the servers hold already.
KEEP_BUDGET_S = 2.0


def records_max(last: Sequence[Message]) -> int:
    """How many records to take next, if they are as large as the last ones were."""
    if not last:
        return max(1, POLL_RECORDS_MAX // 10)
    nbytes = sum(len(one.value or b"") for one in last)
    return max(1, min(POLL_RECORDS_MAX, POLL_BYTES_MAX * len(last) // max(1, nbytes), 10 * len(last)))


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
            policy=Policy(settings.dead_letter_ratio_max, settings.dead_letter_run_max, stops=settings.dead_letter_action == "stop"),
            worker=name,
        )
        self._source = kafka.Source(settings, self._not_committed)
        self._watch = Watch(settings, self._pipeline)
        self._ready = ReadyFile(settings.ready_file)
        self._letters = kafka.Letters(settings, self._ready.renew)
        self._schemas = kafka.SchemaReader(settings, catalogue)
        self._inserter = Inserter(lambda: Server(settings.clickhouse_url, settings.clickhouse_database), self._watch.retried)
        self._pressure = Pressure(PENDING_BYTES_MAX)
        self._paused = self._closing = False
        self._records_max = 1
        self._commit_at = self._refresh_at = self._retry_at = 0.0

    def stop(self) -> None:
        """Asks the worker to drain and end; safe in a signal handler and from any thread."""
        self._stop.set()

    def run(self) -> None:
        """Works until `stop`, then inserts what it has, commits, and leaves the group.

        Raises:
            SinksError: ClickHouse or Kafka refused for good, or a migration does not fit.
        """
        topics = routes(self._settings.topic_prefix)
        try:
            if not self._is_all_there(topics):
                return
            self._inserter.start()
            self._source.subscribe(topics, on_assign=self._assigned, on_revoke=self._revoked)
            log.info("sink worker consumes", topics=len(topics), kafka=self._settings.kafka, database=self._settings.clickhouse_database)
            while not self._stop.is_set():
                self._turn()
            self._drain(DRAIN_BUDGET_S)
        except SinksError:
            self._keep()
            raise
        finally:
            self._close()

    def _is_all_there(self, topics: Iterable[str]) -> bool:
        """Waits for tables and topics; False when asked to stop first."""
        return wait_for_tables(self._settings, self._stop, self._watch.waits) and wait_for_topics(
            self._settings, lambda: self._source.missing(topics), self._stop, self._watch.waits
        )

    # ---- the loop ----------------------------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        idle = self._take()
        self._ready.renew()
        self._retry_held()
        self._letters.poll()
        for chunk in self._batches.due(time.monotonic(), idle=idle):
            self._inserter.submit(chunk)
        self._settle(0.0)
        self._commit()
        self._regulate()
        self._watch.turn()

    def _take(self) -> bool:
        """Takes records into their chunks, or waits a moment for ClickHouse; True when Kafka had fewer than were asked for."""
        if self._pressure.holds(time.monotonic()):
            self._settle(POLL_S)
            return False
        messages = self._source.poll(records_max=self._records_max, timeout_s=POLL_S)
        self._watch.read(messages)
        for aside in self._pipeline.take_all(messages, time.monotonic(), time.time_ns() // 1_000_000):
            self._send(aside)
        idle = len(messages) < self._records_max
        self._records_max = records_max(messages)
        return idle

    def _send(self, aside: SetAside) -> None:
        self._watch.set_aside(aside.letter)
        self._letters.send(aside.letter, lambda: self._batches.ledger.settle(aside.claim))

    def _retry_held(self) -> None:
        """Tries messages that wait, with what the schema topic has by now."""
        now = time.monotonic()
        if not self._pipeline.held or now < self._retry_at or self._letters.full:
            return
        self._retry_at = now + RETRY_HELD_S
        if self._pipeline.wants_schemas and now >= self._refresh_at:
            self._refresh_at = now + SCHEMA_REFRESH_S
            began_ms = time.time_ns() // 1_000_000
            if self._schemas.refresh():
                self._pipeline.schemas_read(now, began_ms)
        for aside in self._pipeline.retry(time.monotonic(), time.time_ns() // 1_000_000):
            self._send(aside)

    def _settle(self, wait_s: float) -> None:
        """Takes note of inserts that ended; raises the error of one that never will be taken."""
        for done in self._inserter.finished(wait_s):
            if done.error is not None:
                raise done.error
            self._batches.acknowledge(done.chunk)
            self._watch.inserted(done)

    def _commit(self, *, wait: bool = False) -> None:
        now = time.monotonic()
        if not wait and now < self._commit_at:
            return
        marks = self._batches.ledger.safe()
        if marks:
            self._commit_at = now + COMMIT_INTERVAL_S
            self._batches.ledger.committed(marks)
            self._source.commit(marks, wait=wait)
            self._watch.committed(marks)

    def _not_committed(self, places: set[Place]) -> None:
        self._batches.ledger.not_committed(places)
        self._watch.not_committed()

    def _regulate(self) -> None:
        """Fetches nothing while memory stays full, and nothing from partitions that wait."""
        now = time.monotonic()
        self._pressure.look(self._batches.nbytes, now)
        pauses = self._pressure.pauses(now)
        if pauses and not self._paused:
            log.warning("memory for rows is full, fetching waits for clickhouse", bytes=self._batches.nbytes)
        self._paused = pauses
        held = self._pipeline.held
        full = pauses or self._letters.full
        self._source.only(lambda place: not full and place not in held)

    # ---- partitions come and go --------------------------------------------------------------------------------------------------------

    def _assigned(self, places: set[Place]) -> None:
        self._watch.assigned(places)
        self._ready.write()

    def _revoked(self, places: set[Place], lost: bool) -> None:
        """Inserts and commits within the budget, then drops what is left: its next owner reads it again."""
        self._watch.revoked(places, lost=lost)
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

    def _keep(self) -> None:
        """Commits what is held by ClickHouse and Kafka already, so that whoever comes next does not set the same records aside again."""
        for done in self._inserter.finished():
            if done.error is None:
                self._batches.acknowledge(done.chunk)
        self._letters.flush(KEEP_BUDGET_S)
        self._commit(wait=True)

    def _close(self) -> None:
        self._closing = True
        self._inserter.close(timeout_s=0.5)
        self._schemas.close()
        self._source.close()
        self._watch.close()
        log.info("sink worker ended", records=self._pipeline.records, rows=self._watch.rows, malformed=self._pipeline.malformed.total())


def _give_up() -> NoReturn:
    log.error("out of time to end in order: what is not committed will be read again")
    os._exit(1)


def main(settings: Settings) -> int:
    """Runs a worker until SIGTERM or SIGINT; 0 when it drained; 1 when it stopped for a reason, which is logged; 3 when that was a flood of malformed records."""
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
        # Its own code, so that a supervisor can be told not to start it again before somebody has looked.
        return 3 if isinstance(error, TooManyMalformed) else 1
    except Exception as error:  # noqa: BLE001 - whatever a worker dies of, its last line must say it
        log.exception("sink worker met an error that nobody foresaw")
        log.error("sink worker stops", reason=f"{type(error).__name__}: {error}")
        return 1
    return 0
