"""The tables that records go into, column by column in Arrow's kinds. The SQL that makes them is in `sql/`; a test holds the two against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from runstream_schemas import topics
    from runstream_sinks.arrow import Kind

Name = Literal[
    "metric_points",
    "hardware_points",
    "run_changes",
    "writer_states",
    "events_log",
    "params_log",
    "rules_log",
    "alerts_log",
    "summary_series",
    "dead_letters_log",
]


@dataclass(frozen=True, slots=True)
class Table:
    """A table's name and its columns in order, each with its kind."""

    name: Name
    columns: dict[str, Kind]


_POINTS: dict[str, Kind] = {
    "run_id": "uuid",
    "subject": "word",
    "name": "word",
    "context": "word",
    "rank": "u32",
    "step": "i64",
    "time": "ms",
    "writer": "u64",
    "attempt": "word",
    "started": "s",
    "seq": "u64",
    "value": "f64",
}

TABLES: dict[Name, Table] = {
    one.name: one
    for one in (
        Table("metric_points", _POINTS),
        Table("hardware_points", _POINTS),
        Table(
            "run_changes",
            {
                "run_id": "uuid",
                "writer": "u64",
                "seq": "u64",
                "time": "ms",
                "project": "word",
                "name": "text",
                "owner": "text",
                "namespace": "text",
                "external_id": "text",
                "framework": "text",
                "task": "text",
                "notes": "text",
                "has_tags": "bool",
                "tags": "texts",
                "metadata": "text_map",
            },
        ),
        Table(
            "writer_states",
            {
                "writer": "u64",
                "run_id": "uuid",
                "project": "word",
                "version": "u64",
                "kind": "word",
                "rank": "u32",
                "local_rank": "u32",
                "world_size": "u32",
                "node": "word",
                "host": "word",
                "pid": "i64",
                "attempt": "word",
                "started": "ms",
                "state": "word",
                "exit_reason": "text",
                "heartbeat": "ms",
                "next_seq": "u64",
                "rows_logged": "u64",
                "points_logged": "u64",
                "points_dropped": "count_map",
                "rows_shipped": "u64",
                "points_shipped": "u64",
                "environment": "text_map",
            },
        ),
        Table(
            "events_log",
            {
                "event_id": "uuid",
                "run_id": "uuid",
                "writer": "u64",
                "seq": "u64",
                "rank": "u32",
                "time": "ms",
                "name": "word",
                "source": "word",
                "subject": "text",
                "step": "i64",
                "metadata": "text_map",
            },
        ),
        Table(
            "params_log",
            {
                "run_id": "uuid",
                "writer": "u64",
                "seq": "u64",
                "rank": "u32",
                "time": "ms",
                "key": "text",
                "context": "word",
                "kind": "word",
                "value": "text",
                "str": "text",
                "i64": "i64",
                "f64": "f64",
                "bool": "bool",
            },
        ),
        Table(
            "rules_log",
            {
                "rule_id": "text",
                "version": "u64",
                "time": "ms",
                "name": "text",
                "kind": "word",
                "metric": "text",
                "run_id": "text",
                "project": "text",
                "context": "text",
                "rank": "u32",
                "operator": "word",
                "threshold": "f64",
                "severity": "word",
                "text": "text",
                "channels": "texts",
                "writer": "u64",
                "ordinal": "u32",
                "deleted": "bool",
            },
        ),
        Table(
            "alerts_log",
            {
                "alert_id": "text",
                "version": "u64",
                "state": "word",
                "rule_id": "text",
                "rule_version": "u64",
                "rule_name": "text",
                "kind": "word",
                "severity": "word",
                "run_id": "uuid",
                "writer": "u64",
                "seq": "u64",
                "rank": "u32",
                "metric": "word",
                "context": "word",
                "subject": "word",
                "step": "i64",
                "time": "ms",
                "value": "f64",
                "operator": "word",
                "threshold": "f64",
                "text": "text",
                "late": "bool",
                "decided": "ms",
                "channels": "texts",
            },
        ),
        Table(
            "summary_series",
            {
                "run_id": "uuid",
                "name": "word",
                "context": "word",
                "subject": "word",
                "rank": "u32",
                "writer": "u64",
                "attempt": "word",
                "started": "ms",
                "block": "u32",
                "next_seq": "u64",
                "time": "ms",
                "count": "u64",
                "non_finite": "u64",
                "sum": "f64",
                "mean": "f64",
                "m2": "f64",
                "min": "f64",
                "min_step": "i64",
                "max": "f64",
                "max_step": "i64",
                "first": "f64",
                "first_step": "i64",
                "last": "f64",
                "last_step": "i64",
                "first_time": "ms",
                "last_time": "ms",
            },
        ),
        Table(
            "dead_letters_log",
            {
                "topic": "word",
                "partition": "u32",
                "offset": "u64",
                "sha256": "text",
                "time": "ms",
                "key": "bytes",
                "value": "bytes",
                "schema_id": "u32",
                "reason": "text",
                "worker": "word",
                "set_aside": "ms",
            },
        ),
    )
}

# Which table the records of a topic go into; topics that are not here are not read by the sinks' group.
TABLE_OF: dict[topics.Name, Name] = {
    "run": "run_changes",
    "writer": "writer_states",
    "metric": "metric_points",
    "hardware": "hardware_points",
    "event": "events_log",
    "param": "params_log",
    "rule": "rules_log",
    "summary": "summary_series",
    "alert": "alerts_log",
    "dead-letter": "dead_letters_log",
}
