"""The message of an alert: the rule's template with what is known filled in.

Only plain names in braces are replaced, and a name that is not known stays as it stands: a template comes from users and is never formatted as Python.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runstream_rules.series import Series
    from runstream_schemas.records import AlertState, Rule

MESSAGE_CHARACTERS_MAX = 4_000  # Names repeat as often as a template says, so that a short one can come to gigabytes.
_FIELD = re.compile(r"\{([a-z_]+(?:\.[^{}]*)?)\}")
_RELATIONS: Mapping[str, tuple[str, str]] = {
    "threshold": ("is {operator} {threshold}", "is no longer {operator} {threshold}"),
    "aggregate": ("{aggregate} is {operator} {threshold}", "{aggregate} is no longer {operator} {threshold}"),
    "change": ("changed by more than {threshold} from {baseline}", "changed by no more than {threshold} from {baseline}"),
    "zscore": ("is more than {threshold} deviations from {baseline}", "is back near {baseline}"),
    "non_finite": ("is not finite", "is finite again"),
    "plateau": ("has not improved on {baseline} for {window} points", "improves again"),
    "divergence": ("was worse {window} times in a row", "is no longer getting worse"),
    "throughput": ("steps a second, down from {baseline}", "steps a second again"),
    "stale": ("seconds without a point", "logged again"),
    "run_state": ("ranks are {states}", "ranks are {states}"),
    "straggler": ("is more than {threshold} times the median, {baseline}", "is near the median, {baseline}, again"),
    "desync": ("steps behind the fastest rank", "steps behind the fastest rank"),
    "disagreement": ("is how far ranks are apart", "is how far ranks are apart"),
}
_RULE_NAMES = ("rule", "kind", "severity", "operator", "threshold", "clear", "aggregate", "window", "states")
_MOMENT_NAMES = ("state", "relation", "metric", "context", "subject", "rank", "step", "value", "baseline", "run_id", "project")
NAMES = frozenset((*_RULE_NAMES, *_MOMENT_NAMES))


def message(rule: Rule, state: AlertState, *, series: Series, rank: int, step: int, value: float, baseline: float | None, run_id: str, project: str) -> str:
    """The message for people of one transition; what is longer than `MESSAGE_CHARACTERS_MAX` is cut, and ends in …."""
    known = {
        "rule": rule.name,
        "kind": rule.kind,
        "severity": rule.severity,
        "state": state,
        "metric": series.metric,
        "context": series.context,
        "subject": series.subject,
        "rank": str(rank),
        "step": str(step),
        "value": _number(value),
        "baseline": _number(baseline),
        "operator": rule.operator,
        "threshold": "" if rule.threshold is None else f"{rule.threshold:g}",
        "clear": "" if rule.clear is None else f"{rule.clear:g}",
        "aggregate": rule.aggregate,
        "window": str(rule.window),
        "states": " or ".join(rule.states),
        "run_id": run_id,
        "project": project,
    }
    known |= {f"labels.{name}": text for name, text in rule.labels.items()}
    fired, resolved = _RELATIONS.get(rule.kind, ("", ""))
    known["relation"] = _filled(fired if state == "firing" else resolved, known)
    return _filled(rule.text or _template(rule), known)


def unknown_names(text: str, labels: Iterable[str] = ()) -> list[str]:
    """Names in braces that nothing stands for."""
    known = NAMES | {f"labels.{name}" for name in labels}
    return [name for name in _FIELD.findall(text) if name not in known]


def _template(rule: Rule) -> str:
    if rule.kind == "run_state":
        return "{rule}: {value} {relation}, the first is rank {rank}"
    return "{rule}: {metric} = {value} {relation} at step {step}, rank {rank}"


def _filled(template: str, known: Mapping[str, str]) -> str:
    parts: list[str] = []
    room, at = MESSAGE_CHARACTERS_MAX, 0
    for found in _FIELD.finditer(template):
        for part in (template[at : found.start()], known.get(found[1], found[0])):
            parts.append(part[: room + 1])
            room -= len(parts[-1])
        at = found.end()
        if room < 0:
            break
    text = "".join((*parts, template[at : at + room + 1] if room >= 0 else ""))
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
