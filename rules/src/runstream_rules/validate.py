"""Whether a rule can be applied: the fields that every kind shares, then those of its kind.

Used where a rule is made (so that the user hears of it) and where rules are learned from the topic (so that a bad one harms nobody).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from runstream_rules.errors import RuleRefused
from runstream_rules.kinds import KINDS
from runstream_rules.kinds.base import a
from runstream_rules.patterns import PATTERN_CHARACTERS_MAX

if TYPE_CHECKING:
    from runstream_schemas.records import Rule

SEVERITIES = ("info", "warning", "critical")
# Fields that some kinds read and others do not, with what stands there when they are left out.
_OWN: dict[str, Any] = {
    "operator": "",
    "threshold": None,
    "clear": None,
    "aggregate": "",
    "window": 0,
    "window_s": 0.0,
    "baseline": 0,
    "measure": "",
    "direction": "",
    "goal": "",
    "states": (),
}
_TIMES_S_MAX = 366 * 86_400.0
_NO_WAITING = ("stale", "run_state")
_NO_METRIC = ("run_state",)


def check(rule: Rule) -> None:
    """Raises RuleRefused naming the first field that does not fit, what was expected and what came."""
    if rule.kind not in KINDS:
        raise RuleRefused("kind", f"one of {', '.join(KINDS)}", rule.kind)
    for field in ("rule_id", "name", "metric"):
        text = getattr(rule, field)
        if field == "metric" and rule.kind in _NO_METRIC:
            if text not in ("", "*"):
                raise RuleRefused("metric", f"left out of {a(rule.kind)} rule", text)
        elif not isinstance(text, str) or not text:
            raise RuleRefused(field, "a text that is not empty", text)
    if "/" in rule.rule_id:
        # The topic's key is the id, with a slash and a writer behind it where a writer registered it.
        raise RuleRefused("rule_id", "a text without /", rule.rule_id)
    if len(rule.metric) > PATTERN_CHARACTERS_MAX:
        raise RuleRefused("metric", f"a text of at most {PATTERN_CHARACTERS_MAX} characters", rule.metric[:60] + "…")
    if rule.version < 0:
        raise RuleRefused("version", "0 or more", rule.version)
    if rule.severity not in SEVERITIES:
        raise RuleRefused("severity", f"one of {', '.join(SEVERITIES)}", rule.severity)
    if rule.rank is not None and rule.rank < 0:
        raise RuleRefused("rank", "0 or more, or left out for every rank", rule.rank)
    if rule.ordinal < 0:
        raise RuleRefused("ordinal", "0 or more", rule.ordinal)
    for field in ("for_s", "cooldown_s"):
        seconds: float = getattr(rule, field)
        # Said the other way round, NaN would pass.
        if not 0.0 <= seconds <= _TIMES_S_MAX or not math.isfinite(seconds):
            raise RuleRefused(field, "a number of seconds, from 0 to a year", seconds)
    kind = KINDS[rule.kind]
    for field, nothing in _OWN.items():
        value = tuple(rule.states) if field == "states" else getattr(rule, field)
        if field not in kind.fields and value != nothing:
            raise RuleRefused(field, f"left out of {a(rule.kind)} rule", value)
    if rule.for_s and rule.kind in _NO_WAITING:
        raise RuleRefused("for_s", f"left out of {a(rule.kind)} rule", rule.for_s)
    kind.check(rule)
