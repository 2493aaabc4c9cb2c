"""Metrics as arrays: one series for each name, context, subject and rank, in one answer whose columns are taken over as they come."""

# (Columns and conditions are ours; whatever people say goes through parameters.)

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from runstream.read import _arrow
from runstream.read._ask import Store, context_of, count_of, text_of, wanted
from runstream.read._runs import AnyRun, id_of
from runstream.read._types import Types, agreed, fitted, types_of

if TYPE_CHECKING:
    import enum
    from collections.abc import Sequence

    from numpy import bool_, float64, int64
    from numpy.typing import NDArray

_CONDITIONS = (("context", "String"), ("subject", "String"), ("rank", "UInt32"))
_SERIES = """
SELECT toString(name), toString(context), toString(subject), rank,
    groupArray(step), groupArray(toUnixTimestamp64Milli(time)), groupArray(value), groupArray(toInt64(toUnixTimestamp(started))), groupArray(toInt64(seq)),
    groupUniqArray(writer)
FROM metrics
WHERE run_id = {run:UUID}
"""
_TABLE = (
    "SELECT toString(name) AS name, toString(context) AS context, toString(subject) AS subject, rank, step, time, value FROM metrics WHERE run_id = {run:UUID}"
)
_WRITERS = "SELECT DISTINCT toString(name) AS name, toString(context) AS context, toString(subject) AS subject, writer FROM metrics WHERE run_id = {run:UUID}"


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One metric of one rank in arrays of the same length: `steps` int64, `values`, `times` float64 in epoch seconds.

    `values` are float64; int64 or bool where all that was logged was begun as such, and is such throughout (docs/sdk.md says how that is known).
    Sorted by step; of several values at one step, as of an attempt that went back to a checkpoint, the later attempt's comes last.
    """

    name: str
    context: str
    subject: str
    rank: int
    steps: NDArray[int64]
    values: NDArray[float64] | NDArray[int64] | NDArray[bool_]
    times: NDArray[float64]

    def latest(self) -> Series:
        """The series with one value a step: the latest attempt's."""
        last = np.append(self.steps[1:] != self.steps[:-1], True) if len(self.steps) else np.zeros(0, dtype=bool)
        return Series(self.name, self.context, self.subject, self.rank, self.steps[last], self.values[last], self.times[last])


def metrics(
    run: AnyRun,
    names: str | Sequence[str] | None = None,
    *,
    context: str | enum.Enum | None = None,
    subject: str | None = None,
    rank: int | None = None,
    url: str | None = None,
    database: str | None = None,
) -> list[Series]:
    """The numeric series of a run, sorted by name, context, subject and rank. Integers and truth values come back as such, where all of a series are.

    Args:
        run: its id, `project/name`, or the run itself.
        names: a name or several, or patterns with `*` and `?`; all if None.
        context: only this phase.
        subject: only of this subject; empty is the run itself.
        rank: only of this rank.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Raises:
        ReadError: there is no such run, or no ClickHouse is named or answers.

    Example:
        >>> series = read.metrics(run, "loss", context="training", rank=0)
    """
    store = Store(url, database)
    where, parameters = _where(names, context, subject, rank)
    sql = f"{_SERIES}{where} GROUP BY name, context, subject, rank ORDER BY name, context, subject, rank"
    run_id = id_of(store, run)
    with store.stream(sql, {"run": run_id} | parameters, "RowBinary") as answer:
        data = answer.read()
    types = types_of(store, run_id, where, parameters)
    found: list[Series] = []
    place = 0
    while place < len(data):
        one, place = _series(data, place, types)
        found.append(one)
    return found


def metrics_table(
    run: AnyRun,
    names: str | Sequence[str] | None = None,
    *,
    context: str | enum.Enum | None = None,
    subject: str | None = None,
    rank: int | None = None,
    url: str | None = None,
    database: str | None = None,
) -> Any:
    """What `metrics` gives, as a `pyarrow.Table` with the columns name, context, subject, rank, step, time and value, a row a value.

    The column `value` is of doubles; of int64 or bool where all series of the table are, as `metrics` gives them.

    Raises:
        ReadError: as `metrics`; and where pyarrow is not installed.

    Example:
        >>> table = read.metrics_table(run, "loss")
    """
    store = Store(url, database)
    where, parameters = _where(names, context, subject, rank)
    sql = f"{_TABLE}{where} ORDER BY name, context, subject, rank, step, started, seq"
    run_id = id_of(store, run)
    with store.stream(sql, {"run": run_id} | parameters, "ArrowStream", {"output_format_arrow_string_as_string": "1"}) as answer:
        table = _arrow.table_of(answer.read())
    types = types_of(store, run_id, where, parameters)
    if not types:
        return table
    writers = store.rows(_WRITERS + where, run=run_id, **parameters)
    return _arrow.fitted(table, agreed(types.of((row["name"], row["context"], row["subject"]), [row["writer"]]) for row in writers))


def _where(names: str | Sequence[str] | None, context: Any, subject: str | None, rank: int | None) -> tuple[str, dict[str, object]]:
    given: dict[str, object] = {"context": context_of(context), "subject": text_of("subject", subject), "rank": count_of("rank", rank)}
    where, parameters = wanted(names)
    for column, kind in _CONDITIONS:
        if given[column] is not None:
            where += f" AND {column} = {{{column}:{kind}}}"
            parameters[column] = given[column]
    return where, parameters


def _series(data: bytes, place: int, types: Types) -> tuple[Series, int]:
    """One row of the answer in ClickHouse's RowBinary: three texts, an integer, six arrays of 8-byte numbers."""
    texts: list[str] = []
    for _ in range(3):
        size, place = _length(data, place)
        texts.append(data[place : place + size].decode("utf-8", "replace"))
        place += size
    (rank,) = struct.unpack_from("<I", data, place)
    place += 4
    arrays: list[NDArray[Any]] = []
    for kind in ("<i8", "<i8", "<f8", "<i8", "<i8", "<u8"):
        size, place = _length(data, place)
        arrays.append(np.frombuffer(data, dtype=kind, count=size, offset=place))
        place += 8 * size
    steps, times_ms, values, started, seqs, writers = arrays
    order = np.lexsort((seqs, started, steps))
    name, context, subject = texts
    kept = fitted(values[order], types.of((name, context, subject), writers.tolist()))
    return Series(name, context, subject, rank, steps[order], kept, times_ms[order] / 1000.0), place


def _length(data: bytes, place: int) -> tuple[int, int]:
    """A length as ClickHouse writes it, 7 bits a byte, the lowest first; and where it ends."""
    size = shift = 0
    while True:
        byte = data[place]
        place += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return size, place
        shift += 7
