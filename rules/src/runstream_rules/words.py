"""A rule's condition in a few words, for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_schemas.rule_fields import FIELDS

if TYPE_CHECKING:
    from runstream_schemas.records import Rule


def condition(rule: Rule) -> str:
    """What the rule waits for, such as `median of 50 > 2, clear 1.5, for 30 s`."""
    parts = [_figure(rule)] if rule.kind in FIELDS else [rule.kind]
    if rule.clear is not None:
        parts.append(f"clear {rule.clear:g}")
    if rule.for_s:
        parts.append(f"for {rule.for_s:g} s")
    return ", ".join(filter(None, parts))


def selectors(rule: Rule) -> str:
    """What the rule watches besides a metric, such as `project digits, rank 0`; empty where it is everything."""
    pairs = (("project", rule.project), ("run", rule.run_id), ("context", rule.context), ("rank", "" if rule.rank is None else str(rule.rank)))
    return ", ".join(f"{name} {value}" for name, value in pairs if value)


def _figure(rule: Rule) -> str:
    bound = "" if rule.threshold is None else f"{rule.threshold:g}"
    if rule.operator:
        window = f"{rule.window} points" if rule.window else f"{rule.window_s:g} s"
        return f"{rule.aggregate} of {window} {rule.operator} {bound}" if rule.aggregate else f"{rule.operator} {bound}"
    if rule.kind == "run_state":
        return " or ".join(rule.states)
    if rule.kind == "non_finite":
        return "NaN or infinite"
    words = [" ".join(filter(None, (rule.direction, f"more than {bound}" if bound else ""))), rule.measure, f"goal {rule.goal}" if rule.goal else ""]
    if rule.window:
        words.append(f"window {rule.window}")
    if rule.window_s:
        words.append(f"{rule.window_s:g} s")
    return ", ".join(filter(None, words))
