"""Summary frames to columns: one Arrow row for each series of each frame, made column by column, since a fleet's summaries are nearly as many rows as its points."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_schemas.errors import MalformedRecord
from runstream_schemas.records import SummaryFrame
from runstream_sinks import arrow
from runstream_sinks.bounds import TIME_MS_MAX, TIME_MS_MIN, count, count32, time_ms, uuid_bytes
from runstream_sinks.points import Words
from runstream_sinks.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from runstream_schemas.records import Record

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]

SERIES_BYTES = 250  # About what a series takes, in arrays and then in columns.
_TEXTS = ("name", "context", "subject")
_LONGS = ("count", "non_finite", "min_step", "max_step", "first_step", "last_step", "first_time", "last_time")
_COUNTS, _TIMES = 2, 6  # Of those the first two are counts, and those from the seventh on are times.
_DOUBLES = ("sum", "mean", "m2", "min", "max", "first", "last")


class _Head(NamedTuple):
    """What all series of a frame have in common, as numbers and codes of texts."""

    rank: int
    writer: int
    attempt: int
    started: int
    block: int
    next_seq: int
    time: int
    series: int


class SummaryRows:
    """The series of the summary frames of one chunk."""

    def __init__(self) -> None:
        self.rows = 0
        self._words: dict[str, Words] = {name: Words() for name in (*_TEXTS, "attempt")}
        self._codes: dict[tuple[str, tuple[str, ...]], Longs] = {}
        self._runs: list[bytes] = []
        self._heads: list[_Head] = []
        self._texts: list[Sequence[Longs]] = []
        self._longs: list[Longs] = []
        self._doubles: list[Doubles] = []

    @property
    def nbytes(self) -> int:
        """About the memory that the rows take."""
        return self.rows * SERIES_BYTES

    def add(self, record: Record) -> None:
        """Takes a frame whole, or nothing of it; raises MalformedRecord."""
        if not isinstance(record, SummaryFrame):
            raise MalformedRecord(f"expected a SummaryFrame on this topic, got {type(record).__name__}")
        longs = (
            record.counts,
            record.non_finites,
            record.min_steps,
            record.max_steps,
            record.first_steps,
            record.last_steps,
            record.first_times,
            record.last_times,
        )
        doubles = (record.sums, record.means, record.m2s, record.mins, record.maxs, record.firsts, record.lasts)
        series = len(record.names)
        if any(len(one) != series for one in (record.contexts, record.subjects, *longs, *doubles)):
            raise MalformedRecord(f"a summary of {series} names must have as many of everything else")
        run_id, head = uuid_bytes("run_id", record.run_id), self._head(record, series)
        try:
            whole = np.array(longs, np.int64).reshape(len(longs), series)
        except OverflowError:
            raise MalformedRecord("counts, steps and times must fit 64 bits") from None
        if series and whole[:_COUNTS].min() < 0:
            raise MalformedRecord("counts must not be negative")
        np.clip(whole[_TIMES:], TIME_MS_MIN, TIME_MS_MAX, out=whole[_TIMES:])
        self._runs.append(run_id)
        self._heads.append(head)
        self._longs.append(whole)
        self._doubles.append(np.array(doubles, np.float64).reshape(len(doubles), series))
        self._texts.append([self._coded(name, one) for name, one in zip(_TEXTS, (record.names, record.contexts, record.subjects), strict=True)])
        self.rows += series

    def _head(self, record: SummaryFrame, series: int) -> _Head:
        return _Head(
            rank=count32("rank", record.rank),
            writer=count("writer", record.writer),
            attempt=self._words["attempt"].code(record.attempt),
            started=time_ms(record.started),
            block=count32("block", record.block),
            next_seq=count("next_seq", record.next_seq),
            time=time_ms(record.time_ms),
            series=series,
        )

    def _coded(self, name: str, texts: Sequence[str]) -> Longs:
        """The codes of a list of texts; most lists come again and again."""
        key = name, tuple(texts)
        codes = self._codes.get(key)
        if codes is None:
            words = self._words[name]
            codes = self._codes[key] = np.array([words.code(one) for one in texts], np.int64)
        return codes

    def table(self) -> arrow.Table:
        """The series as an Arrow table with the columns of `summary_series`."""
        heads = np.array(self._heads, np.int64).reshape(-1, len(_Head._fields))
        repeats = heads[:, _Head._fields.index("series")]

        def of_heads(name: str) -> Longs:
            return np.repeat(heads[:, _Head._fields.index(name)], repeats)

        longs = np.concatenate([np.empty((len(_LONGS), 0), np.int64), *self._longs], axis=1)
        doubles = np.concatenate([np.empty((len(_DOUBLES), 0)), *self._doubles], axis=1)
        made: dict[str, arrow.Column] = {"run_id": arrow.uuids(np.repeat(np.frombuffer(b"".join(self._runs), np.uint64).reshape(-1, 2), repeats, axis=0))}
        for place, name in enumerate(_TEXTS):
            made[name] = self._words[name].column(np.concatenate([np.empty(0, np.int64), *(one[place] for one in self._texts)]))
        made["attempt"] = self._words["attempt"].column(of_heads("attempt"))
        for name, (kind, values) in _numbers(of_heads, longs, doubles).items():
            made[name] = arrow.numbers(kind, values)
        return arrow.table({name: made[name] for name in TABLES["summary_series"].columns})


def _numbers(of_heads: Callable[[str], Longs], longs: Longs, doubles: Doubles) -> Mapping[str, tuple[arrow.Kind, NDArray[np.generic]]]:
    """The columns of numbers, each with how it stands in Arrow."""
    out: dict[str, tuple[arrow.Kind, NDArray[np.generic]]] = {}
    for name, kind in TABLES["summary_series"].columns.items():
        if kind in ("u32", "u64", "i64", "f64", "ms"):
            values = longs[_LONGS.index(name)] if name in _LONGS else doubles[_DOUBLES.index(name)] if name in _DOUBLES else of_heads(name)
            out[name] = kind, values.astype(np.uint32) if kind == "u32" else values
    return out
