"""Whether a rule can be applied. What fits which field is said once, in the schemas; here it becomes the core's error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_rules.errors import RuleRefused
from runstream_schemas.rule_fields import refusals

if TYPE_CHECKING:
    from runstream_schemas.records import Rule


def check(rule: Rule) -> None:
    """Raises RuleRefused naming the first field that does not fit, what was expected and what came."""
    for field, expected, got in refusals(rule):
        raise RuleRefused(field, expected, got)
