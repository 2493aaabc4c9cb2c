"""Rows of a journal to records for Kafka: the pure middle of the shipper.

`Cutter` takes rows in order and cuts them: one `MetricFrame` that accounts for every seq from where the last cut ended, and the records of other kinds among them.
No Kafka, no files and no clock in here.
"""

from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from runstream_producers.journal import format as fmt
from runstream_schemas import records as rec
from runstream_schemas.topics import Name, writer_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runstream_producers.journal.reader import Row


_WHOLE_END = 1 << 53  # Frames carry seqs and times as doubles.
_TIME_S_END = _WHOLE_END / 1000.0


@dataclass(frozen=True, slots=True)
class Keyed:
    """A record with its topic and key."""

    topic: Name
    key: bytes
    record: rec.Record


@dataclass(frozen=True, slots=True)
class Cut:
    """What one cut ships, and what holds once all of it is acknowledged. `rows` counts metric rows and other records, `unreadable` those that this version cannot make
    a record of, with their payloads.
    """

    frame: Keyed
    others: tuple[Keyed, ...]
    next_seq: int
    rows: int
    points: int
    rules: int
    unreadable: tuple[tuple[str, bytes], ...] = ()


@dataclass(slots=True)
class _Group:
    context: str
    subject: str
    keys: tuple[str, ...]
    seqs: list[int] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    values: list[bytes] = field(default_factory=list)

    def freeze(self) -> rec.MetricGroup:
        return rec.MetricGroup(
            self.context,
            self.subject,
            self.keys,
            np.array(self.seqs, dtype=np.int64),
            np.array(self.steps, dtype=np.int64),
            np.rint(np.array(self.times_s) * 1000.0).astype(np.int64),
            np.frombuffer(b"".join(self.values), dtype="<f8").reshape(len(self.seqs), len(self.keys)),
        )


class Cutter:
    """Cuts one writer's rows. `points_seen` is the writer's own count as of the newest row, `dropped` what it said it dropped, by reason."""

    def __init__(self, identity: fmt.Identity, *, next_seq: int, rules: int) -> None:
        self._identity = identity
        self._topic: Name = "hardware" if identity.kind == "hardware" else "metric"
        self._next_seq = next_seq
        self._rules = rules
        self._key_sets: dict[int, fmt.KeySet] = {}
        self.points_seen = 0
        self.dropped: dict[str, int] = {}

    @property
    def next_seq(self) -> int:
        """The first seq that the next cut will account for."""
        return self._next_seq

    def define(self, row: Row) -> None:
        """Takes a key set or the drop counts, which may stand before the place where reading began. What cannot be read defines nothing: rows under it are set aside."""
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if row.kind == fmt.Kind.DROP:
                self.dropped = fmt.drops_of(row.payload)
            else:
                one = fmt.key_set_of(row.payload)
                self._key_sets[one.number] = one

    def cut(self, rows: Iterable[Row], until_seq: int | None = None) -> Cut | None:
        """One cut of the rows; None where there is nothing to account for. `until_seq` extends the account over rows that were dropped at a writer's end."""
        first, rules_before = self._next_seq, self._rules
        groups: dict[int, _Group] = {}
        others: list[Keyed] = []
        unreadable: list[tuple[str, bytes]] = []
        count = points = 0
        for row in rows:
            self.points_seen = row.points
            if row.kind in (fmt.Kind.KEY_SET, fmt.Kind.DROP):
                self.define(row)
                continue
            count += 1
            if not self._next_seq <= row.seq < _WHOLE_END:
                # A frame with such a row would be malformed, and the others in it lost to readers.
                unreadable.append((f"a row has seq {row.seq} where one from {self._next_seq} on was due", row.payload))
                continue
            self._next_seq = row.seq + 1
            if row.kind != fmt.Kind.METRICS:
                try:
                    others.append(self._other(row))
                except (TypeError, ValueError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
                    unreadable.append((f"a row of kind {row.kind} is unknown to this version of the agent ({error})", row.payload))
                continue
            group = groups.get(row.key_set)
            if group is None:
                if row.key_set not in self._key_sets:
                    unreadable.append((f"key set {row.key_set} was lost from the journal", row.payload))
                    continue
                group = groups[row.key_set] = _Group(*self._key_sets[row.key_set][1:])
            if len(row.payload) != 8 * len(group.keys) or not abs(row.time_s) < _TIME_S_END:
                unreadable.append((f"a row of {len(group.keys)} names has {len(row.payload)} bytes of values, at {row.time_s} s", row.payload))
                continue
            group.seqs.append(row.seq)
            group.steps.append(row.step)
            group.times_s.append(row.time_s)
            group.values.append(row.payload)
            points += len(group.keys)
        if until_seq is not None:
            self._next_seq = max(self._next_seq, until_seq)
        if self._next_seq == first and not unreadable:
            return None
        one = self._identity
        frozen = tuple(group.freeze() for group in groups.values() if group.seqs)
        frame = rec.MetricFrame(
            one.run_id, one.writer, one.started_ms, one.attempt, one.rank, one.node, one.project, first, self._next_seq, self._rules, frozen
        )
        keyed = Keyed(self._topic, writer_key(one.writer), frame)
        return Cut(keyed, tuple(others), self._next_seq, count, points, self._rules - rules_before, tuple(unreadable))

    def _other(self, row: Row) -> Keyed:
        one = self._identity
        payload: dict[str, Any] = json.loads(row.payload)
        key = one.run_id.encode()
        if row.kind == fmt.Kind.RUN:
            return Keyed("run", key, rec.Run(run_id=one.run_id, writer=one.writer, seq=row.seq, project=one.project, **payload))
        if row.kind == fmt.Kind.EVENT:
            event = rec.Event(run_id=one.run_id, writer=one.writer, seq=row.seq, rank=one.rank, **payload)
            return Keyed("event", event.subject.encode() or key, event)
        if row.kind == fmt.Kind.PARAM:
            return Keyed("param", key, rec.Param(run_id=one.run_id, writer=one.writer, seq=row.seq, rank=one.rank, **payload))
        if row.kind == fmt.Kind.VALUE:
            data: str | None = payload.pop("data", None)
            blob = None if data is None else base64.b64decode(data)
            return Keyed("value", key, rec.Value(run_id=one.run_id, writer=one.writer, seq=row.seq, rank=one.rank, data=blob, **payload))
        if row.kind == fmt.Kind.MEDIA:
            image: str | None = payload.pop("data", None)
            content = None if image is None else base64.b64decode(image)
            return Keyed("media", key, rec.Media(run_id=one.run_id, writer=one.writer, seq=row.seq, rank=one.rank, data=content, **payload))
        if row.kind == fmt.Kind.ARTIFACT:
            return Keyed("artifact", key, rec.Artifact(run_id=one.run_id, writer=one.writer, seq=row.seq, rank=one.rank, project=one.project, **payload))
        if row.kind == fmt.Kind.ALERT:
            alert = rec.Alert(run_id=one.run_id, writer=one.writer, seq=row.seq, rank=one.rank, project=one.project, **payload)
            return Keyed("alert", alert.alert_id.encode(), alert)
        if row.kind == fmt.Kind.RULE:
            rule = rec.Rule(writer=one.writer, ordinal=self._rules + 1, seq=row.seq, **payload)
            self._rules += 1
            # Each writer's registration keeps a place of its own on the compacted topic: it says which of that writer's rules are known.
            return Keyed("rule", f"{rule.rule_id}/{one.writer}".encode(), rule)
        raise ValueError("no such kind: upgrade the agent")
