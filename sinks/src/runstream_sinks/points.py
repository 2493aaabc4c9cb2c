"""Metric frames to columns: one Arrow row for each value of each row of each group.

Adding a frame only notes its arrays and a few numbers for each group; the columns are made for a whole chunk at once, by repeating what belongs to a group or
to a row as often as it has values. No Python runs for a point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import MetricFrame
from runstream_sinks import arrow, bounds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_schemas.records import Record

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]

# What one point takes in the columns: 16 + 3 * 4 + 4 + 8 + 8 + 8 + 4 + 4 + 8 + 8, and its value once more in the record's own bytes.
POINT_BYTES = 88


class Words:
    """A vocabulary that grows: texts to codes in order of first use."""

    def __init__(self) -> None:
        self.codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The text's code, a new one for a new text."""
        return self.codes.setdefault(text, len(self.codes))

    def column(self, codes: NDArray[np.int32]) -> arrow.Column:
        """A dictionary column over this vocabulary."""
        return arrow.words(codes, list(self.codes))


class PointRows:
    """The points of the frames of one chunk."""

    def __init__(self) -> None:
        self.rows = 0
        self._names = Words()
        self._contexts = Words()
        self._subjects = Words()
        self._attempts = Words()
        self._name_codes: dict[tuple[str, ...], NDArray[np.int32]] = {}
        self._run_ids: list[bytes] = []
        self._heads: list[tuple[int, int, int, int, int, int, int, int]] = []  # writer, rank, started, attempt, context, subject, K, R of each group
        self._keys: list[NDArray[np.int32]] = []
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
        run_id = bounds.uuid_bytes("run_id", record.run_id)
        writer, rank = bounds.count("writer", record.writer), bounds.count32("rank", record.rank)
        for group in groups:
            if group.seqs.min() < 0:
                raise MalformedRecord("seqs must not be negative")
        started, attempt = bounds.started_s(record.started), self._attempts.code(record.attempt)
        for group in groups:
            keys = self._name_codes.get(group.keys)
            if keys is None:
                keys = self._name_codes[group.keys] = np.array([self._names.code(name) for name in group.keys], dtype=np.int32)
            rows, width = group.values.shape
            self._run_ids.append(run_id)
            self._heads.append((writer, rank, started, attempt, self._contexts.code(group.context), self._subjects.code(group.subject), width, rows))
            self._keys.append(keys if rows == 1 else np.tile(keys, rows))
            self._seqs.append(group.seqs)
            self._steps.append(group.steps)
            self._times.append(group.times)
            self._values.append(group.values.ravel())
            self.rows += rows * width

    def table(self) -> arrow.Table:
        """The points as an Arrow table with the columns of `metric_points`."""
        heads = np.array(self._heads, dtype=np.int64).reshape(-1, 8)
        width, rows = heads[:, 6], heads[:, 7]
        points = width * rows
        row_points = np.repeat(width, rows)

        def words(vocabulary: Words, codes: Longs) -> arrow.Column:
            return vocabulary.column(np.repeat(codes.astype(np.int32), points))

        run_ids = np.frombuffer(b"".join(self._run_ids), dtype=np.uint64).reshape(-1, 2)
        times = np.clip(_joined(self._times), bounds.TIME_MS_MIN, bounds.TIME_MS_MAX)
        return arrow.table(
            {
                "run_id": arrow.uuids(np.repeat(run_ids, points, axis=0)),
                "subject": words(self._subjects, heads[:, 5]),
                "name": self._names.column(_joined_codes(self._keys)),
                "context": words(self._contexts, heads[:, 4]),
                "rank": arrow.numbers("u32", np.repeat(heads[:, 1].astype(np.uint32), points)),
                "step": arrow.numbers("i64", np.repeat(_joined(self._steps), row_points)),
                "time": arrow.numbers("ms", np.repeat(times, row_points)),
                "writer": arrow.numbers("u64", np.repeat(heads[:, 0], points)),
                "attempt": words(self._attempts, heads[:, 3]),
                "started": arrow.numbers("s", np.repeat(heads[:, 2].astype(np.uint32), points)),
                "seq": arrow.numbers("u64", np.repeat(_joined(self._seqs), row_points)),
                "value": arrow.numbers("f64", np.concatenate(self._values) if self._values else np.empty(0)),
            }
        )


def _joined(parts: list[Longs]) -> Longs:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)


def _joined_codes(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=np.int32)
