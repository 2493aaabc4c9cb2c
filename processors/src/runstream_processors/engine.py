"""From records to decisions, without Kafka and without Faust: decodes frames, sorts them by writer, asks the core, and shapes what must be sent and stored.

One engine serves one source topic. It remembers the states that it decided, so that they are unpacked from the table only after a start or a rebalance; a remembered state
counts only while the table holds the very bytes it was dumped to.
"""

from __future__ import annotations

import logging
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from runstream_rules import Policy, WriterState, decide, dump, load, must_wait, summary_frame
from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord, UnknownSchema
from runstream_schemas.records import MetricFrame
from runstream_schemas.topics import TOPICS, writer_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from runstream_processors.knowledge import Knowledge

logger = logging.getLogger(__name__)

_BLOCK = struct.Struct(">I")
_STATES_MAX = 20_000  # Remembered states; past it the oldest is forgotten and costs one unpacking when its writer comes again.


class Received(NamedTuple):
    """One record of the source topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class Output(NamedTuple):
    """One record to send."""

    topic: str
    key: bytes
    value: bytes


class Entry(NamedTuple):
    """One entry of the table, to be stored in the partition that the writer's frames come from."""

    partition: int
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames of one writer from one partition, in the order in which they came."""

    partition: int
    writer: int
    frames: list[MetricFrame]

    @property
    def rules_seen(self) -> int:
        """Rules that the writer had registered before the end of these frames."""
        return max(frame.rules_seen for frame in self.frames)


@dataclass(frozen=True, slots=True)
class Decision:
    """What one batch came to: send `outputs`, then store `entries` in their order."""

    batch: Batch
    state: WriterState
    outputs: list[Output]
    entries: list[Entry]


class Engine:
    """Decisions for one source topic."""

    def __init__(self, knowledge: Knowledge, policy: Policy, prefix: str, rules_wait_ms: int) -> None:
        self._knowledge = knowledge
        self._policy = policy
        self._alerts = TOPICS["alert"].full_name(prefix)
        self._summaries = TOPICS["summary"].full_name(prefix)
        self._rules_wait_ms = rules_wait_ms
        self._states: dict[int, tuple[bytes, WriterState]] = {}

    def unknown_schemas(self, records: Iterable[Received]) -> set[int]:
        """Ids of schemas that the records name and the catalogue lacks: worth a short wait, since the schema topic may be behind."""
        unknown: set[int] = set()
        for record in records:
            try:
                self._knowledge.catalogue.by_id(wire.schema_id_of(record.value or b""))
            except UnknownSchema as error:
                unknown.add(error.schema_id)
            except MalformedRecord:
                pass
        return unknown

    def sort(self, records: Iterable[Received]) -> list[Batch]:
        """The frames in the records by writer. What is no frame is logged by its place and left out; the sinks set the same record aside as a dead letter."""
        batches: dict[tuple[int, int], Batch] = {}
        for record in records:
            try:
                frame = self._frame(record)
            except (MalformedRecord, UnknownSchema) as error:
                place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
                logger.warning("record skipped", extra={**place, "reason": str(error)})
                continue
            place = (record.partition, frame.writer)
            batch = batches.get(place)
            if batch is None:
                batch = batches[place] = Batch(record.partition, frame.writer, [])
            batch.frames.append(frame)
        return list(batches.values())

    def must_wait(self, batch: Batch, read: Callable[[bytes], bytes | None], waited_ms: int) -> bool:
        """Whether the batch is held for rules that its writer registered and that have not come yet."""
        seen = batch.rules_seen
        known = self._knowledge.book.ordinal_of(batch.writer)
        if seen <= known:
            return False
        state = self._state(batch.writer, read)
        return must_wait(seen, known, state.rules_seen if state else 0, waited_ms, self._rules_wait_ms)

    def decide(self, batch: Batch, read: Callable[[bytes], bytes | None], now_ms: int) -> Decision:
        """What the batch comes to, given the table that `read` reads. Nothing is remembered until `stored`."""
        book = self._knowledge.book
        outcome = decide(self._state(batch.writer, read), batch.frames, book, now_ms, self._policy)
        for rule, reason in outcome.failed.items():
            failed = book.switch_off(rule, reason)
            if failed is not None:
                logger.warning("rule switched off", extra={"rule_id": failed.rule_id, "reason": str(failed)})
        for gap in outcome.gaps:
            logger.warning("gap", extra={"writer": batch.writer, "from_seq": gap.from_seq, "to_seq": gap.to_seq})
        if outcome.frames_refused:
            logger.warning("frames of another run refused", extra={"writer": batch.writer, "frames": outcome.frames_refused})
        if outcome.series_refused:
            logger.warning("series past the bound refused", extra={"writer": batch.writer, "series": outcome.series_refused})
        key = writer_key(batch.writer)
        outputs = [Output(self._alerts, alert.alert_id.encode(), wire.encode(alert)) for alert in outcome.alerts]
        outputs += [
            Output(self._summaries, key + _BLOCK.pack(frame.block), wire.encode(frame))
            for frame in (summary_frame(outcome.state, number) for number in outcome.touched)
        ]
        entries = dump(outcome.state, outcome.changed) if outcome.changed else []
        return Decision(batch, outcome.state, outputs, [Entry(batch.partition, entry_key(batch.writer, number), value) for number, value in entries])

    def stored(self, decisions: Sequence[Decision]) -> None:
        """Remembers the states of decisions whose entries are in the table."""
        for decision in decisions:
            if decision.entries:
                self._states.pop(decision.batch.writer, None)
                if len(self._states) >= _STATES_MAX:
                    del self._states[next(iter(self._states))]
                self._states[decision.batch.writer] = (decision.entries[-1].value, decision.state)

    def forget(self) -> None:
        """Forgets every remembered state, as when partitions came or went."""
        self._states.clear()

    def _frame(self, record: Received) -> MetricFrame:
        if record.value is None:
            raise MalformedRecord("expected a MetricFrame, got a record without a value")
        frame = wire.decode(record.value, self._knowledge.catalogue)
        if not isinstance(frame, MetricFrame):
            raise MalformedRecord(f"expected a MetricFrame, got {type(frame).__name__}")
        if record.key != writer_key(frame.writer):
            # A writer's frames must all come to one worker; under another key they would not.
            raise MalformedRecord("a frame's key must be its writer's 8 bytes, got another")
        return frame

    def _state(self, writer: int, read: Callable[[bytes], bytes | None]) -> WriterState | None:
        first = read(entry_key(writer, 0))
        known = self._states.get(writer)
        if known is not None and known[0] is first:
            return known[1]
        state = load(writer, lambda number: read(entry_key(writer, number)))
        if state is not None and first is not None:
            self._states[writer] = (first, state)
        return state


def entry_key(writer: int, number: int) -> bytes:
    """The table's key of one entry of a writer's state."""
    return writer_key(writer) + (_BLOCK.pack(number) if number else b"")
