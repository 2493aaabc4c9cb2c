"""Metric frames to columns: one Arrow row for each value of each row of each group.

Adding frames only notes their arrays and a few numbers for each group; the columns are made for a whole chunk at once, on the thread that inserts it. No Python runs
for a point. Points come out in the order of the table's sort key wherever that costs nothing: by run and name, then by what belongs to the group, then as they were
logged. ClickHouse sorts what is nearly sorted, or sorted already, in a fraction of the time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame
from runstream_sinks import arrow, bounds
from runstream_sinks.spread import Spread, joined, starts, within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from runstream_schemas.frame import Head
    from runstream_schemas.frame_batch import Batch
    from runstream_schemas.records import Record

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]
    Places = NDArray[np.intp]

# What one point takes in the columns: 16 + 3 * 4 + 4 + 8 + 8 + 8 + 4 + 4 + 8 + 8, and its value once more in the record's own bytes.
POINT_BYTES = 88
_HEADS_MAX = 1 << 14


class Words:
    """A vocabulary that grows: texts to codes in order of first use."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The text's code, a new one for a new text."""
        return self.codes.setdefault(text, len(self.codes))

    def ranks(self) -> Longs:
        """For each code the place of its text in sorted order."""
        out = np.empty(len(self.codes), np.int64)
        out[[self.codes[text] for text in sorted(self.codes)]] = np.arange(len(self.codes))
        return out

    def column(self, codes: NDArray[np.int64]) -> arrow.Column:
        """A dictionary column over this vocabulary."""
        return arrow.words(codes, list(self.codes))


class _Group(NamedTuple):
    """What belongs to all rows of one group, as numbers: its kind, and codes of texts."""

    kind: int
    writer: int
    rank: int
    started: int
    attempt: int
    context: int
    subject: int
    rows: int


class _Kind(NamedTuple):
    """What the values of a group are: a run, and the names of its columns."""

    run_id: bytes
    keys: tuple[str, ...]


@lru_cache(maxsize=_HEADS_MAX)
def _head_values(run_id: str, writer: int, started: int, rank: int) -> tuple[bytes, int, int, int]:
    """Run, writer, rank and start of a frame as they stand in the columns; raises MalformedRecord where one does not fit."""
    return bounds.uuid_bytes("run_id", run_id), bounds.count("writer", writer), bounds.count32("rank", rank), bounds.started_s(started)


def fits(head: Head) -> bool:
    """Whether frames with this head have a place in the columns."""
    try:
        _head_values(head[0], head[1], head[2], head[4])
    except MalformedRecord:
        return False
    return True


class PointRows:
    """The points of the frames of one chunk."""

    def __init__(self) -> None:
        self.rows = 0
        self._names = Words()
        self._contexts = Words()
        self._subjects = Words()
        self._attempts = Words()
        self._kinds: dict[_Kind, int] = {}
        # Groups in the order they came: numbers of each (those of single frames as tuples until more come), then their rows' columns.
        self._groups: list[Longs] = []
        self._loose: list[_Group] = []
        self._seqs: list[Longs] = []
        self._steps: list[Longs] = []
        self._times: list[Longs] = []
        self._values: list[Doubles] = []

    @property
    def nbytes(self) -> int:
        """About the memory that the rows take."""
        return self.rows * POINT_BYTES

    def add(self, record: Record) -> None:
        """Takes a frame whole, or nothing of it; raises MalformedRecord."""
        if not isinstance(record, MetricFrame):
            raise MalformedRecord(f"expected a MetricFrame on this topic, got {type(record).__name__}")
        groups = [group for group in record.groups if group.values.size]
        run_id, writer, rank, started = _head_values(record.run_id, record.writer, record.started, record.rank)
        for group in groups:
            if group.seqs.min() < 0:
                raise MalformedRecord("seqs must not be negative")
        attempt = self._attempts.code(record.attempt)
        for group in groups:
            kind = self._kinds.setdefault(_Kind(run_id, group.keys), len(self._kinds))
            rows = len(group.seqs)
            self._loose.append(_Group(kind, writer, rank, started, attempt, self._contexts.code(group.context), self._subjects.code(group.subject), rows))
            self._take(group.seqs, group.steps, group.times, group.values)

    def add_batch(self, batch: Batch, chosen: Sequence[int]) -> None:
        """Takes the chosen frames of a batch, whose heads must be such that `fits` is true."""
        heads = [(*_head_values(head[0], head[1], head[2], head[4]), self._attempts.code(head[3])) for head in (batch.heads[at] for at in chosen)]
        some = slice(None) if len(chosen) == len(batch.places) else list(chosen)
        for group in batch.groups:
            kinds = {run_id: self._kinds.setdefault(_Kind(run_id, group.keys), len(self._kinds)) for run_id in {head[0] for head in heads}}
            context, subject, rows = self._contexts.code(group.context), self._subjects.code(group.subject), group.seqs.shape[1]
            self._settle()
            numbers = [(kinds[head[0]], *head[1:], context, subject, rows) for head in heads]
            self._groups.append(np.array(numbers, np.int64).reshape(-1, len(_Group._fields)))
            self._take(group.seqs[some], group.steps[some], group.times[some], group.values[some])

    def _take(self, seqs: Longs, steps: Longs, times: Longs, values: Doubles) -> None:
        self._seqs.append(seqs.ravel())
        self._steps.append(steps.ravel())
        self._times.append(times.ravel())
        self._values.append(values.ravel())
        self.rows += values.size

    def _settle(self) -> None:
        """Turns the numbers of single frames into a matrix."""
        if self._loose:
            self._groups.append(np.array(self._loose, np.int64))
            self._loose = []

    def table(self) -> arrow.Table:
        """The points as an Arrow table with the columns of `metric_points`."""
        self._settle()
        groups = np.concatenate(self._groups) if self._groups else np.empty((0, len(_Group._fields)), np.int64)
        steps, counts = joined(self._steps, np.int64), groups[:, 7]
        order = self._order(groups, steps)
        widths = np.array([len(kind.keys) for kind in self._kinds], np.int64)[groups[:, 0]]
        # For each row, in the order of groups: where it stands among the rows as they came, and where its first value does.
        rows = np.repeat(starts(counts)[order], counts[order]) + within(counts[order])
        values = (np.repeat(starts(counts * widths), counts) + within(counts) * np.repeat(widths, counts))[rows]
        kind, writer, rank, started, attempt, context, subject, _ = (np.repeat(one, counts[order]) for one in groups[order].T)
        spread = Spread([kind.keys for kind in self._kinds], kind)
        run_ids = np.frombuffer(b"".join(one.run_id for one in self._kinds), np.uint64).reshape(-1, 2)
        times = np.clip(joined(self._times, np.int64), bounds.TIME_MS_MIN, bounds.TIME_MS_MAX)
        return arrow.table(
            {
                "run_id": arrow.uuids(spread.points(run_ids[kind])),
                "subject": self._subjects.column(spread.points(subject)),
                "name": self._names.column(spread.names(self._names.code)),
                "context": self._contexts.column(spread.points(context)),
                "rank": arrow.numbers("u32", spread.points(rank.astype(np.uint32))),
                "step": arrow.numbers("i64", spread.points(steps[rows])),
                "time": arrow.numbers("ms", spread.points(times[rows])),
                "writer": arrow.numbers("u64", spread.points(writer)),
                "attempt": self._attempts.column(spread.points(attempt)),
                "started": arrow.numbers("s", spread.points(started.astype(np.uint32))),
                "seq": arrow.numbers("u64", spread.points(joined(self._seqs, np.int64)[rows])),
                "value": arrow.numbers("f64", joined(self._values, np.float64).take(spread.points(values) + spread.columns())),
            }
        )

    def _order(self, groups: Longs, steps: Longs) -> Places:
        """The order of groups: by run and names, context, rank, first step and writer."""
        kinds = list(self._kinds)
        ranks = np.empty(len(kinds), np.int64)
        ranks[sorted(range(len(kinds)), key=lambda at: _sort_key(kinds[at]))] = np.arange(len(kinds))
        kind, writer, rank, _, _, context, _, rows = groups.T
        return np.lexsort((writer, steps[starts(rows)], rank, self._contexts.ranks()[context], ranks[kind]))


def _sort_key(kind: _Kind) -> tuple[bytes, bytes, tuple[str, ...]]:
    """ClickHouse compares UUIDs by their second half first."""
    return kind.run_id[8:], kind.run_id[:8], tuple(sorted(kind.keys))
