"""A stored run as the core takes it: its processes, and the rows of each as frames in the order in which they were logged. Reads ClickHouse and writes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from runstream_schemas.clickhouse import literal, open_answer
from runstream_schemas.records import MetricFrame, MetricGroup, Writer
from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

View = Literal["metrics", "hardware"]
VIEWS: tuple[View, ...] = ("metrics", "hardware")
_POINTS_MAX = 2_000_000  # Of one frame: some 50 MB while it is read.
_RUNS_SHOWN = 5
_PREFIX_MIN = 4
_RUNS = """
SELECT toString(run_id) AS run_id, project, name FROM runs
WHERE toString(run_id) LIKE concat({prefix:String}, '%') OR concat(project, '/', name) = {named:String}
ORDER BY concat(project, '/', name) = {named:String} DESC, started DESC LIMIT 20
"""
_WRITERS = """
SELECT writer, version, kind, rank, local_rank, world_size, node, host, pid, attempt, toUnixTimestamp64Milli(started) AS started_ms, state, exit_reason,
    toUnixTimestamp64Milli(heartbeat) AS heartbeat_ms, next_seq, rows_logged, points_logged
FROM writers WHERE run_id = {run:UUID} ORDER BY started, writer
"""
_NAMES = "SELECT DISTINCT name FROM VIEW WHERE run_id = {run:UUID} ORDER BY name"
_EXTENTS = """
SELECT writer, any(rank), any(attempt), toUnixTimestamp(any(started)) * 1000, min(seq), max(seq), count() FROM VIEW
WHERE run_id = {run:UUID} AND name IN (NAMES) GROUP BY writer ORDER BY any(rank), any(started), writer
"""
# Points of one log call come together, then the calls of one list of names.
_ROWS = """
SELECT context, subject, names, groupArray(seq), groupArray(step), groupArray(ms), arrayFlatten(groupArray(values))
FROM
(
    SELECT context, subject, seq, any(step) AS step, any(toUnixTimestamp64Milli(time)) AS ms,
        arraySort(one -> one.1, groupArray((name, value))) AS pairs, pairs.1 AS names, pairs.2 AS values
    FROM VIEW WHERE run_id = {run:UUID} AND writer = {writer:UInt64} AND seq >= {first:UInt64} AND seq < {end:UInt64} AND name IN (NAMES)
    GROUP BY context, subject, seq
)
GROUP BY context, subject, names ORDER BY min(seq)
"""
_JSON = {"output_format_json_quote_64bit_integers": "0"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A run that is stored."""

    run_id: str
    project: str
    name: str


@dataclass(frozen=True, slots=True)
class Extent:
    """What one writer has stored in a view under some names: seqs from `first` up to `end`, and how many points."""

    view: View
    writer: int
    rank: int
    attempt: str
    started_ms: int
    first: int
    end: int
    points: int


class RunStore:
    """One ClickHouse; every call raises SqlError where it refuses or does not answer."""

    def __init__(self, url: str, database: str) -> None:
        self._url = url
        self._database = database

    def find(self, named: str) -> Stored:
        """The run that is meant by its id, enough of its beginning, or project/name, of which it is the newest; raises SettingsError where that is none or several."""
        if "/" not in named and len(named) < _PREFIX_MIN:
            raise SettingsError(f"expected a run's id, at least its first {_PREFIX_MIN} characters, or project/name, got {named!r}")
        prefix = named.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        found = [Stored(*row) for row in self._rows(_RUNS, prefix=prefix, named=named)]
        by_name = [one for one in found if f"{one.project}/{one.name}" == named]
        if by_name:
            return by_name[0]
        if not found:
            raise SettingsError(f"no run is {named!r}, by id or by project/name: `runstream runs` lists those that are stored")
        if len(found) > 1:
            some = ", ".join(f"{one.run_id} ({one.project}/{one.name})" for one in found[:_RUNS_SHOWN])
            raise SettingsError(f"{named!r} is the beginning of several runs: {some}")
        return found[0]

    def lives(self, run: Stored) -> list[Writer]:
        """The newest record of each process of the run."""
        out: list[Writer] = []
        for row in self._rows(_WRITERS, run=run.run_id):
            writer, version, kind, rank, local_rank, world_size, node, host, pid, attempt, started_ms, state, reason, heartbeat_ms, next_seq, rows, points = row
            out.append(
                Writer(
                    writer=writer,
                    run_id=run.run_id,
                    project=run.project,
                    version=version,
                    kind=kind,
                    rank=rank,
                    local_rank=local_rank,
                    world_size=world_size,
                    node=node,
                    host=host,
                    pid=pid,
                    attempt=attempt,
                    started_ms=started_ms,
                    state=state,
                    exit_reason=reason,
                    heartbeat_ms=heartbeat_ms,
                    next_seq=next_seq,
                    rows_logged=rows,
                    points_logged=points,
                )
            )
        return out

    def names(self, run: Stored, view: View) -> list[str]:
        """All names of the run in a view."""
        return [row[0] for row in self._rows(_NAMES.replace("VIEW", view), run=run.run_id)]

    def extents(self, run: Stored, view: View, names: Sequence[str]) -> list[Extent]:
        """What each writer of the run has stored under some names."""
        sql = _EXTENTS.replace("VIEW", view).replace("NAMES", ", ".join(map(literal, names)))
        return [
            Extent(view, writer, rank, attempt, started_ms, first, last + 1, points)
            for writer, rank, attempt, started_ms, first, last, points in self._rows(sql, run=run.run_id)
        ]

    def frames(self, run: Stored, extent: Extent, names: Sequence[str]) -> Iterator[MetricFrame]:
        """The rows of one writer under some names, in frames that follow each other without a gap."""
        sql = _ROWS.replace("VIEW", extent.view).replace("NAMES", ", ".join(map(literal, names)))
        span = max(extent.end - extent.first, 1)
        step = max(min(span, span * _POINTS_MAX // max(extent.points, 1)), 1)
        at = extent.first
        while at < extent.end:
            end = min(at + step, extent.end)
            settings = {"param_run": run.run_id, "param_writer": str(extent.writer), "param_first": str(at), "param_end": str(end)}
            with open_answer(self._url, sql, database=self._database, answer_format="RowBinary", settings=settings) as answer:
                groups = tuple(_groups(answer.read()))
            first_seq = 0 if at == extent.first else at
            yield MetricFrame(run.run_id, extent.writer, extent.started_ms, extent.attempt, extent.rank, "", run.project, first_seq, end, 0, groups)
            at = end

    def _rows(self, sql: str, **parameters: str) -> list[list[Any]]:
        settings = {f"param_{name}": value for name, value in parameters.items()} | _JSON
        with open_answer(self._url, sql, database=self._database, answer_format="JSONCompactEachRow", settings=settings) as answer:
            return _json_rows(answer)


def _json_rows(answer: BinaryIO) -> list[list[Any]]:
    return [json.loads(line) for line in answer.read().splitlines()]


def _groups(data: bytes) -> Iterator[MetricGroup]:
    reader = _RowBinary(data)
    while reader.more:
        context, subject = reader.text(), reader.text()
        names = tuple(reader.text() for _ in range(reader.count()))
        seqs, steps, times = (reader.column("<i8") for _ in range(3))
        values = reader.column("<f8").reshape(len(seqs), len(names))
        order = np.argsort(seqs, kind="stable")
        yield MetricGroup(context, subject, names, seqs[order].astype(np.int64), steps[order].astype(np.int64), times[order].astype(np.int64), values[order])


class _RowBinary:
    """ClickHouse's format of that name: counts as LEB128, columns as little-endian numbers behind theirs."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._data)

    def count(self) -> int:
        out = shift = 0
        while True:
            byte = self._data[self._at]
            self._at += 1
            out |= (byte & 0x7F) << shift
            if byte < 0x80:
                return out
            shift += 7

    def text(self) -> str:
        size = self.count()
        self._at += size
        return self._data[self._at - size : self._at].decode()

    def column(self, kind: str) -> NDArray[Any]:
        size = self.count()
        found = np.frombuffer(self._data, dtype=kind, count=size, offset=self._at)
        self._at += found.nbytes
        return found
