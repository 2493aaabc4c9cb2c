"""How long rows are kept: from `metrics=90d` to the statements that make ClickHouse retire older rows and that write down that they may. Pure; `commands/migrate` sends them.

Points go by the start of the process that logged them, other rows by the time at which they were inserted, never by a time that users log. What says that runs and processes exist
(runs, writers, rules, silences) is kept for ever: it is small, and the account stands on it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runstream_sinks.layout import literal, rows_table
from runstream_sinks.migrations import Change

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_sinks.layout import Cluster

# The table under each view, and the moment that its rows' age counts from.
RETAINED = {
    "metrics": ("metric_points", "started"),
    "hardware": ("hardware_points", "started"),
    "summaries": ("summary_series", "toDateTime(started)"),
    "rollups": ("metric_rollups", "started"),
    "events": ("events_log", "received"),
    "params": ("params_log", "received"),
    "metric_values": ("values_log", "received"),
    "media": ("media_log", "received"),
    "artifacts": ("artifacts_log", "received"),
    "alerts": ("alerts_log", "received"),
    "deliveries": ("deliveries_log", "received"),
    "dead_letters": ("dead_letters_log", "received"),
}
DAYS_MAX = 36_500
_DAYS_OF = {"d": 1, "w": 7, "y": 365}


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows of a view are kept so many days; 0 is for ever."""

    name: str
    days: int


def parse(text: str) -> Keep:
    """A retention from `VIEW=90d`, with d, w or y, or `VIEW=off`.

    Raises:
        ValueError: in one sentence, what was expected and what came.
    """
    name, _, much = text.partition("=")
    if name not in RETAINED:
        raise ValueError(f"expected one of {', '.join(RETAINED)} before =, got {name!r}")
    if much == "off":
        return Keep(name, 0)
    found = re.fullmatch(r"(\d{1,6})([dwy])", much)
    days = int(found[1]) * _DAYS_OF[found[2]] if found else 0
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(f"expected {name}= with 1d to 100y (d, w or y), or off, got {much!r}")
    return Keep(name, days)


def changes(wanted: Sequence[Keep], now: Mapping[str, int], cluster: Cluster | None) -> list[Change]:
    """What leads from the days that hold `now`, by view, to those that are wanted."""
    return [_change(one, now.get(one.name, 0), cluster) for one in wanted if one.days != now.get(one.name, 0)]


def _change(keep: Keep, days_now: int, cluster: Cluster | None) -> Change:
    table, moment = RETAINED[keep.name]
    clause = f"MODIFY TTL {moment} + INTERVAL {keep.days} DAY" if keep.days else "REMOVE TTL"
    alter = f"ALTER TABLE {rows_table(table, cluster)} {clause}"
    note = f"INSERT INTO retention_log (name, since, days) SELECT {literal(keep.name)}, now64(3), {keep.days}"
    shorter = keep.days and not 0 < days_now < keep.days
    # The account may think rows retired that are still there, never the other way round, wherever this is cut off.
    statements = (note, alter) if shorter else (alter, note)
    return Change(f"{keep.name} kept {f'{keep.days} days' if keep.days else 'for ever'}", statements)
