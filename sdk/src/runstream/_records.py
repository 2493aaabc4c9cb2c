"""The payloads of records that are no metric rows: what was given becomes what the schema takes, and what does not fit is told. Pure, but for the ids of events.

Each function takes the `report` to which it says what it left out or changed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from runstream import _checks
from runstream._params import json_values, told_of
from runstream._types import Event, EventSource
from runstream_producers.journal import blobs
from runstream_producers.journal import values as val
from runstream_schemas import ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_schemas.records import Severity

    Report = Callable[[str, str], None]

# Keys of a run's metadata that stand for its place among others; users' keys do not begin so.
_OURS = "runstream."
_PLACES = frozenset({"group", "parent"})
_RUN_TEXTS = frozenset({"name", "owner", "namespace", "external_id", "framework", "task", "notes"})


def event_of(event: Event, now_s: float, report: Report) -> dict[str, Any]:
    """The payload of an event that is logged at `now_s`, with an id of its own."""
    seconds = now_s if event.time is None else val.seconds_of(event.time)
    if seconds is None:
        report(
            "event:time",
            f"time of event {val.shown(event.name)} must be seconds since 1970 or a datetime, got {val.shown(event.time)}: it was kept with the time of the call",
        )
        seconds = now_s
    number = None if event.step is None else val.step_of(event.step)
    if event.step is not None and number is None:
        report(
            "event:step", f"step of event {val.shown(event.name)} must be an integer of at most 64 bits, got {val.shown(event.step)}: it was kept without one"
        )
    said: Any = {} if event.metadata is None else event.metadata  # pyright: ignore[reportUnnecessaryComparison]  # what callers do
    if not isinstance(said, Mapping):
        report("event:metadata", f"metadata of event {val.shown(event.name)} must be a mapping, got {val.told(said)}: it was kept under the name metadata")
        said = {"metadata": said}
    source_name: Any = event.source.name if isinstance(event.source, EventSource) else event.source
    return {
        "event_id": ids.new_uuid(),
        "time_ms": round(seconds * 1000.0),
        "name": _checks.safe_text(event.name),
        "source": _checks.text_of("the event", "source", source_name, report),
        "subject": _checks.text_of("the event", "subject", event.subject, report),
        "step": number,
        "metadata": json_values("the event", cast("Mapping[Any, Any]", said), report),
    }


def change_of(fields: Mapping[str, Any], now_ms: int, report: Report) -> dict[str, Any]:
    """The payload of what is said of a run; None says nothing."""
    said: dict[str, Any] = {}
    for key, value in fields.items():
        if value is None:
            continue
        if key in _RUN_TEXTS:
            said[key] = _checks.text_of("the run", key, value, report)
        elif key in _PLACES:
            place = getattr(value, "id", value) if key == "parent" else value
            said.setdefault("metadata", {})[f"{_OURS}{key}"] = json.dumps(_checks.text_of("the run", key, place, report))
        elif key == "tags" and isinstance(value, Iterable):
            if isinstance(value, str):
                report("run:tags", f"tags of the run must be a list of texts, got the text {val.shown(value)}: it was taken as one tag")
            said[key] = [
                _checks.text_of("the run", "each of tags", tag, report) for tag in ([value] if isinstance(value, str) else cast("Iterable[Any]", value))
            ]
        elif key == "metadata" and isinstance(value, Mapping):
            found = json_values("the run", cast("Mapping[Any, Any]", value), report)
            ours = [name for name in found if name.startswith(_OURS)]
            for name in ours:
                del found[name]
                report(f"run:{name}", f"metadata {val.shown(name)} of the run was not recorded: names that begin with {_OURS!r} are taken")
            if found or not ours:
                said.setdefault(key, {}).update(found)
        else:
            wanted = {"tags": "a list of texts", "metadata": "a mapping"}.get(key, f"one of {', '.join(sorted(_RUN_TEXTS | _PLACES))}, tags, metadata")
            report(f"run:{key}", f"{key!r} of the run was not recorded: expected {wanted}, got {val.told(value)}")
    return {"time_ms": now_ms} | said


def definition_of(metric: str, role: str, said: str, now_ms: int) -> dict[str, Any]:
    """The payload of something that is said of a metric, such as its unit."""
    names = {"kind": "list", "value": json.dumps([metric])}
    return {"time_ms": now_ms, "name": said, "role": role} | names


def summary_of(name: str, value: Any, now_ms: int, report: Report) -> dict[str, Any] | None:
    """The payload of a summary value; None where it is none that can be kept, which is told."""
    kind, text = told_of(value)
    fields: dict[str, Any] | None = {"kind": kind, "value": text}
    if kind is None:
        try:
            fields = blobs.blob_of(value)
        except ValueError as error:
            report(f"summary:{name}", f"summary value {val.shown(name)} was not set: {error}")
            return None
    if fields is None:
        report(
            f"summary:{name}",
            f"summary value {val.shown(name)} was not set: expected bool, int, float, string, None, a list or dict of them, bytes or an array, got {val.told(value)}",
        )
        return None
    return {"time_ms": now_ms, "name": name, "role": "summary"} | fields


def alert_of(
    title: str,
    text: str,
    level: Severity,
    step: int | None,
    subject: str,
    labels: Mapping[str, str] | None,
    channels: Sequence[str],
    now_ms: int,
    report: Report,
) -> dict[str, Any]:
    """The payload of an alert that code raises at once: it belongs to no rule, and its value is none."""
    number = 0 if step is None else val.step_of(step)
    if number is None:
        report("alert:step", f"step of alert {val.shown(title)} must be an integer of at most 64 bits, got {val.shown(step)}: it was kept without one")
    return {
        "alert_id": ids.new_uuid(),
        "version": 0,
        "state": "firing",
        "rule_id": "",
        "rule_version": 0,
        "rule_name": title,
        "kind": "code",
        "severity": level,
        "metric": "",
        "context": "",
        "subject": subject,
        "step": number or 0,
        "time_ms": now_ms,
        "value": math.nan,
        "operator": "",
        "threshold": None,
        "text": text,
        "late": False,
        "decided_ms": now_ms,
        "channels": _checks.texts_of("alert", "channels", channels, report),
        "labels": _checks.labels_of("alert", labels, report),
        "opened_ms": now_ms,
    }
