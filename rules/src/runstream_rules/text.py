"""The message of an alert: the rule's template with what is known filled in.

Only plain names in braces are replaced, and a name that is not known stays as it stands: a template comes from users and is never formatted as Python.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_schemas.records import AlertState, Rule

_FIELD = re.compile(r"\{([a-z_]+)\}")
_COMPARED = "{rule}: {metric} = {value} {relation} {operator} {threshold} at step {step}, rank {rank}"
_PLAIN = "{rule}: {metric} = {value} {relation} at step {step}, rank {rank}"
_RELATIONS: Mapping[tuple[str, str], str] = {
    ("threshold", "firing"): "is",
    ("threshold", "resolved"): "is no longer",
    ("non_finite", "firing"): "is not finite",
    ("non_finite", "resolved"): "is finite again",
}


def message(rule: Rule, state: AlertState, *, metric: str, context: str, subject: str, rank: int, step: int, value: float, run_id: str) -> str:
    """The message for people of one transition."""
    known = {
        "rule": rule.name,
        "severity": rule.severity,
        "operator": rule.operator,
        "threshold": "" if rule.threshold is None else f"{rule.threshold:g}",
        "metric": metric,
        "context": context,
        "subject": subject,
        "rank": str(rank),
        "step": str(step),
        "value": f"{value:.6g}",
        "run_id": run_id,
        "state": state,
        "relation": _RELATIONS.get((rule.kind, state), state),
    }
    template = rule.text or (_COMPARED if rule.threshold is not None else _PLAIN)
    return _FIELD.sub(lambda found: known.get(found[1], found[0]), template)
