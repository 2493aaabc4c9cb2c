"""Alert rules from code: what `alert_on` was given becomes a rule's payload, or is told with the argument that does not fit. docs/rules.md says what each kind means.

What fits which kind is said once, in the schemas, for code and files alike.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, cast

from runstream_producers.journal import values as val
from runstream_schemas import ids
from runstream_schemas.durations import FORMS, seconds_of
from runstream_schemas.records import Rule
from runstream_schemas.rule_fields import OPERATORS, refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_schemas.records import Aggregate, Direction, Goal, Measure, Operator, RuleKind, Severity

    Report = Callable[[str, str], None]

# Arguments by what they are; what they may be besides, the kind decides.
_NUMBERS = ("threshold", "clear")
_COUNTS = ("window", "baseline")
_WORDS = ("kind", "operator", "aggregate", "measure", "direction", "goal")
_SECONDS = ("window_s", "for_s", "cooldown_s")


@dataclass(frozen=True, slots=True)
class Condition:
    """What an alert rule waits for: its kind, and the fields that the kind has, named as in rule files.

    Attributes:
        kind: `threshold`, `aggregate`, `change`, `zscore`, `non_finite`, `plateau`, `divergence`, `throughput`, `stale`, `run_state`, `straggler`, `desync` or `disagreement`.
        operator: `<`, `<=`, `>`, `>=`, `==` or `!=`, for `threshold` and `aggregate`.
        threshold: what the figure is compared with.
        clear: the bound at which it resolves; the threshold if None.
        aggregate: `min`, `max`, `mean`, `median` or `last`.
        window: points that are looked at; across ranks, steps of a block.
        window_s: seconds that are looked at, as a number or a text such as `"10m"`.
        baseline: points of the past that the window is compared with.
        measure: `relative` or `absolute`; `value` or `interval` for `straggler`.
        direction: `up`, `down` or `either`.
        goal: `min` or `max`: which way the metric should go.
        states: states that `run_state` waits for.

    Example:
        >>> slow = Condition("aggregate", aggregate="median", window=50, operator=">", threshold=2.0)
        >>> rule_id = run.alert_on("step_seconds", slow, for_s="1m")
    """

    kind: RuleKind
    operator: Operator = ""
    threshold: float | None = None
    clear: float | None = None
    aggregate: Aggregate = ""
    window: int = 0
    window_s: float | str = 0.0
    baseline: int = 0
    measure: Measure = ""
    direction: Direction = ""
    goal: Goal = ""
    states: Sequence[str] = ()


_FIELDS = tuple(field.name for field in fields(Condition))


def rule_of(
    run_id: str,
    metric: str,
    condition: Condition | str,
    threshold: float | None,
    *,
    clear: float | None,
    for_s: float | str,
    cooldown_s: float | str,
    name: str,
    severity: Severity,
    text: str,
    context: Any,
    rank: int | None,
    channels: Sequence[str],
    labels: Mapping[str, str] | None,
    now_ms: int,
    report: Report,
) -> dict[str, Any] | None:
    """The payload of a rule, whose id is the same from every rank that registers it; None where it is wrong, which is told with every argument that does not fit."""
    wrong: list[str] = []
    given = _condition(condition, threshold, clear, wrong)
    given |= {"for_s": for_s, "cooldown_s": cooldown_s}
    for field in _NUMBERS:
        given[field] = _number(field, given[field], wrong)
    for field in _COUNTS:
        given[field] = _count(field, given[field], wrong)
    for field in _SECONDS:
        given[field] = _seconds(field, given[field], wrong)
    given["states"] = _texts("states", given["states"], wrong)
    for field in _WORDS:
        given[field] = _text(field, given[field], wrong)
    if not isinstance(context, str | enum.Enum | None):
        wrong.append(f"context must be a text or a member of an Enum, got {val.shown(context)}")
    given |= {
        "metric": _text("metric", metric, wrong) or ("*" if given["kind"] == "run_state" else ""),
        "context": val.context_of(context),
        "rank": None if rank is None else _count("rank", rank, wrong),
        "severity": _text("severity", severity, wrong),
        "text": _text("text", text, wrong),
        "channels": _texts("channels", channels, wrong),
        "labels": _labels(labels, wrong),
    }
    given["name"] = _text("name", name, wrong) or _named(given)
    for field in ("name", "context"):
        if len(given[field]) > val.NAME_CHARACTERS_MAX:
            wrong.append(f"{field} must be a text of at most {val.NAME_CHARACTERS_MAX} characters, got {len(given[field])}")
    # The same arguments are the same rule, whoever registers it.
    given["rule_id"] = ids.named_uuid("rule", run_id, json.dumps(given, sort_keys=True))
    rule = Rule(version=1, time_ms=now_ms, run_id=run_id, **given)
    named = " ".join(wrong)
    wrong += [f"{field} must be {expected}, got {val.shown(got)}" for field, expected, got in refusals(rule) if f"{field} must be" not in named]
    if wrong:
        # Told for each rule that differs: an alert that is missing is found out when it would have been needed.
        report(f"rule:{given['rule_id']}:{'; '.join(wrong)}", f"rule on {val.shown(given['metric'])} was not registered: {'; '.join(wrong)}")
        return None
    # What is left out is not written; a threshold of 0 is not left out.
    nothing = {field.name: field.default for field in fields(Rule)}
    written = {field: value for field, value in given.items() if value or (value is not None and nothing[field] is None)}
    return {"version": 1, "time_ms": now_ms, "run_id": run_id} | written


def _condition(condition: Any, threshold: Any, clear: Any, wrong: list[str]) -> dict[str, Any]:
    if isinstance(condition, Condition):
        given = asdict(condition)
        for field, value in (("threshold", threshold), ("clear", clear)):
            if value is not None and given[field] is None:
                given[field] = value
            elif value is not None:
                wrong.append(f"{field} must be given once, in the condition or beside it, got {val.shown(value)} beside {val.shown(given[field])}")
        return given
    if condition == "non_finite":
        return asdict(Condition("non_finite", threshold=threshold, clear=clear))
    if not isinstance(condition, str) or condition not in OPERATORS:
        wrong.append(f"operator must be one of {' '.join(OPERATORS)}, 'non_finite' or a Condition, got {val.shown(condition)}")
        condition = ">"  # So that the rest is looked at.
    return asdict(Condition("threshold", operator=cast("Operator", condition), threshold=threshold, clear=clear))


def _number(field: str, given: Any, wrong: list[str]) -> float | None:
    number = None if given is None or isinstance(given, bool) else val.number_of(given)
    if given is not None and number is None:
        wrong.append(f"{field} must be a number, got {val.shown(given)}")
    return number


def _text(field: str, given: Any, wrong: list[str]) -> str:
    if isinstance(given, str) or given is None:
        return val.text_of(given or "")
    wrong.append(f"{field} must be a text, got {val.shown(given)}")
    return val.text_of(given)


def _count(field: str, given: Any, wrong: list[str]) -> int:
    number = val.step_of(given)
    if number is None or not -(1 << 31) <= number < 1 << 31:
        wrong.append(f"{field} must be an integer from 0, got {val.shown(given)}")
        return 0
    return number


def _seconds(field: str, given: Any, wrong: list[str]) -> float:
    seconds = seconds_of(given if isinstance(given, str) else val.number_of(given))
    if seconds is None:
        wrong.append(f"{field} must be {FORMS}, got {val.shown(given)}")
        return 0.0
    return seconds


def _texts(field: str, given: Any, wrong: list[str]) -> list[str]:
    if isinstance(given, str):
        return [given]
    if not isinstance(given, Sequence | set | frozenset):
        wrong.append(f"{field} must be a list of texts, got {val.shown(given)}")
        return []
    return [_text(f"each of {field}", one, wrong) for one in cast("Sequence[Any]", given)]


def _labels(given: Any, wrong: list[str]) -> dict[str, str]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        wrong.append(f"labels must be a mapping of texts, got {val.shown(given)}")
        return {}
    return {_text("each name of labels", name, wrong): _text("each text of labels", text, wrong) for name, text in cast("Mapping[Any, Any]", given).items()}


def _named(given: Mapping[str, Any]) -> str:
    """A name for people, where none was given."""
    limit = given["threshold"]
    bound = "" if limit is None else f" {limit:g}"
    if given["kind"] == "threshold":
        return f"{given['metric']} {given['operator']}{bound}"
    if given["kind"] == "non_finite":
        return f"{given['metric']} is not finite"
    if given["kind"] == "run_state":
        return f"run is {' or '.join(given['states'])}"
    what = " ".join(filter(None, (val.text_of(given["kind"]), given["aggregate"], given["operator"])))
    return f"{given['metric']}: {what}{bound}"
