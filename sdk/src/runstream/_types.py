"""The small types of the SDK's face: contexts, events, and what `finish` says."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import datetime as dt
    from pathlib import Path


class Context(enum.Enum):
    """The usual phases of a run; any Enum or text of your own serves as well."""

    TRAINING = "training"
    VALIDATION = "validation"
    TESTING = "testing"


@dataclass(frozen=True, slots=True)
class EventSource:
    """What says that something happened, such as `EventSource("trainer")`."""

    name: str


def _nothing() -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at a moment.

    Args:
        name: what happened, such as `checkpoint_started`.
        source: what says so.
        time: epoch seconds or a datetime; the moment of the call if None.
        metadata: whatever JSON can hold.
        subject: what it is about, such as `checkpoint/step-100`; the run itself if empty.
        step: the step it belongs to, if any.
    """

    name: str
    source: EventSource | str = ""
    time: float | dt.datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=_nothing)
    subject: str = ""
    step: int | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """How `finish` ended: whether everything is acknowledged by Kafka, else how many rows are not yet, the folder that keeps them, and why, as far as is known."""

    shipped: bool
    rows_left: int
    folder: Path | None
    trouble: str = ""
