"""Which fields a rule has by its kind, and what fits each of them.

Asked where a rule is made (in training code, in files), so that whoever makes it hears of every mistake at once, and where rules are learned from their topic, so that a bad one harms
nobody. What a kind makes of its fields is the rules' package's matter. The standard library alone, since training code asks.
"""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from runstream_schemas.records import Aggregate, Operator, RuleKind, Severity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runstream_schemas.records import Rule

KINDS: tuple[str, ...] = get_args(RuleKind)
SEVERITIES: tuple[str, ...] = get_args(Severity)
OPERATORS: tuple[str, ...] = tuple(filter(None, get_args(Operator)))
AGGREGATES: tuple[str, ...] = tuple(filter(None, get_args(Aggregate)))
STATES = ("failed", "crashed", "killed", "preempted", "finished", "silent")
PATTERN_CHARACTERS_MAX = 1000
NAME_CHARACTERS_MAX = 1000  # Of names and ids, and of each channel and label.
TEXT_CHARACTERS_MAX = 10_000  # Of a message's template.
LABELS_MAX = 64  # Of labels and of channels: every alert carries them.
WINDOW_POINTS_MAX = 1000  # Points that a window keeps.
_COUNT_MAX = 1_000_000_000  # Points and steps that are only counted.
_TIMES_S_MAX = 366 * 86_400.0
_RANK_MAX = (1 << 31) - 1
_NO_WAITING = ("stale", "run_state")

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
FIELDS: dict[str, frozenset[str]] = {
    "threshold": frozenset({"operator", "threshold", "clear"}),
    "aggregate": frozenset({"operator", "threshold", "clear", "aggregate", "window", "window_s"}),
    "change": frozenset({"threshold", "clear", "window", "baseline", "measure", "direction"}),
    "zscore": frozenset({"threshold", "clear", "window", "direction"}),
    "non_finite": frozenset(),
    "plateau": frozenset({"threshold", "window", "goal"}),
    "divergence": frozenset({"window", "goal"}),
    "throughput": frozenset({"threshold", "clear", "window", "baseline"}),
    "stale": frozenset({"window_s"}),
    "run_state": frozenset({"states", "window_s"}),
    "straggler": frozenset({"threshold", "clear", "window", "window_s", "measure"}),
    "desync": frozenset({"threshold", "clear", "window", "window_s"}),
    "disagreement": frozenset({"threshold", "clear", "window", "window_s", "measure"}),
}


class Refusal(NamedTuple):
    """A field that does not fit, what was expected, and what came."""

    field: str
    expected: str
    got: object


def refusals(rule: Rule) -> list[Refusal]:
    """Everything that is wrong with a rule, each field once, those that all kinds share first; empty where it can be applied."""
    if rule.kind not in KINDS:
        return [Refusal("kind", f"one of {', '.join(KINDS)}", rule.kind)]
    found: dict[str, Refusal] = {}
    for one in (*_shared(rule), *_left_out(rule), *_CHECKS[rule.kind](rule)):
        found.setdefault(one.field, one)
    return list(found.values())


def a(word: str) -> str:
    """A word with its article."""
    return f"{'an' if word[:1] in 'aeio' else 'a'} {word}"


def _shared(rule: Rule) -> Iterator[Refusal]:
    for field, text in (("rule_id", rule.rule_id), ("name", rule.name)):
        if not text:
            yield Refusal(field, "a text that is not empty", text)
    if "/" in rule.rule_id:
        # The topic's key is the id, with a slash and a writer behind it where a writer registered it.
        yield Refusal("rule_id", "a text without /", rule.rule_id)
    if rule.kind == "run_state":
        if rule.metric not in ("", "*"):
            yield Refusal("metric", "left out of a run_state rule", rule.metric)
    elif not rule.metric:
        yield Refusal("metric", "a text that is not empty", rule.metric)
    elif len(rule.metric) > PATTERN_CHARACTERS_MAX:
        yield Refusal("metric", f"a text of at most {PATTERN_CHARACTERS_MAX} characters", rule.metric[:60] + "…")
    yield from _texts(rule)
    if rule.version < 0:
        yield Refusal("version", "0 or more", rule.version)
    if rule.severity not in SEVERITIES:
        yield Refusal("severity", f"one of {', '.join(SEVERITIES)}", rule.severity)
    if rule.rank is not None and not 0 <= rule.rank <= _RANK_MAX:
        yield Refusal("rank", "an integer from 0, or left out for every rank", rule.rank)
    if rule.ordinal < 0:
        yield Refusal("ordinal", "0 or more", rule.ordinal)
    for field, seconds in (("for_s", rule.for_s), ("cooldown_s", rule.cooldown_s)):
        # Said the other way round, NaN would pass.
        if not 0.0 <= seconds <= _TIMES_S_MAX:
            yield Refusal(field, "a number of seconds, from 0 to a year", seconds)


def _texts(rule: Rule) -> Iterator[Refusal]:
    """Names that no key, table or message would hold, and texts that are none: a lone surrogate cannot be sent."""
    named = [(field, (getattr(rule, field),)) for field in ("rule_id", "name", "metric", "context", "project", "run_id")]
    named += [("channels", tuple(rule.channels)), ("labels", (*rule.labels, *rule.labels.values()))]
    for field, texts in named:
        for text in texts[: 2 * LABELS_MAX]:
            if len(text) > NAME_CHARACTERS_MAX:
                yield Refusal(field, f"at most {NAME_CHARACTERS_MAX} characters long", text[:60] + "…")
            elif any(unicodedata.category(one) in ("Cc", "Cs") for one in text):
                yield Refusal(field, "without control characters and lone surrogates", text)
    for field, count in (("channels", len(rule.channels)), ("labels", len(rule.labels))):
        if count > LABELS_MAX:
            yield Refusal(field, f"at most {LABELS_MAX} of them", count)
    if len(rule.text) > TEXT_CHARACTERS_MAX:
        yield Refusal("text", f"at most {TEXT_CHARACTERS_MAX} characters long", rule.text[:60] + "…")
    elif any(unicodedata.category(one) == "Cs" for one in rule.text):
        yield Refusal("text", "without lone surrogates", rule.text)


def _left_out(rule: Rule) -> Iterator[Refusal]:
    """Fields of other kinds: a rule that has them means something that it does not do."""
    for field, nothing in _OWN.items():
        value = tuple(rule.states) if field == "states" else getattr(rule, field)
        if field not in FIELDS[rule.kind] and value != nothing:
            yield Refusal(field, f"left out of {a(rule.kind)} rule", value)
    if rule.for_s and rule.kind in _NO_WAITING:
        yield Refusal("for_s", f"left out of {a(rule.kind)} rule", rule.for_s)


def _relation(rule: Rule) -> Iterator[Refusal]:
    yield from _one_of(rule, "operator", OPERATORS)
    wrong = list(_threshold(rule))
    yield from wrong
    if wrong or rule.clear is None or rule.threshold is None or rule.operator not in OPERATORS:
        return
    if rule.operator in ("==", "!="):
        yield Refusal("clear", f"left out with the operator {rule.operator}", rule.clear)
        return
    below = rule.operator in (">", ">=")
    if not math.isfinite(rule.clear) or (rule.clear > rule.threshold if below else rule.clear < rule.threshold):
        yield Refusal("clear", f"a number not {'above' if below else 'below'} the threshold, {rule.threshold:g}", rule.clear)


def _aggregate(rule: Rule) -> Iterator[Refusal]:
    yield from _relation(rule)
    yield from _one_of(rule, "aggregate", AGGREGATES)
    if bool(rule.window) == bool(rule.window_s):
        yield Refusal("window", "given in points, or window_s in seconds, and not both", (rule.window, rule.window_s))
    elif rule.window:
        yield from _points(rule, "window", most=WINDOW_POINTS_MAX)
    else:
        yield from _seconds(rule, above=True)


def _change(rule: Rule) -> Iterator[Refusal]:
    yield from _bounds(rule)
    yield from _points(rule, "window", most=WINDOW_POINTS_MAX, optional=True)
    yield from _points(rule, "baseline", most=WINDOW_POINTS_MAX, optional=True)
    yield from _one_of(rule, "measure", ("relative", "absolute", ""))
    yield from _one_of(rule, "direction", ("up", "down", "either", ""))


def _zscore(rule: Rule) -> Iterator[Refusal]:
    yield from _bounds(rule)
    yield from _points(rule, "window", least=2, most=WINDOW_POINTS_MAX, optional=True)
    yield from _one_of(rule, "direction", ("up", "down", "either", ""))


def _plateau(rule: Rule) -> Iterator[Refusal]:
    yield from _one_of(rule, "goal", ("min", "max"))
    yield from _points(rule, "window", most=_COUNT_MAX)
    if rule.threshold is not None and not 0.0 <= rule.threshold < math.inf:
        yield Refusal("threshold", "0 or more for a plateau rule, or left out", rule.threshold)


def _divergence(rule: Rule) -> Iterator[Refusal]:
    yield from _one_of(rule, "goal", ("min", "max", ""))
    yield from _points(rule, "window", most=_COUNT_MAX)


def _throughput(rule: Rule) -> Iterator[Refusal]:
    yield from _bounds(rule)
    if rule.threshold is not None and rule.threshold >= 1.0:
        yield Refusal("threshold", "below 1 for a throughput rule: 0.3 is a third less", rule.threshold)
    yield from _points(rule, "window", most=WINDOW_POINTS_MAX, optional=True)
    yield from _points(rule, "baseline", most=WINDOW_POINTS_MAX, optional=True)


def _stale(rule: Rule) -> Iterator[Refusal]:
    yield from _seconds(rule, above=True)


def _run_state(rule: Rule) -> Iterator[Refusal]:
    if set(rule.states) - set(STATES) or not rule.states:
        yield Refusal("states", f"some of {', '.join(STATES)}", list(rule.states))
    yield from _seconds(rule)
    if rule.context:
        yield Refusal("context", "left out of a run_state rule", rule.context)
    if rule.cooldown_s:
        yield Refusal("cooldown_s", "left out of a run_state rule", rule.cooldown_s)


def _across_ranks(rule: Rule) -> Iterator[Refusal]:
    least = 1.0 if rule.kind == "straggler" else 0.0
    yield from _bounds(rule, least=least)
    yield from _points(rule, "window", most=_COUNT_MAX, optional=True)
    yield from _seconds(rule)
    if "measure" in FIELDS[rule.kind]:
        yield from _one_of(rule, "measure", ("interval", "value", "") if rule.kind == "straggler" else ("relative", "absolute", ""))


def _nothing(rule: Rule) -> Iterator[Refusal]:  # noqa: ARG001  # the signature of the others
    yield from ()


_CHECKS: dict[str, Callable[[Rule], Iterator[Refusal]]] = {
    "threshold": _relation,
    "aggregate": _aggregate,
    "change": _change,
    "zscore": _zscore,
    "non_finite": _nothing,
    "plateau": _plateau,
    "divergence": _divergence,
    "throughput": _throughput,
    "stale": _stale,
    "run_state": _run_state,
    "straggler": _across_ranks,
    "desync": _across_ranks,
    "disagreement": _across_ranks,
}


def _threshold(rule: Rule, *, least: float = -math.inf) -> Iterator[Refusal]:
    if rule.threshold is None or not math.isfinite(rule.threshold) or rule.threshold <= least:
        wanted = "a finite number" if least == -math.inf else f"a finite number above {least:g}"
        yield Refusal("threshold", f"{wanted} for {a(rule.kind)} rule", rule.threshold)


def _bounds(rule: Rule, *, least: float = 0.0) -> Iterator[Refusal]:
    """A threshold above `least`, and a bound of resolving from there to the threshold."""
    wrong = list(_threshold(rule, least=least))
    yield from wrong
    if not wrong and rule.threshold is not None and rule.clear is not None and not least <= rule.clear <= rule.threshold:
        yield Refusal("clear", f"from {least:g} to the threshold, {rule.threshold:g}", rule.clear)


def _points(rule: Rule, field: str, *, least: int = 1, most: int, optional: bool = False) -> Iterator[Refusal]:
    points: int = getattr(rule, field)
    if not least <= points <= most and not (optional and points == 0):
        yield Refusal(field, f"from {least} to {most} points for {a(rule.kind)} rule", points)


def _seconds(rule: Rule, *, above: bool = False) -> Iterator[Refusal]:
    if not 0.0 <= rule.window_s < math.inf or (above and rule.window_s == 0.0):
        wanted = "a number of seconds above 0" if above else "a number of seconds, or left out,"
        yield Refusal("window_s", f"{wanted} for {a(rule.kind)} rule", rule.window_s)


def _one_of(rule: Rule, field: str, words: tuple[str, ...]) -> Iterator[Refusal]:
    word = getattr(rule, field)
    if word not in words:
        yield Refusal(field, f"one of {', '.join(filter(None, words))} for {a(rule.kind)} rule", word)
