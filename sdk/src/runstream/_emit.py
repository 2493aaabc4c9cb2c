"""`emit_event`: events of processes that have no run, such as a scheduler or a server that uses a model.

They go into a journal of this process and are shipped as any run's are; their writer is a client, of no run.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from runstream import _checks
from runstream._types import Event
from runstream_producers.journal import values as val

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping

    from runstream._run import Run
    from runstream._types import EventSource

_lock = threading.Lock()


class _Client:
    run: Run | None = None


def swap(client: Run | None) -> Run | None:
    """Puts another writer in the place of this process's client, for tests; returns the one that was there."""
    before, _Client.run = _Client.run, client
    return before


def emit_event(
    event: Event | str,
    *,
    subject: str = "",
    metadata: Mapping[str, Any] | None = None,
    source: EventSource | str = "",
    time: float | dt.datetime | None = None,
    step: int | None = None,
) -> str:
    """Logs something that happened to a model, a checkpoint or a data set, from a process without a run; returns its id, empty where it could not be recorded.

    The first call begins a journal, by the settings that hold then; what was emitted is waited for when the process ends, as a run is.

    Args:
        event: what happened, as an `Event` or by its name and the other arguments.
        subject: what it is about, such as `model/bert/3`; needed, here or in the event.
        metadata: whatever JSON can hold.
        source: what says so.
        time: epoch seconds or a datetime; the moment of the call if None.
        step: the step it belongs to, if any.

    Example:
        >>> event_id = runstream.emit_event("deployed", subject="model/bert/3", source="server", metadata={"replicas": 2})
    """
    if not isinstance(event, Event):
        event = Event(event, source=source, time=time, metadata={} if metadata is None else metadata, step=step, subject=subject)
    client = _client()
    if event.subject is None or not _checks.readable(event.subject):  # pyright: ignore[reportUnnecessaryComparison]  # what callers do
        client.tell(
            "emit_event:subject",
            f"subject of emit_event must be a text such as model/bert/3, got {val.shown(event.subject)}: event {val.shown(event.name)} was not recorded",
        )
        return ""
    return client.log_event(event)


def _client() -> Run:
    from runstream._init import begin_client

    with _lock:
        if _Client.run is None or not _Client.run.alive:
            _Client.run = begin_client()
        return _Client.run
