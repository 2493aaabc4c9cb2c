"""The payloads of records that are no metric rows: what was given becomes what the schema takes, and what does not fit is told. Pure, but for the ids of events.

Each function takes the `report` to which it says what it left out or changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from runstream._params import json_values
from runstream._types import Event, EventSource
from runstream_producers.journal import values as val
from runstream_schemas import ids

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable

    from runstream_schemas.records import Severity

    Report = Callable[[str, str], None]

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
