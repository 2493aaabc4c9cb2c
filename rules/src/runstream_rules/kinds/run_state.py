"""Run state rules: a run has ended badly, or fell silent. Here are the fields; `fleet` watches the states."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from runstream_rules.errors import RuleRefused

if TYPE_CHECKING:
    from runstream_schemas.records import Rule

STATES = ("failed", "crashed", "killed", "preempted", "finished", "silent")
SILENT_S = 60.0


class RunState:
    """`states` is needed; `window_s` says when a rank is silent."""

    fields = frozenset({"states", "window_s"})

    def check(self, rule: Rule) -> None:
        """Raises RuleRefused for states that are none, and for a selector of metrics, which have no part in it."""
        unknown = sorted(set(rule.states) - set(STATES))
        if unknown or not rule.states:
            raise RuleRefused("states", f"some of {', '.join(STATES)}", list(rule.states))
        if not 0.0 <= rule.window_s < math.inf:
            raise RuleRefused("window_s", "a number of seconds, or left out", rule.window_s)
        if rule.context:
            raise RuleRefused("context", "left out of a run_state rule", rule.context)
        if rule.cooldown_s:
            raise RuleRefused("cooldown_s", "left out of a run_state rule", rule.cooldown_s)
