"""Alerts and silences as tables for a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.text import Text

from runstream_processors.rule_tables import console, severity, table
from runstream_rules.silences import holds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream_processors.alert_store import StoredAlert
    from runstream_schemas.records import Alert, Silence

_ID_SHOWN = 8


def alerts(rows: Sequence[tuple[StoredAlert, str]], known: Mapping[str, Silence], *, limit: int) -> None:
    """Alerts, each with the id of the silence that holds it back now, if any."""
    out = console()
    made = table("alert", "state", "severity", "rule", "series", "fired", "value", "text")
    for one, silence_id in rows:
        alert = one.alert
        state = Text("resolved", "green") if one.resolved_ms else Text("firing", "bold red")
        if one.rule_removed and not one.resolved_ms:
            state = Text("rule removed", "dim")
        elif silence_id:
            why = "acknowledged" if known[silence_id].alert_id else "silenced"
            state = Text(f"{state.plain}, {why}", "dim")
        made.add_row(
            alert.alert_id[:_ID_SHOWN],
            state,
            severity(alert.severity),
            Text(alert.rule_name),
            Text(series(alert)),
            moment(alert.time_ms),
            f"{alert.value:.6g}",
            Text(alert.text),
        )
    if rows:
        out.print(made)
    more = f", --limit {2 * limit} shows more" if len(rows) == limit else ""
    out.print(f"{len(rows)} {'alert' if len(rows) == 1 else 'alerts'}{more}")


def silences(every: Sequence[Silence], now_ms: int) -> None:
    """Silences and acknowledgements, and whether they hold."""
    out = console()
    made = table("id", "state", "for", "from", "until", "author", "comment")
    for one in every:
        state = Text("holds", "green") if holds(one, now_ms) else Text("not yet", "cyan") if one.starts_ms > now_ms else Text("over", "dim")
        made.add_row(one.silence_id, state, Text(meant(one)), moment(one.starts_ms), until(one), Text(one.author), Text(one.comment))
    if every:
        out.print(made)
    out.print(f"{len(every)} {'silence' if len(every) == 1 else 'silences'}")


def meant(silence: Silence) -> str:
    """Which alerts a silence is for, in words."""
    pairs = (
        ("alert", silence.alert_id),
        ("rule", silence.rule_id),
        ("run", silence.run_id),
        ("project", silence.project),
        ("metric", silence.metric),
        *((f"label {name}", text) for name, text in sorted(silence.labels.items())),
    )
    return ", ".join(f"{name} {text}" for name, text in pairs if text) or "everything"


def until(silence: Silence) -> str:
    """When it ends, in words."""
    return moment(silence.ends_ms) if silence.ends_ms else "until it is ended"


def series(alert: Alert) -> str:
    """The series of an alert, in words; for one on a run's state, its rank."""
    where = f" [{', '.join(filter(None, (alert.context, alert.subject)))}]" if alert.context or alert.subject else ""
    return f"{alert.metric}{where} rank {alert.rank}".strip()


def moment(time_ms: int) -> str:
    """A time for people, UTC."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
