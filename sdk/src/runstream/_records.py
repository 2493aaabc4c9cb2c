"""The payloads of records that are no metric rows: what was given becomes what the schema takes, and what does not fit is told. Pure, but for the ids of events.

Each function takes the `report` to which it says what it left out or changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from runstream._params import json_values
from runstream._types import Event, EventSource
from runstream_producers.journal import values as val
from runstream_schemas import ids

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable

    from runstream_schemas.records import Operator, Severity

    Report = Callable[[str, str], None]

_OPERATORS = ("<", "<=", ">", ">=", "==", "!=")
_RUN_TEXTS = frozenset({"name", "owner", "namespace", "external_id", "framework", "task", "notes"})


def event_of(event: Event, now_s: float, report: Report) -> dict[str, Any]:
    """The payload of an event that is logged at `now_s`, with an id of its own."""
    seconds = now_s if event.time is None else val.seconds_of(event.time)
    if seconds is None:
        report(
            "event:time",
            f"time of event {event.name!r} must be seconds since 1970 or a datetime, got {val.shown(event.time)}: it was kept with the time of the call",
        )
        seconds = now_s
    number = None if event.step is None else val.step_of(event.step)
    if event.step is not None and number is None:
        report("event:step", f"step of event {event.name!r} must be an integer of at most 64 bits, got {val.shown(event.step)}: it was kept without one")
    said: Any = event.metadata or {}
    if not isinstance(said, Mapping):
        report("event:metadata", f"metadata of event {event.name!r} must be a mapping, got {val.told(said)}: it was kept under the name metadata")
        said = {"metadata": said}
    source_name: Any = event.source.name if isinstance(event.source, EventSource) else event.source
    return {
        "event_id": ids.new_uuid(),
        "time_ms": round(seconds * 1000.0),
        "name": val.text_of(event.name),
        "source": val.text_of(source_name or ""),
        "subject": val.text_of(event.subject or ""),
        "step": number,
        "metadata": json_values(cast("Mapping[Any, Any]", said)),
    }


def rule_of(
    run_id: str,
    metric: str,
    operator: Operator | Literal["non_finite"],
    threshold: float | None,
    *,
    name: str,
    severity: Severity,
    text: str,
    context: str | enum.Enum | None,
    rank: int | None,
    channels: Sequence[str],
    now_ms: int,
    report: Report,
) -> dict[str, Any] | None:
    """The payload of a rule, whose id is the same from every rank that registers it; None where it is wrong, which is told."""
    metric = val.text_of(metric)
    wrong = _wrong_rule(operator, threshold, severity, rank)
    if wrong:
        # Told for each rule that differs: an alert that is missing is found out when it would have been needed.
        report(
            f"rule:{metric}:{val.shown(operator)}:{val.shown(threshold)}:{val.shown(severity)}:{val.shown(rank)}",
            f"rule on {metric!r} was not registered: {wrong}",
        )
        return None
    kind = "non_finite" if operator == "non_finite" else "threshold"
    where = val.context_of(context)
    limit = None if threshold is None else val.number_of(threshold)
    shown = val.text_of(name) or (f"{metric} is not finite" if kind == "non_finite" else f"{metric} {operator} {limit:g}")
    to = [val.text_of(channel) for channel in ([channels] if isinstance(channels, str) else channels)]
    return {
        "rule_id": ids.named_uuid("rule", run_id, metric, operator, repr(limit), where, str(rank), shown, severity, val.text_of(text), *to),
        "version": 1,
        "time_ms": now_ms,
        "name": shown,
        "kind": kind,
        "metric": metric,
        "run_id": run_id,
        "context": where,
        "rank": None if rank is None else val.step_of(rank),
        "operator": "" if kind == "non_finite" else operator,
        "threshold": limit,
        "severity": severity,
        "text": val.text_of(text),
        "channels": to,
    }


def _wrong_rule(operator: str, threshold: float | None, severity: str, rank: int | None) -> str:
    if operator != "non_finite" and operator not in _OPERATORS:
        return f"operator must be one of {' '.join(_OPERATORS)} or 'non_finite', got {val.shown(operator)}"
    if operator == "non_finite" and threshold is not None:
        return f"non_finite takes no threshold, got {val.shown(threshold)}"
    limit = val.number_of(threshold)
    if operator != "non_finite" and (limit is None or math.isnan(limit)):
        return f"threshold must be a number, got {val.shown(threshold)}"
    if severity not in ("info", "warning", "critical"):
        return f"severity must be info, warning or critical, got {val.shown(severity)}"
    if rank is not None and not 0 <= (-1 if (number := val.step_of(rank)) is None else number) < 1 << 31:
        return f"rank must be an integer from 0, got {val.shown(rank)}"
    return ""


def change_of(fields: Mapping[str, Any], now_ms: int, report: Report) -> dict[str, Any]:
    """The payload of what is said of a run; None says nothing."""
    said: dict[str, Any] = {}
    for key, value in fields.items():
        if value is None:
            continue
        if key in _RUN_TEXTS:
            said[key] = val.text_of(value)
        elif key == "tags" and isinstance(value, Iterable):
            said[key] = [val.text_of(tag) for tag in ([value] if isinstance(value, str) else cast("Iterable[Any]", value))]
        elif key == "metadata" and isinstance(value, Mapping):
            said[key] = json_values(cast("Mapping[Any, Any]", value))
        else:
            wanted = {"tags": "a list of texts", "metadata": "a mapping"}.get(key, f"one of {', '.join(sorted(_RUN_TEXTS))}, tags, metadata")
            report(f"run:{key}", f"{key!r} of the run was not recorded: expected {wanted}, got {val.told(value)}")
    return {"time_ms": now_ms} | said
