"""Whether a rule can be applied: the fields that every kind shares, then those of its kind.

Used where a rule is made (so that the user hears of it) and where rules are learned from the topic (so that a bad one harms nobody).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_rules.errors import RuleRefused
from runstream_rules.kinds import KINDS

if TYPE_CHECKING:
    from runstream_schemas.records import Rule

SEVERITIES = ("info", "warning", "critical")


def check(rule: Rule) -> None:
    """Raises RuleRefused naming the first field that does not fit, what was expected and what came."""
    for field in ("rule_id", "name", "metric"):
        text = getattr(rule, field)
        if not isinstance(text, str) or not text:
            raise RuleRefused(field, "a text that is not empty", text)
    if rule.version < 0:
        raise RuleRefused("version", "0 or more", rule.version)
    if rule.kind not in KINDS:
        raise RuleRefused("kind", f"one of {', '.join(KINDS)}", rule.kind)
    if rule.severity not in SEVERITIES:
        raise RuleRefused("severity", f"one of {', '.join(SEVERITIES)}", rule.severity)
    if rule.rank is not None and rule.rank < 0:
        raise RuleRefused("rank", "0 or more, or left out for every rank", rule.rank)
    if rule.ordinal < 0:
        raise RuleRefused("ordinal", "0 or more", rule.ordinal)
    KINDS[rule.kind].check(rule)
