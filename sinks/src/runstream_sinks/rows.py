"""Records other than frames to rows: pure functions from a record to tuples in the order of its table's columns."""

from __future__ import annotations

import json
from itertools import repeat
from typing import TYPE_CHECKING, Any, cast

from runstream_schemas import records
from runstream_schemas.errors import MalformedRecord
from runstream_sinks import arrow
from runstream_sinks.bounds import count, count32, some_uuid_bytes, time_ms, uuid_bytes, whole
from runstream_sinks.tables import TABLES, Name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

Row = tuple[object, ...]

_I64_MIN, _I64_MAX = -(1 << 63), (1 << 63) - 1
_OVERHEAD_BYTES = 200  # About what a row of short texts takes as Python values.


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(values.items())


def run_rows(record: records.Run) -> Iterable[Row]:
    """One change of a run."""
    tags = record.tags
    yield (
        some_uuid_bytes("run_id", record.run_id),
        count("writer", record.writer),
        count("seq", record.seq),
        time_ms(record.time_ms),
        record.project,
        record.name,
        record.owner,
        record.namespace,
        record.external_id,
        record.framework,
        record.task,
        record.notes,
        tags is not None,
        list(tags or ()),
        _pairs(record.metadata),
    )


def writer_rows(record: records.Writer) -> Iterable[Row]:
    """One state of a writer."""
    yield (
        count("writer", record.writer),
        uuid_bytes("run_id", record.run_id),
        record.project,
        count("version", record.version),
        record.kind,
        count32("rank", record.rank),
        count32("local_rank", record.local_rank),
        count32("world_size", record.world_size),
        record.node,
        record.host,
        whole("pid", record.pid),
        record.attempt,
        time_ms(record.started_ms),
        record.state,
        record.exit_reason,
        time_ms(record.heartbeat_ms),
        count("next_seq", record.next_seq),
        count("rows_logged", record.rows_logged),
        count("points_logged", record.points_logged),
        [(reason, count("points_dropped", points)) for reason, points in record.points_dropped.items()],
        count("rows_shipped", record.rows_shipped),
        count("points_shipped", record.points_shipped),
        _pairs(record.environment),
    )


def event_rows(record: records.Event) -> Iterable[Row]:
    """One event."""
    yield (
        some_uuid_bytes("event_id", record.event_id),
        uuid_bytes("run_id", record.run_id),
        count("writer", record.writer),
        count("seq", record.seq),
        count32("rank", record.rank),
        time_ms(record.time_ms),
        record.name,
        record.source,
        record.subject,
        None if record.step is None else whole("step", record.step),
        _pairs(record.metadata),
    )


def _logged(record: records.Param | records.Value | records.Media) -> Row:
    """By whom and when it was logged: what these rows begin with."""
    return (
        some_uuid_bytes("run_id", record.run_id),
        count("writer", record.writer),
        count("seq", record.seq),
        count32("rank", record.rank),
        time_ms(record.time_ms),
    )


def param_rows(record: records.Param) -> Iterable[Row]:
    """One value of a param, as JSON text and in the typed column of its kind."""
    text, whole, real, truth = _typed(record.kind, record.value)
    yield (
        *_logged(record),
        record.key,
        record.context,
        record.kind,
        record.value,
        text,
        whole,
        real,
        truth,
    )


def value_rows(record: records.Value) -> Iterable[Row]:
    """One typed value: as JSON text and in the typed column of its kind, or as bytes."""
    data = record.data or b""
    if record.kind in ("bytes", "tensor"):
        typed: tuple[object, ...] = (None, None, None, None)
        if record.value:
            raise MalformedRecord(f"value must be empty where the kind is {record.kind}")
    else:
        typed = _typed(record.kind, record.value)
    yield (
        *_logged(record),
        record.name,
        record.role,
        record.context,
        record.subject,
        None if record.step is None else whole("step", record.step),
        record.kind,
        record.value,
        *typed,
        record.dtype,
        [count("shape", one) for one in record.shape],
        data,
    )


def media_rows(record: records.Media) -> Iterable[Row]:
    """One rich value."""
    if len(record.steps) != (0 if record.counted else len(record.points)):
        raise MalformedRecord(f"a line of {len(record.points)} points must have as many steps, or none where they are counted on, got {len(record.steps)}")
    yield (
        *_logged(record),
        record.name,
        record.kind,
        record.context,
        record.subject,
        None if record.step is None else whole("step", record.step),
        record.series,
        record.replaces,
        record.counted,
        [whole("steps", one) for one in record.steps],
        list(record.points),
        record.value,
        record.mime_type,
        record.data or b"",
        record.uri,
        record.checksum,
        count("size", record.size),
    )


def artifact_rows(record: records.Artifact) -> Iterable[Row]:
    """One artifact that a run made or used."""
    yield (
        some_uuid_bytes("artifact_id", record.artifact_id),
        uuid_bytes("run_id", record.run_id),
        count("writer", record.writer),
        count("seq", record.seq),
        count32("rank", record.rank),
        time_ms(record.time_ms),
        record.kind,
        record.relation,
        record.name,
        record.path,
        record.uri,
        record.mime_type,
        record.checksum,
        whole("size", record.size),
        record.parent,
        record.project,
        record.context,
        record.subject,
        None if record.step is None else whole("step", record.step),
        _pairs(record.metadata),
    )


def _typed(kind: str, value: str) -> tuple[str | None, int | None, float | None, bool | None]:
    """The value for the columns str, i64, f64 and bool: those that its kind does not fill are null."""
    try:
        parsed: object = json.loads(value)
    except (ValueError, RecursionError):
        raise MalformedRecord("value must be JSON text") from None
    match kind, parsed:
        case "bool", bool():
            return None, None, None, parsed
        case (("int" | "float"), int()) if not isinstance(parsed, bool):
            return None, parsed if kind == "int" and _I64_MIN <= parsed <= _I64_MAX else None, _real(parsed), None
        case "float", float():
            return None, None, parsed, None
        case "string", str():
            return parsed.encode("utf-8", "replace").decode(), None, None, None  # JSON can spell half a surrogate pair; UTF-8 cannot.
        case ("null", None) | ("list", list()) | ("dict", dict()):
            return None, None, None, None
        case _:
            raise MalformedRecord(f"value must be JSON text of the kind it names, got {type(parsed).__name__}")


def _real(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def rule_rows(record: records.Rule) -> Iterable[Row]:
    """One version of a rule."""
    yield (
        record.rule_id,
        count("version", record.version),
        time_ms(record.time_ms),
        record.name,
        record.kind,
        record.metric,
        record.run_id,
        record.project,
        record.context,
        None if record.rank is None else count32("rank", record.rank),
        record.operator,
        record.threshold,
        record.severity,
        record.text,
        list(record.channels),
        count("writer", record.writer),
        count32("ordinal", record.ordinal),
        record.deleted,
        whole("seq", record.seq),
        time_ms(record.active_ms),
        record.clear,
        record.for_s,
        record.cooldown_s,
        record.aggregate,
        count32("window", record.window),
        record.window_s,
        count32("baseline", record.baseline),
        record.measure,
        record.direction,
        record.goal,
        list(record.states),
        _pairs(record.labels),
    )


def silence_rows(record: records.Silence) -> Iterable[Row]:
    """One version of a silence."""
    yield (
        record.silence_id,
        count("version", record.version),
        time_ms(record.time_ms),
        record.author,
        record.comment,
        time_ms(record.starts_ms),
        time_ms(record.ends_ms),
        record.alert_id,
        record.rule_id,
        record.run_id,
        record.project,
        record.metric,
        _pairs(record.labels),
        record.deleted,
    )


def alert_rows(record: records.Alert) -> Iterable[Row]:
    """One transition of an alert."""
    yield (
        record.alert_id,
        count("version", record.version),
        record.state,
        record.rule_id,
        count("rule_version", record.rule_version),
        record.rule_name,
        record.kind,
        record.severity,
        uuid_bytes("run_id", record.run_id),
        count("writer", record.writer),
        count("seq", record.seq),
        count32("rank", record.rank),
        record.metric,
        record.context,
        record.subject,
        whole("step", record.step),
        time_ms(record.time_ms),
        record.value,
        record.operator,
        record.threshold,
        record.text,
        record.late,
        time_ms(record.decided_ms),
        list(record.channels),
        record.project,
        _pairs(record.labels),
        record.baseline,
        time_ms(record.opened_ms),
        record.silence,
    )


def delivery_rows(record: records.Delivery) -> Iterable[Row]:
    """What became of one transition on one channel."""
    yield (
        record.alert_id,
        count("version", record.version),
        record.channel,
        record.way,
        record.outcome,
        record.reason,
        record.message_id,
        count32("alerts", record.alerts),
        count32("tries", record.tries),
        uuid_bytes("run_id", record.run_id),
        record.rule_id,
        record.severity,
        record.state,
        time_ms(record.time_ms),
        time_ms(record.taken_ms),
        time_ms(record.done_ms),
    )


def dead_letter_rows(record: records.DeadLetter) -> Iterable[Row]:
    """One record set aside."""
    yield (
        record.topic,
        count32("partition", record.partition),
        count("offset", record.offset),
        record.sha256,
        time_ms(record.time_ms),
        record.key,
        record.value,
        None if record.schema_id is None else count32("schema_id", record.schema_id),
        record.reason,
        record.worker,
        time_ms(record.set_aside_ms),
    )


_ROWS_OF: dict[Name, tuple[type[records.Record], Callable[[Any], Iterable[Row]]]] = {
    "run_changes": (records.Run, run_rows),
    "writer_states": (records.Writer, writer_rows),
    "events_log": (records.Event, event_rows),
    "params_log": (records.Param, param_rows),
    "values_log": (records.Value, value_rows),
    "media_log": (records.Media, media_rows),
    "artifacts_log": (records.Artifact, artifact_rows),
    "rules_log": (records.Rule, rule_rows),
    "silences_log": (records.Silence, silence_rows),
    "alerts_log": (records.Alert, alert_rows),
    "deliveries_log": (records.Delivery, delivery_rows),
    "dead_letters_log": (records.DeadLetter, dead_letter_rows),
}


class PlainRows:
    """The rows of one chunk of one table."""

    def __init__(self, name: Name) -> None:
        self._columns = TABLES[name].columns
        self._type, self._rows_of = _ROWS_OF[name]
        self._rows: list[Row] = []
        self.nbytes = 0

    @property
    def rows(self) -> int:
        """Number of rows taken."""
        return len(self._rows)

    def add(self, record: records.Record) -> None:
        """Takes a record whole, or nothing of it; raises MalformedRecord."""
        if not isinstance(record, self._type):
            raise MalformedRecord(f"expected a {self._type.__name__} on this topic, got {type(record).__name__}")
        made = list(self._rows_of(record))
        self._rows += made
        self.nbytes += sum(map(_size, made))

    def table(self) -> arrow.Table:
        """The rows as an Arrow table."""
        by_column = zip(*self._rows, strict=True) if self._rows else repeat((), len(self._columns))
        return arrow.table({name: arrow.column(kind, values) for (name, kind), values in zip(self._columns.items(), by_column, strict=True)})


def _size(row: Row) -> int:
    """About the memory of a row: its texts and bytes, the texts of its lists and maps, and something for the rest."""
    size = _OVERHEAD_BYTES
    for value in row:
        if isinstance(value, (str, bytes)):
            size += len(value)
        elif isinstance(value, list):
            size += sum(len(str(one)) for one in cast("list[object]", value))
    return size
