"""Moves what a source gives through the pipeline into one database, until the source is done or it is asked to stop.

The same pipeline, batches, ledger and inserter as the worker's, so that a row comes out the same; but no group to rebalance, no letters to write, and a pace that may be bounded.
What is malformed is counted: the sinks set it aside when it came, and a letter more would say nothing new.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from runstream_schemas.records import DeadLetter
from runstream_sinks.batching import Batches, Limits
from runstream_sinks.clickhouse import Server
from runstream_sinks.inserter import Inserter
from runstream_sinks.malformed import NO_BOUNDS
from runstream_sinks.pace import Pace
from runstream_sinks.pipeline import Pipeline, routes, rows_of
from runstream_sinks.worker import CHUNK_BYTES_MAX, PENDING_BYTES_MAX, POLL_S, RETRY_HELD_S, records_max

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from runstream_feed.records import Place
    from runstream_schemas.catalogue import Catalogue
    from runstream_schemas.records import Record
    from runstream_schemas.settings import Settings
    from runstream_sinks.ledger import Mark
    from runstream_sinks.pipeline import Message, SetAside

KEEP_INTERVAL_S = 0.5
# After it was asked to stop, this long for the rows that were read already; what is left is read again by the next.
DRAIN_BUDGET_S = 6.0
EXAMPLES_MAX = 5


class Source(Protocol):
    """Where messages come from, each place's in order."""

    @property
    def done(self) -> bool:
        """Whether there are no more."""
        ...

    @property
    def records(self) -> tuple[int, int]:
        """About how many were passed, and how many there are in all; 0 where nobody knows."""
        ...

    def poll(self, *, records_max: int, timeout_s: float) -> Sequence[Message]:
        """The next messages; waits up to `timeout_s` for them."""
        ...

    def only(self, wanted: Callable[[Place], bool]) -> None:
        """Gives messages of wanted places only."""
        ...

    def keep(self, marks: Mapping[Place, Mark], *, wait: bool) -> None:
        """Keeps how far everything is stored, so that a later reading can go on from there."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a filling is."""

    records: int
    records_all: int
    rows: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Caller:
    """Whether to stop, and whom to tell how far it is."""

    asked: Callable[[], bool]
    told: Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A record that could not be decoded, or does not fit its table."""

    topic: str
    partition: int
    offset: int
    reason: str


@dataclass(slots=True)
class Counts:
    """What a filling did, by topic."""

    records: Counter[str] = field(default_factory=Counter[str])
    rows: Counter[str] = field(default_factory=Counter[str])
    malformed: Counter[str] = field(default_factory=Counter[str])
    examples: list[Malformed] = field(default_factory=list[Malformed])


def runs_filter(runs: frozenset[str]) -> Callable[[Record], bool] | None:
    """Whether a record is about one of these runs (lower-case UUIDs); None where none is named, which means all. Dead letters are about none."""

    def wanted(record: Record) -> bool:
        return not isinstance(record, DeadLetter) and str(getattr(record, "run_id", "")).lower() in runs

    return wanted if runs else None


class Fill:
    """One filling of one database. `run` may be called once."""

    def __init__(
        self,
        settings: Settings,
        *,
        database: str,
        source: Source,
        catalogue: Catalogue,
        wanted: Callable[[Record], bool] | None = None,
        rows_s: float | None = None,
        read_schemas: Callable[[], bool] = lambda: True,
    ) -> None:
        """`rows_s` bounds the rows read a second; `read_schemas` adds what is new on the schema topic to the catalogue, and says whether that was all."""
        self.counts = Counts()
        self._source = source
        self._read_schemas = read_schemas
        self._batches = Batches(Limits(rows=settings.sink_rows, nbytes=CHUNK_BYTES_MAX, age_s=settings.sink_interval), rows_of)
        self._pipeline = Pipeline(self._batches, prefix=settings.topic_prefix, catalogue=catalogue, policy=NO_BOUNDS, worker="", wanted=wanted)
        self._inserter = Inserter(lambda: Server(settings.clickhouse_url, database))
        self._topic_of = {table: topic for topic, table in routes(settings.topic_prefix).items()}
        self._pace = Pace(rows_s)
        self._records_max = 1
        self._full = False
        self._keep_at = self._retry_at = self._began = 0.0

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        return Progress(*self._source.records, self.counts.rows.total(), time.monotonic() - self._began)

    def run(self, caller: Caller) -> bool:
        """Fills until the source is done, or it is asked to stop; whether it was done.

        Raises:
            SinksError: ClickHouse or Kafka refused for good. What is stored by then is kept, so that the next can go on.
        """
        self._began = time.monotonic()
        began_ms = time.time_ns() // 1_000_000
        if self._read_schemas():
            self._pipeline.schemas_read(self._began, began_ms)
        self._inserter.start()
        try:
            while not (caller.asked() or (self._source.done and not self._pipeline.held)):
                self._turn()
                caller.told(self.progress)
            self._drain(None if self._source.done else DRAIN_BUDGET_S, caller)
        finally:
            self._inserter.close(timeout_s=0.5)
            self._keep(wait=True)
        return self._source.done and not self._batches.in_flight and not self._pipeline.held

    def _turn(self) -> None:
        rows = self.counts.rows.total() + self._batches.rows
        wait_s = self._pace.wait_s(rows, time.monotonic())
        if wait_s > 0 or self._full:
            self._settle(min(wait_s, POLL_S) or POLL_S)
        if wait_s <= 0:
            most = min(self._records_max, self._pace.records_max(rows, self._pipeline.records))
            messages = self._source.poll(records_max=most, timeout_s=POLL_S)
            self.counts.records.update(message.position.place.topic for message in messages)
            for aside in self._pipeline.take_all(messages, time.monotonic(), time.time_ns() // 1_000_000):
                self._note(aside)
            self._records_max = records_max(messages)
        self._retry_held()
        for chunk in self._batches.due(time.monotonic()):
            self._inserter.submit(chunk)
        self._settle(0.0)
        self._keep(wait=False)
        nbytes = self._batches.nbytes
        self._full = nbytes >= PENDING_BYTES_MAX or (self._full and nbytes > PENDING_BYTES_MAX // 2)
        held = self._pipeline.held
        self._source.only(lambda place: not self._full and place not in held)

    def _note(self, aside: SetAside) -> None:
        letter = aside.letter
        self.counts.malformed[letter.topic] += 1
        if len(self.counts.examples) < EXAMPLES_MAX:
            self.counts.examples.append(Malformed(letter.topic, letter.partition, letter.offset, letter.reason))
        self._batches.ledger.settle(aside.claim)

    def _retry_held(self) -> None:
        now = time.monotonic()
        if not self._pipeline.held or now < self._retry_at:
            return
        self._retry_at = now + RETRY_HELD_S
        began_ms = time.time_ns() // 1_000_000
        if self._read_schemas():
            self._pipeline.schemas_read(now, began_ms)
        for aside in self._pipeline.retry(time.monotonic(), time.time_ns() // 1_000_000):
            self._note(aside)

    def _settle(self, wait_s: float) -> None:
        for done in self._inserter.finished(wait_s):
            if done.error is not None:
                raise done.error
            self._batches.acknowledge(done.chunk)
            self.counts.rows[self._topic_of[done.chunk.name]] += done.chunk.rows.rows

    def _keep(self, *, wait: bool) -> None:
        now = time.monotonic()
        if not wait and now < self._keep_at:
            return
        marks = self._batches.ledger.safe()
        if marks:
            self._keep_at = now + KEEP_INTERVAL_S
            self._source.keep(marks, wait=wait)
            self._batches.ledger.committed(marks)

    def _drain(self, budget_s: float | None, caller: Caller) -> None:
        """Inserts all that was read; without a budget for as long as it takes, or until asked to stop, which brings the budget."""
        deadline = None if budget_s is None else time.monotonic() + budget_s
        for chunk in self._batches.due(time.monotonic(), everything=True):
            self._inserter.submit(chunk)
        while self._batches.in_flight and (deadline is None or time.monotonic() < deadline):
            self._settle(0.1)
            caller.told(self.progress)
            if deadline is None and caller.asked():
                deadline = time.monotonic() + DRAIN_BUDGET_S
