"""What fits which field of a rule: every kind has a least rule, whatever else comes is told and never raised, and durations are read as people write them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_schemas.durations import seconds_of
from runstream_schemas.records import Rule
from runstream_schemas.rule_fields import FIELDS, KINDS, refusals

# By kind: the fields that it needs.
NEEDED: dict[str, dict[str, Any]] = {
    "threshold": {"operator": ">", "threshold": 1.0},
    "aggregate": {"operator": ">", "threshold": 1.0, "aggregate": "mean", "window": 5},
    "change": {"threshold": 0.1},
    "zscore": {"threshold": 3.0},
    "non_finite": {},
    "plateau": {"goal": "min", "window": 5},
    "divergence": {"window": 5},
    "throughput": {"threshold": 0.1},
    "stale": {"window_s": 5.0},
    "run_state": {"states": ["failed"]},
    "straggler": {"threshold": 1.5},
    "desync": {"threshold": 5.0},
    "disagreement": {"threshold": 0.1},
}
NUMBERS = st.none() | st.floats() | st.sampled_from([0.0, 1.0, 2.0])
COUNTS = st.integers(-5, 2000)
WORDS = st.sampled_from(["", "x", "min", "max", "mean", "up", "relative", "value", ">", "=="])


def rule(kind: str, **fields: Any) -> Rule:
    """A rule with these fields."""
    return Rule(rule_id="r", version=1, time_ms=0, name="r", kind=kind, metric="m" if kind != "run_state" else "", **fields)  # pyright: ignore[reportArgumentType]  # wrong ones too


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_kind_needs_is_enough_and_needed(kind: str) -> None:
    """With it nothing is wrong; without any of it, that field is told, and all are told together."""
    assert refusals(rule(kind, **NEEDED[kind])) == []
    assert {one.field for one in refusals(rule(kind))} == set(NEEDED[kind])
    for left_out in NEEDED[kind]:
        fields = {name: value for name, value in NEEDED[kind].items() if name != left_out}
        assert [one.field for one in refusals(rule(kind, **fields))] == [left_out]


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_other_kinds_are_mistakes(kind: str) -> None:
    """A rule that has them would mean something that it does not do."""
    others: dict[str, Any] = {
        "operator": ">",
        "threshold": 1.0,
        "clear": 1.0,
        "aggregate": "max",
        "window": 3,
        "window_s": 3.0,
        "baseline": 3,
        "measure": "value",
    }
    others |= {"direction": "up", "goal": "max", "states": ["failed"]}
    for field in others.keys() - FIELDS[kind]:
        assert [one.field for one in refusals(rule(kind, **(NEEDED[kind] | {field: others[field]})))] == [field]


@given(
    st.sampled_from(KINDS),
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(("threshold", "clear"), NUMBERS),
            **dict.fromkeys(("window", "baseline"), COUNTS),
            **dict.fromkeys(("window_s", "for_s", "cooldown_s"), st.floats()),
            **dict.fromkeys(("operator", "aggregate", "measure", "direction", "goal", "severity", "context"), WORDS),
            "states": st.lists(WORDS, max_size=2),
            "rank": st.none() | st.integers(-2, 1 << 40),
        },
    ),
)
def test_anything_is_told_and_nothing_raised(kind: str, fields: dict[str, Any]) -> None:
    """Every mistake has its field, what was expected and what came; a field is told once."""
    found = refusals(rule(kind, **fields))
    assert all(one.field in Rule.__dataclass_fields__ and one.expected for one in found)
    assert len({one.field for one in found}) == len(found)
    # A rule that nothing is wrong with stays so under another name.
    if not found:
        assert refusals(replace(rule(kind, **fields), name="other")) == []


WRONG: list[object] = ["", "s", "-1", "-1s", "1w", "1h30m", "1 h", "nan", "inf", "1e3", -1, math.nan, math.inf, True, None, (), 10**400]
RIGHT: list[tuple[object, float | None]] = [("30", 30.0), ("0.5s", 0.5), ("2m", 120.0), ("1h", 3600.0), ("1d", 86_400.0), ("20ms", 0.02), (3, 3.0), (0.5, 0.5)]


@pytest.mark.parametrize(("given_as", "seconds"), [*RIGHT, (0, 0.0), *((wrong, None) for wrong in WRONG)], ids=lambda one: repr(one)[:20])
def test_durations(given_as: object, seconds: float | None) -> None:
    """Seconds or a number with one unit; nothing else, and nothing below 0."""
    assert seconds_of(given_as) == seconds


@pytest.mark.parametrize("field", ["rule_id", "name", "metric", "context", "project", "run_id", "channels", "labels", "text"])
def test_names_are_short_and_of_characters_that_can_be_written(field: str) -> None:
    """A thousand characters are enough, and control characters and lone surrogates are told; a message may be long and have lines."""

    def given(text: str) -> list[str]:
        whole = {"channels": ["ops", text], "labels": {"team": text}}.get(field, text)
        return [one.field for one in refusals(replace(rule("non_finite"), **{field: whole}))]

    assert given("x" * 1000) == []
    assert given("x" * 10_001) == [field]
    assert given("a\ud800") == [field]
    message = field == "text"
    assert given("x" * 1001) == given("a\nb") == given("\x7f") == ([] if message else [field])
