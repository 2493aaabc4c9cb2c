"""Whom an alert goes to, or why to nobody. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_processors.notify.memory import NOBODY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_processors.notify.channels import Channel
    from runstream_processors.notify.memory import Memory
    from runstream_schemas.records import Alert, DeliveryOutcome


@dataclass(frozen=True, slots=True)
class Nobody:
    """A channel that is told nothing (or no channel at all, with an empty name), and why."""

    channel: str
    outcome: DeliveryOutcome
    reason: str


@dataclass(frozen=True, slots=True)
class Route:
    """The channels to tell, what is recorded without telling, and whether all of it was known already."""

    channels: tuple[str, ...] = ()
    nobody: tuple[Nobody, ...] = ()
    repeated: bool = False


def route(alert: Alert, channels: Mapping[str, Channel], memory: Memory, silence: str, now_ms: int, late_ms: int) -> Route:
    """Decides on an alert that `silence` (an id, or empty) holds back. Nothing is noted in the memory here.

    An alert that was late when it was decided notifies nobody, nor does one that has become as old since, nor the end of an alert whose beginning notified nobody.
    """
    wanted = _wanted(alert, channels, silence, now_ms, late_ms)
    if alert.version > 0 and not wanted.nobody and memory.knows(alert.alert_id, alert.version - 1, NOBODY):
        wanted = Route(nobody=(Nobody(NOBODY, "silenced", "its beginning notified nobody"),))
    fresh = Route(
        tuple(name for name in wanted.channels if not memory.knows(alert.alert_id, alert.version, name)),
        tuple(one for one in wanted.nobody if not memory.knows(alert.alert_id, alert.version, one.channel)),
    )
    return fresh if fresh.channels or fresh.nobody else Route(repeated=True)


def _wanted(alert: Alert, channels: Mapping[str, Channel], silence: str, now_ms: int, late_ms: int) -> Route:
    if alert.late or now_ms - alert.time_ms > late_ms:
        return Route(nobody=(Nobody(NOBODY, "late", "" if alert.late else "it was decided in time and read late"),))
    if silence:
        return Route(nobody=(Nobody(NOBODY, "silenced", silence),))
    names = tuple(dict.fromkeys(alert.channels)) or tuple(channels)
    told = tuple(name for name in names if name in channels and channels[name].takes(alert.severity))
    missing = tuple(Nobody(name, "unrouted", "there is no channel of this name") for name in names if name and name not in channels)
    if not told and not missing:
        return Route(nobody=(Nobody(NOBODY, "unrouted", "no channel takes its severity" if channels else "there are no channels"),))
    return Route(told, missing)
