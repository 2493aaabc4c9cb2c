"""Threads that insert chunks, and try again for as long as ClickHouse is away; the caller goes on polling Kafka meanwhile."""

from __future__ import annotations

import queue
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from runstream_sinks import arrow
from runstream_sinks.errors import ServerBusy, SinksError
from runstream_sinks.log import log
from runstream_sinks.retry import delay_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_sinks.arrow import Table
    from runstream_sinks.batching import Chunk

# Two, so that a slow table does not hold back the others; each has its own connection.
THREADS = 2
# While ClickHouse is away this often is enough to read about it.
COMPLAIN_INTERVAL_S = 5.0


class Sink(Protocol):
    """Where tables go."""

    def insert(self, table: str, rows: Table) -> None:
        """Inserts rows; raises ServerBusy where it is worth another try, another SinksError where it is not."""
        ...

    def close(self) -> None:
        """Lets the connection go."""
        ...


@dataclass(frozen=True, slots=True)
class Done:
    """A chunk that is held by ClickHouse, or the error for which it never will be.

    `seconds` passed since its turn came; of those the last try took `last_try_s`, with `nbytes` of columns.
    """

    chunk: Chunk
    seconds: float
    last_try_s: float
    nbytes: int
    failures: int
    error: Exception | None = None


class Inserter:
    """Inserts what is submitted; `finished` hands back what is done. The threads are daemons: a process that is out of time leaves them behind."""

    def __init__(self, connect: Callable[[], Sink], on_retry: Callable[[int | None], None] = lambda _: None) -> None:
        """`connect` is called once by each thread. `on_retry` gets the code of each error that passes (None where nobody answered), on a thread of the inserter's."""
        self._todo: queue.SimpleQueue[Chunk | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._connect = connect
        self._on_retry = on_retry
        self._threads = [threading.Thread(target=self._work, name=f"insert-{number}", daemon=True) for number in range(THREADS)]

    def start(self) -> None:
        """Starts the threads."""
        for thread in self._threads:
            thread.start()

    def submit(self, chunk: Chunk) -> None:
        """Queues a chunk."""
        self._todo.put(chunk)

    def finished(self, wait_s: float = 0.0) -> list[Done]:
        """Chunks done since the last call; waits up to `wait_s` for the first."""
        out: list[Done] = []
        try:
            out.append(self._done.get(timeout=wait_s) if wait_s > 0 else self._done.get_nowait())
            while True:
                out.append(self._done.get_nowait())
        except queue.Empty:
            return out

    def close(self, timeout_s: float) -> None:
        """Ends the threads; chunks still queued are left, as their offsets were not committed."""
        self._stop.set()
        for _ in self._threads:
            self._todo.put(None)
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            if thread.ident is None:
                continue  # It was never started.
            thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        arrow.warm_up()
        sink = self._connect()
        while not self._stop.is_set():
            chunk = self._todo.get()
            if chunk is not None:
                self._insert(sink, chunk)
        sink.close()

    def _insert(self, sink: Sink, chunk: Chunk) -> None:
        began = tried = time.monotonic()
        complain_at, failures, nbytes = began, 0, 0

        def done(error: Exception | None = None) -> None:
            now = time.monotonic()
            self._done.put(Done(chunk, now - began, now - tried, nbytes, failures, error))

        try:
            table = chunk.rows.table()
            nbytes = arrow.bytes_of(table)
            while not self._stop.is_set():
                tried = time.monotonic()
                try:
                    sink.insert(chunk.name, table)
                except ServerBusy as error:
                    failures += 1
                    self._on_retry(error.code)
                    now = time.monotonic()
                    if now >= complain_at:
                        complain_at = now + COMPLAIN_INTERVAL_S
                        log.warning("clickhouse is busy or away, trying again", table=chunk.name, rows=chunk.rows.rows, failures=failures, error=str(error))
                    self._stop.wait(delay_s(failures, random.random()))
                else:
                    done()
                    return
        except SinksError as error:
            done(error)
        except Exception as error:  # noqa: BLE001 - whatever a thread dies of must stop the worker with its reason, not leave it waiting
            done(error)
