"""Metrics and hardware: decodes frames, sorts them by writer, asks the core, and shapes what must be sent and stored.

One engine serves one source topic. It works on states in memory, which are ahead of the table from one checkpoint to the next; they are unpacked from the table only after
a start or a rebalance, and a state that is not ahead counts only while the table holds the very bytes it was dumped to. A writer that has ended, and all of whose rows are
in, leaves its mark and nothing else.
"""

from __future__ import annotations

import logging
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runstream_processors.engine import Checkpoint, Entry, Output, Received, decoded, short, unknown_schemas
from runstream_rules import Policy, WriterState, decide, dump, is_over, let_go, load, must_wait, pulse, summary_frame
from runstream_rules.digests import Digester
from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame, Record
from runstream_schemas.topics import TOPICS, writer_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from runstream_processors.engine import Read
    from runstream_processors.knowledge import Knowledge
    from runstream_rules import Outcome
    from runstream_schemas.records import Alert

logger = logging.getLogger(__name__)

_BLOCK = struct.Struct(">I")
_KEY_BYTES = len(writer_key(0))
# An entry and its summary take some five milliseconds for a thousand series; a part must not keep heartbeats and alerts waiting.
_PART_ENTRIES = 32
_STATES_MAX = 20_000  # Remembered states; past it the oldest is forgotten and costs one unpacking when its writer comes again.


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


@dataclass(slots=True)
class _Kept:
    """A writer's state in memory: what of it is not in the table yet, and the first of the bytes that are."""

    state: WriterState
    partition: int
    stored: bytes | None
    changed: set[int] = field(default_factory=set[int])
    touched: set[int] = field(default_factory=set[int])
    gone: tuple[int, ...] = ()


class SeriesEngine:
    """Decisions for one topic of frames."""

    def __init__(self, knowledge: Knowledge, policy: Policy, prefix: str, rules_wait_ms: int) -> None:
        """Takes what everybody knows, the core's bounds, the prefix of topics, and for how long a frame waits for its writer's rules."""
        self._knowledge = knowledge
        self._policy = policy
        self._alerts = TOPICS["alert"].full_name(prefix)
        self._summaries = TOPICS["summary"].full_name(prefix)
        self._digests = TOPICS["digest"].full_name(prefix)
        self._rules_wait_ms = rules_wait_ms
        self._kept: dict[int, _Kept] = {}
        self._dirty: dict[int, _Kept] = {}
        self._digesters: dict[str, Digester] = {}
        self._beats: dict[int, tuple[int, int, int]] = {}
        self._over: dict[int, tuple[int, int]] = {}
        self._leaving: set[int] = set()
        self._dropped: dict[int, int] = {}
        self.counts: Counter[str] = Counter()

    def unknown_schemas(self, records: Iterable[Received]) -> set[int]:
        """Ids of schemas that the records name and the catalogue lacks."""
        return unknown_schemas(records, self._knowledge.catalogue)

    def sort(self, records: Iterable[Received]) -> list[Batch]:
        """The frames in the records by writer."""
        batches: dict[tuple[int, int], Batch] = {}
        for partition, frame in self._frames(list(records)):
            batch = batches.get((partition, frame.writer))
            if batch is None:
                batch = batches[partition, frame.writer] = Batch(partition, frame.writer, [])
            batch.frames.append(frame)
        return list(batches.values())

    def _frames(self, records: Sequence[Received]) -> Iterator[tuple[int, MetricFrame]]:
        """The frames in the records with their partitions, in their order: small ones that are alike are read together, which takes a tenth of the time."""
        together, rest = wire.decode_frames([record.value or b"" for record in records])
        found: list[tuple[int, MetricFrame] | None] = [None] * len(records)
        for one in together:
            for at, place in enumerate(one.places):
                if records[place].key == writer_key(one.heads[at][1]):
                    found[place] = (records[place].partition, one.frame(at))
                else:
                    rest.append(place)
        for place in rest:
            for frame in decoded([records[place]], self._knowledge.catalogue, _frame):
                found[place] = frame
        return (one for one in found if one is not None)

    def held(self, work: Batch, read: Read, waited_ms: int) -> bool:
        """Whether the batch is held for rules that its writer registered and that have not come yet."""
        seen = work.rules_seen
        known = self._knowledge.book.ordinal_of(work.writer)
        if seen <= known:
            return False
        kept = self._find(work.writer, work.partition, read)
        return must_wait(seen, known, kept.state.rules_seen if kept else 0, waited_ms, self._rules_wait_ms)

    def decide(self, work: Batch, read: Read, now_ms: int) -> list[Output]:
        """Takes the batch into its writer's state; gives the alerts."""
        kept = self._find(work.writer, work.partition, read)
        outcome = decide(kept.state if kept else None, work.frames, self._knowledge.book, now_ms, self._policy)
        self._count(work, outcome)
        if outcome.failed:
            self._knowledge.switch_off(outcome.failed, now_ms)
        if kept is None:
            kept = self._kept[work.writer] = _Kept(outcome.state, work.partition, None)
        kept.state = outcome.state
        kept.partition = work.partition
        self._changed(work.writer, kept, outcome.changed, outcome.touched)
        if outcome.items:
            head = outcome.state.head
            self._digester(head.run_id, head.project).say(work.writer, head, outcome.items)
        if work.writer in self._over:
            self._leaving.add(work.writer)
        return self._sent(outcome.alerts)

    def concluded(self) -> list[Output]:
        """Digests of what was decided, and letters of rules that broke."""
        out = self._knowledge.letters()
        for run_id, digester in self._digesters.items():
            out += [Output(self._digests, run_id.encode(), wire.encode(digest)) for digest in digester.take()]
        self._digesters.clear()
        return out

    def beat(self, writer: int, partition: int, heartbeat_ms: int, next_seq: int) -> None:
        """Hears a writer's sign of life, which says how far it had logged; it is judged at a tick, once all of that is in."""
        if self._knowledge.book.has_kind("stale"):
            self._beats[writer] = (partition, heartbeat_ms, next_seq)

    def over(self, writer: int, partition: int, next_seq: int) -> None:
        """Hears that a writer has ended: once all of its rows are in, its series are let go."""
        self._over[writer] = (partition, next_seq)
        self._leaving.add(writer)

    def drop(self, writer: int, partition: int) -> None:
        """Hears that none of a writer's rows can come again: there need be no trace of it."""
        self._over.pop(writer, None)
        self._dropped[writer] = partition

    def tick(self, read: Read, now_ms: int, *, hears: bool) -> list[Output]:  # noqa: ARG002  # silence is judged by heartbeats here, and not by what was read
        """Judges heartbeats that speak of rows which are all in, and lets ended writers go."""
        alerts: list[Alert] = []
        for writer, (partition, heartbeat_ms, next_seq) in list(self._beats.items()):
            kept = self._find(writer, partition, read)
            if kept is None or kept.state.head.mark >= next_seq:
                del self._beats[writer]
                alerts += self._pulsed(writer, kept, heartbeat_ms, next_seq, now_ms) if kept else []
        for writer, partition in self._dropped.items():
            kept = self._find(writer, partition, read)
            if kept is not None:
                kept.changed, kept.gone = set(), tuple(range(len(kept.state.blocks)))
                self._changed(writer, kept, (), ())
        self._dropped.clear()
        for writer in list(self._leaving):
            self._leaving.discard(writer)
            alerts += self._leave(writer, read, now_ms)
        return [*self._sent(alerts), *self._knowledge.letters()]

    def checkpoints(self, now_ms: int) -> Iterator[Checkpoint]:  # noqa: ARG002  # the protocol's signature
        """Summaries and states of writers that changed, some blocks at a time."""
        outputs: list[Output] = []
        entries: list[Entry] = []
        for writer in list(self._dirty):
            kept = self._dirty.get(writer)
            if kept is None:  # Forgotten meanwhile.
                continue
            key = writer_key(writer)
            if not kept.state.head.over and not kept.gone:
                frames = (summary_frame(kept.state, number) for number in sorted(kept.touched))
                outputs += [Output(self._summaries, key + _BLOCK.pack(frame.block), wire.encode(frame)) for frame in frames]
            entries += [Entry(kept.partition, entry_key(writer, number), None) for number in kept.gone]
            if kept.changed:
                entries += [Entry(kept.partition, entry_key(writer, number), value) for number, value in dump(kept.state, kept.changed)]
            if len(entries) >= _PART_ENTRIES:
                yield Checkpoint(outputs, entries)
                outputs, entries = [], []
        if entries:
            yield Checkpoint(outputs, entries)

    def settled(self, checkpoint: Checkpoint) -> None:
        """The states in it are in the table."""
        stored = {entry.key: entry.value for entry in checkpoint.entries}
        for key in {key[:_KEY_BYTES] for key in stored}:
            kept = self._dirty.pop(int.from_bytes(key, "big"), None)
            if kept is None:
                continue
            kept.stored = stored.get(key, kept.stored)
            kept.changed, kept.touched, kept.gone = set(), set(), ()
            if kept.stored is None:
                self._kept.pop(kept.state.writer, None)
        while len(self._kept) > _STATES_MAX:
            del self._kept[next(iter(self._kept))]

    def forget(self) -> None:
        """Forgets every state, heartbeat and end."""
        for one in (self._kept, self._dirty, self._digesters, self._beats, self._over, self._leaving, self._dropped):
            one.clear()

    def recovered(self, entries: Iterable[Entry]) -> None:
        """States are unpacked when their writers come."""

    def _find(self, writer: int, partition: int, read: Read) -> _Kept | None:
        first = read(entry_key(writer, 0))
        kept = self._kept.get(writer)
        if kept is not None and (writer in self._dirty or kept.stored is first):
            return kept
        state = load(writer, lambda number: read(entry_key(writer, number)))
        if state is None:
            return None
        kept = self._kept[writer] = _Kept(state, partition, first)
        return kept

    def _changed(self, writer: int, kept: _Kept, changed: Sequence[int], touched: Sequence[int]) -> None:
        kept.changed.update(changed)
        kept.touched.update(touched)
        if kept.changed or kept.gone:
            self._dirty[writer] = kept
            # What came last is forgotten last.
            self._kept.pop(writer, None)
            self._kept[writer] = kept

    def _pulsed(self, writer: int, kept: _Kept, heartbeat_ms: int, next_seq: int, now_ms: int, *, alive: bool = True) -> list[Alert]:
        kept.state, alerts, changed = pulse(kept.state, heartbeat_ms, next_seq, self._knowledge.book, now_ms, self._policy, alive=alive)
        self._changed(writer, kept, changed, ())
        return alerts

    def _leave(self, writer: int, read: Read, now_ms: int) -> list[Alert]:
        """Lets a writer go that has ended, if all of its rows are in."""
        partition, next_seq = self._over[writer]
        first = read(entry_key(writer, 0))
        if writer not in self._dirty and first is not None and is_over(first):
            self._over.pop(writer)
            return []
        kept = self._find(writer, partition, read)
        if kept is None or kept.state.head.mark < next_seq:
            return []
        self._over.pop(writer)
        alerts = self._pulsed(writer, kept, now_ms, next_seq, now_ms, alive=False)
        if kept.touched:
            # Its last summaries are still to be sent: it goes after that.
            self._over[writer] = (partition, next_seq)
            self._leaving.add(writer)
            return alerts
        kept.gone = tuple(range(1, len(kept.state.blocks)))
        kept.state = let_go(kept.state)
        self._changed(writer, kept, (0,), ())
        return alerts

    def _digester(self, run_id: str, project: str) -> Digester:
        found = self._digesters.get(run_id)
        if found is None:
            found = self._digesters[run_id] = Digester(run_id, project)
        return found

    def _sent(self, alerts: Iterable[Alert]) -> list[Output]:
        return [Output(self._alerts, alert.alert_id.encode(), wire.encode(alert)) for alert in self._knowledge.marked(alerts)]

    def _count(self, work: Batch, outcome: Outcome) -> None:
        self.counts["points"] += sum(frame.points for frame in work.frames)
        self.counts["alerts"] += len(outcome.alerts)
        self.counts["alerts_late"] += sum(one.late for one in outcome.alerts)
        self.counts["rows_repeated"] += outcome.rows_repeated
        self.counts["gaps"] += len(outcome.gaps)
        self.counts["frames_refused"] += outcome.frames_refused
        self.counts["series_refused"] += outcome.series_refused
        self.counts["rules_evaluated"] += outcome.rules_evaluated
        for gap in outcome.gaps:
            logger.warning("gap", extra={"writer": work.writer, "from_seq": gap.from_seq, "to_seq": gap.to_seq})
        if outcome.frames_refused:
            logger.warning("frames of another run refused", extra={"writer": work.writer, "frames": outcome.frames_refused})
        if outcome.series_refused:
            logger.warning("series past the bound refused", extra={"writer": work.writer, "series": outcome.series_refused})
        for (rule_id, _), series in outcome.unfollowed.items():
            logger.warning("series past a rule's room not followed", extra={"writer": work.writer, "rule_id": rule_id, "series": series})


def entry_key(writer: int, number: int) -> bytes:
    """The table's key of one entry of a writer's state."""
    return writer_key(writer) + (_BLOCK.pack(number) if number else b"")


def _frame(received: Received, record: Record) -> tuple[int, MetricFrame]:
    if not isinstance(record, MetricFrame):
        raise MalformedRecord(f"expected a MetricFrame, got {type(record).__name__}")
    if received.key != writer_key(record.writer):
        # A writer's frames must all come to one worker; under another key they would not.
        raise MalformedRecord("a frame's key must be its writer's 8 bytes, got another")
    short(record.run_id, record.project, record.attempt)
    return received.partition, record
