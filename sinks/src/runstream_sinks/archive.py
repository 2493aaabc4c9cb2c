"""The archive's worker: topics to Parquet files, each record in exactly one of them.

The loop takes records and gives them to the cutter; what it cuts is written one file after the other by a thread. Before a file is written its name is committed, so that whoever comes next,
should this worker die, writes the same file; afterwards the offset behind it is.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from runstream_schemas.clocks import end_where_set_back
from runstream_sinks.archive_files import Cutter, File, in_order
from runstream_sinks.archive_kafka import Start, Stream, note_of
from runstream_sinks.archive_store import ArchiveError, Store
from runstream_sinks.archive_watch import ArchiveWatch
from runstream_sinks.errors import SinksError
from runstream_sinks.log import clock_was_set_back, log
from runstream_sinks.readiness import ReadyFile, wait_for_topics
from runstream_sinks.retry import delay_s

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_feed.records import Place
    from runstream_schemas.settings import Settings
    from runstream_sinks.archive_files import Name

POLL_S = 0.1
POLL_RECORDS_MAX = 500
# Records that are open, wait to be written, or are being written; past it nothing is fetched. A file takes as much again while it becomes Parquet.
PENDING_BYTES_MAX = 192 << 20
RETRY_COMMIT_S = 0.5
COMPLAIN_INTERVAL_S = 5.0
# A rebalance waits for its members: the next owner writes what is under way now.
REVOKE_BUDGET_S = 5.0
LOOK_BUDGET_S = 30.0
DRAIN_BUDGET_S = 6.0
EXIT_BUDGET_S = 9.0


class Written(NamedTuple):
    """A file, whether it is there (not where the writing was given up), and how long that took."""

    file: File
    is_there: bool
    seconds: float


class Writer:
    """A thread that writes one file at a time, and tries again while the storage is away. A daemon: a process that is out of time leaves it behind."""

    def __init__(self, store: Store, on_retry: Callable[[], None]) -> None:
        """`on_retry` runs in the thread, after each try that failed."""
        self._store = store
        self._on_retry = on_retry
        self._todo: queue.SimpleQueue[File | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Written | Exception] = queue.SimpleQueue()
        self._given_up = threading.Event()
        self.file: File | None = None
        threading.Thread(target=self._work, name="archive-writer", daemon=True).start()

    def submit(self, file: File) -> None:
        """Begins to write a file; there must be none under way."""
        self._given_up.clear()
        self.file = file
        self._todo.put(file)

    def finished(self, wait_s: float) -> Written | None:
        """The file, once nothing more is done for it; waits up to `wait_s`. Raises what the thread died of."""
        try:
            done = self._done.get(timeout=wait_s) if wait_s > 0 else self._done.get_nowait()
        except queue.Empty:
            return None
        self.file = None
        if isinstance(done, Exception):
            raise done
        return done

    def give_up(self) -> None:
        """Tries no more to write what is under way."""
        self._given_up.set()

    def _work(self) -> None:
        while (file := self._todo.get()) is not None:
            began = time.monotonic()
            try:
                self._done.put(Written(file, self._write(file), time.monotonic() - began))
            except Exception as error:  # noqa: BLE001 - whatever the thread dies of must stop the worker with its reason
                self._done.put(error)
                return

    def _write(self, file: File) -> bool:
        complain_at, failures = 0.0, 0
        while not self._given_up.is_set():
            try:
                self._store.write(file)
            except ArchiveError as error:
                failures += 1
                self._on_retry()
                if time.monotonic() >= complain_at:
                    complain_at = time.monotonic() + COMPLAIN_INTERVAL_S
                    log.warning("the archive cannot be written to, trying again", file=file.name.path, failures=failures, error=str(error))
                self._given_up.wait(delay_s(failures, random.random()))
            else:
                return True
        return False


class Archiver:
    """One process's worker; `run` works until it is asked to stop."""

    def __init__(self, settings: Settings, topics: Sequence[str], store: Store) -> None:
        """`topics` are full names."""
        self._settings = settings
        self._topics = topics
        self._store = store
        self._stop = threading.Event()
        self._ready = ReadyFile(settings.ready_file)
        self._cutter = Cutter(bytes_max=settings.archive_bytes, age_s=settings.archive_interval)
        self._queue: deque[File] = deque()
        self._stream = Stream(settings)
        self._watch = ArchiveWatch(settings)
        self._writer = Writer(store, self._watch.retried)
        self._closing = False
        # A file under way whose partition has gone: its next owner writes it, too, and commits.
        self._disowned: File | None = None
        self._retry_at = 0.0

    def stop(self) -> None:
        """Asks the worker to drain and end; safe in a signal handler and from any thread."""
        self._stop.set()

    def run(self) -> None:
        """Works until `stop`, then writes what it has, commits, and leaves the group.

        Raises:
            SinksError: Kafka refused for good, or the archive does not belong to these topics.
        """
        try:
            self._store.begin()
            if not wait_for_topics(self._settings, lambda: self._stream.missing(self._topics), self._stop, self._watch.waits):
                return
            self._stream.subscribe(self._topics, on_assign=self._assigned, on_gone=self._gone)
            log.info("archive worker consumes", topics=len(self._topics), kafka=self._settings.kafka)
            while not self._stop.is_set():
                self._turn()
            self._drain()
        finally:
            self._closing = True
            self._writer.give_up()
            self._stream.close()
            self._watch.close()

    def _turn(self) -> None:
        now = time.monotonic()
        records = self._stream.poll(records_max=POLL_RECORDS_MAX, timeout_s=POLL_S)
        self._watch.read(records)
        for place, record in records:
            self._queue.extend(self._cutter.take(place, record, now))
        self._queue.extend(self._cutter.due(time.monotonic()))
        pending = self._cutter.nbytes + sum(one.nbytes for one in self._queue) + (self._writer.file.nbytes if self._writer.file else 0)
        full = pending >= PENDING_BYTES_MAX
        if full and not self._queue and self._writer.file is None:
            self._queue.extend(self._cutter.due(time.monotonic(), everything=True))
        self._stream.pause(paused=full)
        self._write(0.0)
        self._ready.renew()
        self._watch.turn(pending_bytes=pending, waiting_files=len(self._queue))

    def _write(self, wait_s: float) -> None:
        """Takes note of the file that is written by now, and begins with the next one."""
        self._settle(self._writer.finished(wait_s) if self._writer.file is not None else None)
        if self._writer.file is None and self._queue and time.monotonic() >= self._retry_at:
            name = self._queue[0].name
            if self._commit(name.place, name.first, note_of(name)):
                self._writer.submit(self._queue.popleft())
            else:
                self._retry_at = time.monotonic() + RETRY_COMMIT_S

    def _settle(self, done: Written | None) -> None:
        """Commits the offset behind a file that is there, if its partition is still ours."""
        if done is None or not done.is_there or done.file is self._disowned:
            return
        self._watch.written(done.file, done.seconds)
        # Should this be lost, the name that was committed before says as much, together with the file.
        self._commit(done.file.name.place, done.file.name.last + 1, "")

    def _commit(self, place: Place, offset: int, note: str) -> bool:
        taken = self._stream.commit(place, offset, note)
        self._watch.committed(place, offset, taken=taken)
        return taken

    def _drain(self) -> None:
        """Writes everything, as far as the time goes."""
        deadline = time.monotonic() + DRAIN_BUDGET_S
        self._queue.extend(self._cutter.due(time.monotonic(), everything=True))
        while (self._queue or self._writer.file is not None) and time.monotonic() < deadline:
            self._write(0.05)
        if self._queue or self._writer.file is not None:
            log.warning("out of time, the rest will be archived by the next worker", files=len(self._queue) + 1)

    # ---- partitions come and go --------------------------------------------------------------------------------------------------------

    def _assigned(self, starts: dict[Place, tuple[Start, tuple[int, int]]]) -> None:
        self._watch.assigned(starts)
        for place, (start, (low, high)) in starts.items():
            begin, intent = _patiently(lambda: self._begin(place, start))  # noqa: B023 - it is called at once
            if begin > high:
                raise ArchiveError(
                    f"the archive holds {place.topic}/{place.partition} up to offset {begin - 1}, and the topic ends at {high}: it was made anew, so give another archive_url"
                )
            if low > begin > 0:
                log.warning("records were removed before they were archived", topic=place.topic, partition=place.partition, first=begin, last=low - 1)
            self._cutter.begin(place, begin, intent)
        self._ready.write()

    def _begin(self, place: Place, start: Start) -> tuple[int, Name | None]:
        """The first offset that is not archived, and the file that was about to be written from there."""
        if start.intent is not None and self._store.has(start.intent):
            return start.intent.last + 1, None
        if start.offset is not None:
            return start.offset, start.intent
        # The group is new, or was forgotten; the files know.
        names = in_order(name for name in self._store.names([place.topic]) if name.place == place)
        return (names[place][-1].last + 1 if place in names else 0), None

    def _gone(self, places: set[Place], lost: bool) -> None:
        self._watch.revoked(places, lost=lost)
        self._cutter.drop(places)
        self._queue = deque(one for one in self._queue if one.name.place not in places)
        file = self._writer.file
        if file is None or file.name.place not in places or self._closing:
            return
        if not lost:
            self._settle(self._writer.finished(REVOKE_BUDGET_S))
        if self._writer.file is not None:
            # It does no harm to finish late, since the next owner writes the same file; but it is better to be out of the way.
            self._disowned = file
            self._writer.give_up()


def _patiently(ask: Callable[[], tuple[int, Name | None]]) -> tuple[int, Name | None]:
    """What the storage answers, asked again for a while; partitions wait meanwhile."""
    deadline = time.monotonic() + LOOK_BUDGET_S
    while True:
        try:
            return ask()
        except ArchiveError as error:
            if time.monotonic() >= deadline:
                raise
            log.warning("the archive cannot be read, trying again", error=str(error))
            time.sleep(RETRY_COMMIT_S)


def main(settings: Settings, topics: Sequence[str], store: Store) -> int:
    """Runs a worker until SIGTERM or SIGINT; 0 when it drained, 1 when it stopped for a reason, which is logged."""
    worker = Archiver(settings, topics, store)
    end_where_set_back(clock_was_set_back)

    def ask(signum: int, _: object) -> None:
        log.info("archive worker was asked to end", signal=signal.Signals(signum).name)
        worker.stop()
        last = threading.Timer(EXIT_BUDGET_S, _give_up)
        last.daemon = True
        last.start()

    for one in (signal.SIGTERM, signal.SIGINT):
        signal.signal(one, ask)
    try:
        worker.run()
    except SinksError as error:
        log.error("archive worker stops", reason=f"{type(error).__name__}: {error}")
        return 1
    except Exception as error:  # noqa: BLE001 - whatever a worker dies of, its last line must say it
        log.exception("archive worker met an error that nobody foresaw")
        log.error("archive worker stops", reason=f"{type(error).__name__}: {error}")
        return 1
    return 0


def _give_up() -> NoReturn:
    log.error("out of time to end in order: what is not committed will be archived by the next worker")
    os._exit(1)
