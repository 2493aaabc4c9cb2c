"""Every kind that watches a series, on any series: what plain Python says of it point by point, however its rows were cut, repeated, and stored in between."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runstream_rules import Policy, RuleBook, decide, dump, load
from tests.rules.histories import WRITER, Row, cut, rule
from tests.rules.reference import Flip, Point, transitions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_rules import WriterState
    from runstream_schemas.records import MetricFrame, Rule

SLOW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
# Thresholds lie off the grid on which values lie, so that no rounding decides.
RULES: dict[str, list[Rule]] = {
    "threshold": [
        rule("above", threshold=0.6),
        rule("waits", threshold=0.6, for_s=0.05),
        rule("rests", threshold=0.6, cooldown_s=0.2),
        rule("both", threshold=0.6, clear=-0.6, for_s=0.04, cooldown_s=0.1),
        rule("other", operator="!=", threshold=0.5, for_s=0.03),
    ],
    "non_finite": [rule("broken", "non_finite"), rule("broken-long", "non_finite", for_s=0.03, cooldown_s=0.3)],
    "aggregate": [
        *(
            rule(f"{one}-{window}", "aggregate", aggregate=one, window=window, operator=">", threshold=0.3)
            for one in ("min", "max", "mean", "median", "last")
            for window in (1, 3, 4)
        ),
        *(rule(f"{one}-s", "aggregate", aggregate=one, window_s=0.3, operator="<", threshold=-0.3) for one in ("min", "max", "mean", "median", "last")),
        rule("quiet", "aggregate", aggregate="mean", window=5, operator=">", threshold=0.3, clear=-0.3, for_s=0.02, cooldown_s=0.1),
    ],
    "change": [
        rule("relative", "change", window=2, baseline=3, threshold=0.7),
        rule("absolute-up", "change", window=3, baseline=2, threshold=0.7, measure="absolute", direction="up", clear=0.1),
        rule("down", "change", window=1, baseline=1, threshold=0.3, measure="absolute", direction="down", for_s=0.02),
    ],
    "zscore": [rule("either", "zscore", window=4, threshold=1.7), rule("up", "zscore", window=3, threshold=1.3, direction="up", clear=0.4)],
    "plateau": [rule("min", "plateau", goal="min", window=3), rule("max", "plateau", goal="max", window=2, threshold=0.6, cooldown_s=0.1)],
    "divergence": [rule("rises", "divergence", window=2), rule("falls", "divergence", window=3, goal="max", for_s=0.02)],
    "throughput": [
        rule("slower", "throughput", window=2, baseline=3, threshold=0.31),
        rule("clear", "throughput", window=1, baseline=4, threshold=0.51, clear=0.11),
    ],
}
PLAIN = st.integers(-8, 8).map(lambda number: number / 4)
VALUES = st.one_of(PLAIN, PLAIN, PLAIN, PLAIN, st.sampled_from([math.nan, math.inf, -math.inf]))


@st.composite
def series(draw: st.DrawFn) -> list[Row]:
    """One series, now and then beside another in other lists of names; times mostly rise."""
    rows: list[Row] = []
    clock, step = 1_000_000, 0
    for seq in range(draw(st.integers(1, 40))):
        clock += draw(st.sampled_from([0, 5, 10, 10, 10, 30, 30, 400, -20, -500]))
        step += draw(st.sampled_from([0, 1, 1, 1, 1, 2, -3]))
        names = draw(st.sampled_from([("m",), ("m",), ("m", "n"), ("n", "m"), ("n",)]))
        rows.append(Row(seq, step, clock, "", "", names, tuple(draw(VALUES) for _ in names)))
    return rows


def expected(rules: Sequence[Rule], rows: Sequence[Row]) -> set[tuple[str, str, Flip]]:
    """Rule, name, and what changes, by the plain way."""
    out: set[tuple[str, str, Flip]] = set()
    for name in ("m", "n"):
        points = [Point(row.seq, row.step, row.time_ms, row.values[row.names.index(name)]) for row in rows if name in row.names]
        out |= {(one.rule_id, name, flip) for one in rules for flip in transitions(one, points)}
    return out


def found(rules: Sequence[Rule], frames: Sequence[MetricFrame], rows: Sequence[Row], *, stored_between: bool) -> set[tuple[str, str, Flip]]:
    """The same by the core, one frame after the other; each state goes through its bytes if asked."""
    book = RuleBook()
    for one in rules:
        assert book.learn(one) is None
    state: WriterState | None = None
    out: set[tuple[str, str, Flip]] = set()
    for frame in frames:
        outcome = decide(state, [frame], book, 2_000_000, Policy())
        state = outcome.state
        assert not outcome.failed
        if stored_between:
            state = load(WRITER, dict(dump(state, range(len(state.blocks)))).get)
        for alert in outcome.alerts:
            (seq,) = [row.seq for row in rows if (row.time_ms, row.step) == (alert.time_ms, alert.step)]
            out.add((alert.rule_id, alert.metric, (alert.state == "firing", alert.seq, seq)))
    return out


def told_apart(rows: Sequence[Row]) -> list[Row]:
    """The rows with steps that name them: an alert then says which row it is about. Where steps matter, times tell."""
    return [Row(row.seq, row.seq * 2 - row.seq % 3, row.time_ms, row.context, row.subject, row.names, row.values) for row in rows]


@pytest.mark.parametrize("kind", RULES)
@SLOW
@given(series(), st.lists(st.integers(0, 40)))
def test_a_kind_says_what_plain_python_says(kind: str, rows: list[Row], places: list[int]) -> None:
    """Each firing and resolving is found at its row, with the row that opened it, and no other; states that go through bytes say the same."""
    rows = told_apart(rows)
    wanted = expected(RULES[kind], rows)
    assert found(RULES[kind], cut(rows, places), rows, stored_between=False) == wanted
    assert found(RULES[kind], cut(rows, places[:3]), rows, stored_between=True) == wanted


ALL = [one for kind in RULES.values() for one in kind]


@SLOW
@given(series(), st.lists(st.integers(0, 40)), st.lists(st.integers(0, 40)))
def test_states_are_the_same_to_the_bit(rows: list[Row], places: list[int], others: list[int]) -> None:
    """Two ways of cutting a history, one of them with repeats, end in the same bytes with the same alerts in the same order: windows are summed by points and not by frames."""
    book = RuleBook()
    for one in ALL:
        book.learn(one)

    def run(frames: list[MetricFrame]) -> tuple[list[tuple[int, bytes]], list[str]]:
        state, alerts = None, list[str]()
        for frame in frames:
            outcome = decide(state, [frame], book, 2_000_000, Policy())
            state = outcome.state
            alerts += map(repr, outcome.alerts)
        assert state is not None
        return dump(state, range(len(state.blocks))), alerts

    repeated = [frame for one in cut(rows, others) for frame in (one, one)]
    assert run(cut(rows, places)) == run(repeated)
