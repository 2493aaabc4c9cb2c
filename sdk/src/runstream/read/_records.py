"""Params, values, events, alerts and summaries as they are stored, with the types they were logged with."""

# ruff: noqa: S608
# (Columns and conditions are ours; whatever people say goes through parameters.)

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from runstream.read._ask import Store, context_of, count_of, moment, one_of, parsed, text_of, told, wanted
from runstream.read._runs import AnyRun, id_of

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Mapping, Sequence

_CHECKS: dict[str, Callable[[Any], object]] = {
    "context": context_of,
    "rank": partial(count_of, "rank"),
    "state": partial(one_of, "state", known=("firing", "resolved")),
}
_NO_RUN = "00000000-0000-0000-0000-000000000000"
_VALUE = "name, kind, value, dtype, shape, base64Encode(data) AS data64, toString(context) AS context, toString(subject) AS subject, rank, step, toUnixTimestamp64Milli(time) AS ms"


@dataclass(frozen=True, slots=True)
class ParamVersion:
    """One value that a param had."""

    key: str
    value: Any
    context: str
    rank: int
    time: dt.datetime


@dataclass(frozen=True, slots=True, eq=False)
class StoredValue:
    """A value of a metric that is no number: a text, bytes, or an array of numpy with the dtype and shape that it had."""

    name: str
    value: Any
    context: str
    subject: str
    rank: int
    step: int | None
    time: dt.datetime


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """Something that happened. `run_id` is None for events without a run."""

    id: str
    run_id: str | None
    name: str
    source: str
    subject: str
    rank: int
    step: int | None
    time: dt.datetime
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StoredAlert:
    """An episode of an alert. `kind` is that of its rule, or `code` for one that code raised at once; `value` is what the rule watches, NaN where it watches none."""

    id: str
    run_id: str
    state: str
    rule: str
    kind: str
    severity: str
    text: str
    metric: str
    context: str
    subject: str
    rank: int
    step: int
    value: float
    threshold: float | None
    fired: dt.datetime | None
    resolved: dt.datetime | None


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """What a series of one process comes to. NaN and infinities count, and are left out of the rest but for `first` and `last`."""

    name: str
    context: str
    subject: str
    rank: int
    count: int
    non_finite: int
    mean: float
    stddev: float
    min: float
    min_step: int
    max: float
    max_step: int
    first: float
    first_step: int
    last: float
    last_step: int


@dataclass(frozen=True, slots=True)
class Definition:
    """What is said of a metric; empty where nobody said. `type` is int or bool where any series of it was begun with such values, float where those differ, empty where it is float."""

    name: str
    step_metric: str
    goal: str
    unit: str
    source: str
    type: str


def params(run: AnyRun, *, context: str | None = None, rank: int | None = None, url: str | None = None, database: str | None = None) -> dict[str, Any]:
    """The newest value of each param by its dotted key, as bool, int, float, str, None or list.

    Args:
        run: its id, `project/name`, or the run itself.
        context: only those of this phase; of all phases if None, those without one before others.
        rank: only those of this rank; the least rank that has the key if None. `param_conflicts` says where ranks differ.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Raises:
        ReadError: there is no such run, or no ClickHouse is named or answers.

    Example:
        >>> lr = read.params(run)["optimizer.lr"]
    """
    store = Store(url, database)
    where, asked = _conditions(context=context, rank=rank)
    rows = store.rows(
        f"SELECT key, value FROM params WHERE run_id = {{run:UUID}}{where} ORDER BY key, rank, context LIMIT 1 BY key", run=id_of(store, run), **asked
    )
    return {row["key"]: parsed(row["value"]) for row in rows}


def param_history(run: AnyRun, key: str, *, url: str | None = None, database: str | None = None) -> list[ParamVersion]:
    """Every value that a param had, on all ranks, the oldest first; raises ReadError.

    Example:
        >>> values = [version.value for version in read.param_history(run, "optimizer.lr")]
    """
    store = Store(url, database)
    sql = """
        SELECT key, value, toString(context) AS context, rank, toUnixTimestamp64Milli(time) AS ms
        FROM params_history WHERE run_id = {run:UUID} AND key = {key:String} ORDER BY time, seq, rank
    """
    return [
        ParamVersion(row["key"], parsed(row["value"]), row["context"], row["rank"], moment(row["ms"]))
        for row in store.rows(sql, run=id_of(store, run), key=text_of("key", key) or "")
    ]


def param_conflicts(run: AnyRun, *, url: str | None = None, database: str | None = None) -> dict[str, dict[int, Any]]:
    """The params of which ranks hold different values, by key: the value of each rank; raises ReadError. Of several contexts the last by name is told.

    Example:
        >>> by_rank = read.param_conflicts(run).get("seed", {})
    """
    store = Store(url, database)
    rows = store.rows("SELECT key, value_by_rank FROM param_conflicts WHERE run_id = {run:UUID} ORDER BY key, context", run=id_of(store, run))
    return {row["key"]: {int(rank): parsed(text) for rank, text in row["value_by_rank"].items()} for row in rows}


def values(
    run: AnyRun,
    names: str | Sequence[str] | None = None,
    *,
    context: str | None = None,
    rank: int | None = None,
    url: str | None = None,
    database: str | None = None,
) -> list[StoredValue]:
    """Texts, bytes and arrays that were logged as metrics, by name, context, rank and step; raises ReadError.

    Example:
        >>> attention = read.values(run, "attention")
    """
    store = Store(url, database)
    where, asked = wanted(names)
    more, others = _conditions(context=context, rank=rank)
    sql = f"SELECT {_VALUE} FROM metric_values WHERE run_id = {{run:UUID}}{where}{more} ORDER BY name, context, subject, rank, step, metric_values.seq"
    rows = store.rows(sql, run=id_of(store, run), **asked, **others)
    return [StoredValue(row["name"], _value(row), row["context"], row["subject"], row["rank"], row["step"], moment(row["ms"])) for row in rows]


def summary(run: AnyRun, *, url: str | None = None, database: str | None = None) -> dict[str, Any]:
    """The values that `run.summary` was given, by name, with their types; raises ReadError. What is computed from metrics is `summaries`.

    Example:
        >>> best = read.summary(run)["best_accuracy"]
    """
    store = Store(url, database)
    return {
        row["name"]: _value(row) for row in store.rows(f"SELECT {_VALUE} FROM run_summary WHERE run_id = {{run:UUID}} ORDER BY name", run=id_of(store, run))
    }


def summaries(run: AnyRun, names: str | Sequence[str] | None = None, *, url: str | None = None, database: str | None = None) -> list[SeriesSummary]:
    """What each series of each process comes to, kept up to date while it runs; raises ReadError.

    Example:
        >>> best = min(one.min for one in read.summaries(run, "loss"))
    """
    store = Store(url, database)
    where, asked = wanted(names)
    columns = ", ".join(SeriesSummary.__dataclass_fields__)
    rows = store.rows(
        f"SELECT {columns} FROM summaries WHERE run_id = {{run:UUID}}{where} ORDER BY name, context, subject, rank, started", run=id_of(store, run), **asked
    )
    floats = ("mean", "stddev", "min", "max", "first", "last")
    for row in rows:
        row |= {name: _real(row[name]) for name in floats}
    return [SeriesSummary(**row) for row in rows]


def definitions(run: AnyRun, *, url: str | None = None, database: str | None = None) -> dict[str, Definition]:
    """What is said of metrics, by name or pattern: step metric, goal, unit, the library their values came from and their type; raises ReadError.

    Example:
        >>> units = {name: one.unit for name, one in read.definitions(run).items()}
    """
    store = Store(url, database)
    rows = store.rows(
        "SELECT name, step_metric, goal, unit, source, type FROM metric_definitions WHERE run_id = {run:UUID} ORDER BY name", run=id_of(store, run)
    )
    return {row["name"]: Definition(**row) for row in rows}


def events(
    run: AnyRun | None = None, *, name: str | None = None, subject: str | None = None, limit: int = 10_000, url: str | None = None, database: str | None = None
) -> list[StoredEvent]:
    """Events, the oldest first: of a run, about a subject, or by name; with neither run nor subject, those of all runs. Raises ReadError.

    Example:
        >>> slow = [one for one in read.events(run, name="checkpoint_finished") if one.metadata["seconds"] > 60]
    """
    store = Store(url, database)
    where, asked = _conditions(name=name, subject=subject)
    if run is not None:
        where += " AND run_id = {run:UUID}"
        asked["run"] = id_of(store, run)
    sql = f"""
        SELECT toString(event_id) AS id, toString(run_id) AS run, name, source, subject, rank, step, toUnixTimestamp64Milli(time) AS ms, metadata
        FROM events WHERE 1{where} ORDER BY time, seq LIMIT {count_of("limit", limit) or 0}
    """
    return [
        StoredEvent(
            row["id"],
            None if row["run"] == _NO_RUN else row["run"],
            row["name"],
            row["source"],
            row["subject"],
            row["rank"],
            row["step"],
            moment(row["ms"]),
            told(row["metadata"]),
        )
        for row in store.rows(sql, **asked)
    ]


def alerts(
    run: AnyRun | None = None, *, project: str | None = None, state: str | None = None, limit: int = 10_000, url: str | None = None, database: str | None = None
) -> list[StoredAlert]:
    """Alerts, one an episode, in the order in which they fired: of a run, a project, or in a state. Raises ReadError.

    Example:
        >>> firing = read.alerts(run, state="firing")
    """
    store = Store(url, database)
    where, asked = _conditions(project=project, state=state)
    if run is not None:
        where += " AND run_id = {run:UUID}"
        asked["run"] = id_of(store, run)
    sql = f"""
        SELECT alert_id AS id, toString(run_id) AS run, state, rule, kind, severity, text, metric, context, subject, rank, step, value, threshold,
            toUnixTimestamp64Milli(fired) AS fired_ms, toUnixTimestamp64Milli(resolved) AS resolved_ms
        FROM alerts WHERE 1{where} ORDER BY fired, alert_id LIMIT {count_of("limit", limit) or 0}
    """
    found: list[StoredAlert] = []
    for row in store.rows(sql, **asked):
        times: dict[str, Any] = {name: None if (ms := row.pop(f"{name}_ms")) is None else moment(ms) for name in ("fired", "resolved")}
        threshold = row.pop("threshold")
        found.append(
            StoredAlert(run_id=row.pop("run"), value=_real(row.pop("value")), threshold=None if threshold is None else _real(threshold), **row, **times)
        )
    return found


def _conditions(**given: object) -> tuple[str, dict[str, object]]:
    """Conditions on the columns that something is asked of."""
    asked = {column: fit for column, value in given.items() if (fit := _CHECKS.get(column, partial(text_of, column))(value)) is not None}
    return "".join(f" AND {column} = {{{column}:{'UInt32' if column == 'rank' else 'String'}}}" for column in asked), asked


def _real(value: Any) -> float:
    """A double, of which NaN and infinities come by their names."""
    return float("nan") if value is None else float(value)


def _value(row: Mapping[str, Any]) -> Any:
    if row["kind"] == "bytes":
        return base64.b64decode(row["data64"])
    if row["kind"] == "tensor":
        return np.frombuffer(base64.b64decode(row["data64"]), dtype=row["dtype"]).reshape(row["shape"]).copy()
    return parsed(row["value"])
