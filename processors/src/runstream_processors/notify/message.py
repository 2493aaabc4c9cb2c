"""What a message says: a title and a text for people, JSON for webhooks, a line for the log. Pure shaping of a batch; nothing here sends.

A message is bounded whatever it tells: a few ranks, a few alerts, a few groups, and how many more there are.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from runstream_processors.notify.channels import SEVERITIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_processors.notify.lane import Batch, Item
    from runstream_schemas.records import Alert, Severity

RANKS_SHOWN = 10
ALERTS_SHOWN = 20
GROUPS_SHOWN = 20
TEXT_MAX = 500

Kind = Literal["alert", "group", "summary", "test"]
State = Literal["firing", "resolved", "mixed"]


@dataclass(frozen=True, slots=True)
class Message:
    """What every way of sending gets. `incident` is the same for all that is told of a rule and run, `still_firing` is how many of its alerts fire after this message."""

    message_id: str
    channel: str
    kind: Kind
    title: str
    text: str
    severity: Severity
    state: State
    still_firing: int
    incident: str
    body: dict[str, Any]


def line(alert: Alert) -> str:
    """The alert as one line for a terminal or a log."""
    late = " (late, nobody was notified)" if alert.late else ""
    return " ".join(f"{_when(alert.time_ms)} {alert.severity.upper()} {alert.state}: {alert.text} [run {alert.run_id}]{late}".split())


def payload(alert: Alert) -> dict[str, Any]:
    """The alert as JSON: its fields under their names, numbers that JSON has no word for as text."""
    fields = asdict(alert)
    fields["channels"] = list(alert.channels)
    fields["writer"] = str(alert.writer)  # 63 bits: more than a JSON reader that works with doubles can hold.
    return {name: _plain(value) for name, value in fields.items()}


def message_of(batch: Batch, channel: str) -> Message:
    """The message of a batch."""
    alerts = [item.alert for item in batch.items]
    severity = max(alerts, key=lambda alert: SEVERITIES.index(alert.severity)).severity
    state: State = alerts[0].state if len({alert.state for alert in alerts}) == 1 else "mixed"
    kind: Kind = "summary" if len(batch.groups) > 1 else "alert" if len(alerts) == 1 else "group"
    still_firing = sum(batch.still_firing) if state == "resolved" else len({alert.alert_id for alert in alerts if alert.state == "firing"})
    groups = [_group_payload(group, left) for group, left in zip(batch.groups, batch.still_firing, strict=True)]
    if kind == "summary":
        title = f"[{severity.upper()}] {len(alerts)} alerts of {len({alert.rule_id for alert in alerts})} rules"
        lines = [_group_line(group) for group in batch.groups[:GROUPS_SHOWN]]
        text = "\n".join((*lines, *_more(len(batch.groups) - GROUPS_SHOWN, "groups of alerts")))
        incident = f"summary/{batch.message_id}"
    else:
        first = alerts[0]
        ranks = f" on {_count(len({alert.rank for alert in alerts}), 'rank')}" if kind == "group" else ""
        title = f"[{severity.upper()}] {_short(first.rule_name)} {first.state}{ranks}"
        text = _alert_text(first) if kind == "alert" else _group_text(batch.items)
        if state == "resolved" and still_firing:
            text += f"\nstill firing: {_count(still_firing, 'alert')} of this rule and run"
        incident = f"{first.rule_id or first.rule_name}/{first.run_id}"
    if batch.untold:
        text += f"\n{_count(batch.untold, 'more alert')} came than could be kept: `runstream sql` and the view deliveries know them"
    body: dict[str, Any] = {
        "id": batch.message_id,
        "channel": channel,
        "type": kind,
        "title": title,
        "text": text,
        "severity": severity,
        "state": state,
        "count": len(alerts),
        "untold": batch.untold,
        "still_firing": still_firing,
        "groups": groups[:GROUPS_SHOWN],
        "groups_total": len(groups),
        "alerts": [payload(alert) for alert in alerts[:ALERTS_SHOWN]],
    }
    return Message(batch.message_id, channel, kind, title, text, severity, state, still_firing, incident, body)


def trial_message(channel: str, message_id: str) -> Message:
    """What `runstream notify test` sends."""
    title, text = f"[TEST] Runstream reaches the channel {channel}", "Nothing is wrong: somebody tried this channel with `runstream notify test`."
    body: dict[str, Any] = {"id": message_id, "channel": channel, "type": "test", "title": title, "text": text, "severity": "info", "state": "resolved"}
    body |= {"count": 0, "untold": 0, "still_firing": 0, "groups": [], "groups_total": 0, "alerts": []}
    return Message(message_id, channel, "test", title, text, "info", "resolved", 0, f"test/{channel}", body)


def worst_of(alerts: Sequence[Alert]) -> Alert:
    """The alert with the worst figure: one that is not finite, else the one farthest beyond the threshold, else the greatest."""

    def badness(alert: Alert) -> float:
        if not math.isfinite(alert.value):
            return math.inf
        return -alert.value if alert.operator in ("<", "<=") else alert.value

    return max(alerts, key=badness)


def _alert_text(alert: Alert) -> str:
    facts = [
        f"run {alert.run_id}",
        f"project {_short(alert.project)}" if alert.project else "",
        f"rank {alert.rank}",
        f"step {alert.step}",
        _when(alert.time_ms),
    ]
    series = "/".join(filter(None, (alert.subject, alert.context, alert.metric)))
    figures = [f"{_short(series)} = {alert.value:g}" if series else f"value {alert.value:g}", _bound(alert)]
    return "\n".join((_short(alert.text), " ".join(filter(None, figures)), ", ".join(filter(None, facts))))


def _group_text(group: Sequence[Item]) -> str:
    alerts = [item.alert for item in group]
    worst = worst_of(alerts)
    began, ended = min(alert.time_ms for alert in alerts), max(alert.time_ms for alert in alerts)
    return "\n".join(
        (
            f"{_count(len(alerts), 'alert')} {alerts[0].state}, on {_ranks(alerts)}",
            f"worst: rank {worst.rank} at step {worst.step}: {_short(worst.text)}",
            f"run {worst.run_id}{f', project {_short(worst.project)}' if worst.project else ''}, {_when(began)} to {_when(ended)}",
        )
    )


def _group_line(group: Sequence[Item]) -> str:
    alerts = [item.alert for item in group]
    worst = worst_of(alerts)
    if len(alerts) == 1:
        return f"{worst.severity} {worst.state}: {_short(worst.rule_name)}: {_short(worst.text)} [run {worst.run_id}]"
    return (
        f"{worst.severity} {worst.state}: {_short(worst.rule_name)}: {len(alerts)} alerts on {_ranks(alerts)}; worst: {_short(worst.text)} [run {worst.run_id}]"
    )


def _group_payload(group: Sequence[Item], left: int) -> dict[str, Any]:
    alerts = [item.alert for item in group]
    first, worst = alerts[0], worst_of(alerts)
    ranks = sorted({alert.rank for alert in alerts})
    return {
        "rule_id": first.rule_id,
        "rule_name": first.rule_name,
        "kind": first.kind,
        "run_id": first.run_id,
        "project": first.project,
        "severity": first.severity,
        "state": first.state,
        "count": len(alerts),
        "still_firing": left if first.state == "resolved" else len({alert.alert_id for alert in alerts}),
        "ranks": ranks[:RANKS_SHOWN],
        "ranks_total": len(ranks),
        "worst": {name: _plain(getattr(worst, name)) for name in ("alert_id", "metric", "rank", "step", "value", "text", "time_ms")},
        "first_ms": min(alert.time_ms for alert in alerts),
        "last_ms": max(alert.time_ms for alert in alerts),
    }


def _ranks(alerts: Sequence[Alert]) -> str:
    ranks = sorted({alert.rank for alert in alerts})
    shown = ", ".join(map(str, ranks[:RANKS_SHOWN]))
    more = f" and {len(ranks) - RANKS_SHOWN:,} more" if len(ranks) > RANKS_SHOWN else ""
    return f"{_count(len(ranks), 'rank')}: {shown}{more}"


def _bound(alert: Alert) -> str:
    if alert.threshold is None:
        return f"(against {alert.baseline:g})" if alert.baseline is not None else ""
    return f"(rule: {alert.operator} {alert.threshold:g})" if alert.operator else f"(rule: {alert.threshold:g})"


def _more(count: int, what: str) -> tuple[str, ...]:
    return (f"and {count:,} more {what}",) if count > 0 else ()


def _count(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _short(text: str) -> str:
    """The text in one line and bounded: a rule's template may bring anything."""
    one = " ".join(text.split())
    return one if len(one) <= TEXT_MAX else f"{one[: TEXT_MAX - 1]}…"


def _when(time_ms: int) -> str:
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
