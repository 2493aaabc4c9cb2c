"""Each kind on tables that were worked out by hand: at which row it fires and resolves, and what the alert shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from runstream_rules import Policy, RuleBook, RuleRefused, check, decide
from tests.rules.histories import Row, cut, rule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_schemas.records import Alert, Rule

NAN, INF = math.nan, math.inf
Shown = tuple[str, int, float, float | None]


def alerts_of(one: Rule, values: Sequence[float], times_s: Sequence[float] | None = None, steps: Sequence[int] | None = None) -> list[Alert]:
    """What a rule says of one series, a row a second unless told otherwise."""
    clock = [float(n) for n in range(len(values))] if times_s is None else times_s
    rows = [
        Row(n, n if steps is None else steps[n], round(1_000_000 + second * 1000), "", "", ("m",), (value,))
        for n, (value, second) in enumerate(zip(values, clock, strict=True))
    ]
    book = RuleBook()
    assert book.learn(one) is None
    return list(decide(None, cut(rows, []), book, 1_000_000, Policy()).alerts)


def shown(one: Rule, values: Sequence[float], times_s: Sequence[float] | None = None, steps: Sequence[int] | None = None) -> list[Shown]:
    """State, step, value and baseline of each alert, rounded to six digits."""
    return [
        (alert.state, alert.step, round(alert.value, 6), None if alert.baseline is None else round(alert.baseline, 6))
        for alert in alerts_of(one, values, times_s, steps)
    ]


class TestThreshold:
    @pytest.mark.parametrize(
        ("sign", "fires", "resolves"),
        [("<", [1], [2]), ("<=", [0, 3], [2]), (">", [2], [3]), (">=", [0, 2], [1]), ("==", [0, 3], [1]), ("!=", [1], [3])],
    )
    def test_six_operators(self, sign: str, fires: list[int], resolves: list[int]) -> None:
        """Against 1: the values 1, 0, 2, 1."""
        found = shown(rule("r", operator=sign, threshold=1.0), [1.0, 0.0, 2.0, 1.0])
        assert [step for state, step, _, _ in found if state == "firing"] == fires
        assert [step for state, step, _, _ in found if state == "resolved"] == resolves

    def test_a_clear_bound_keeps_it_firing(self) -> None:
        """Above 10 it fires, at 7 it stays, at 5 it resolves; 7 on the way up does not fire."""
        assert shown(rule("r", threshold=10.0, clear=5.0), [7, 11, 7, 10, 5, 7, 12]) == [
            ("firing", 1, 11.0, None),
            ("resolved", 4, 5.0, None),
            ("firing", 6, 12.0, None),
        ]

    def test_for_means_without_a_break(self) -> None:
        """It must hold for 3 seconds: rows 0 to 2 hold for 2, rows 4 to 7 for 3. The episode was opened by row 4; NaN in between says nothing."""
        (fired,) = alerts_of(rule("r", threshold=1.0, for_s=3.0), [2, 2, 2, 0, 2, NAN, 2, 2])
        assert (fired.step, fired.seq, fired.opened_ms) == (7, 4, 1_004_000)

    def test_a_cooldown_counts_from_the_last_firing(self) -> None:
        """Fired at 0 s, it may fire again from 5 s on: the one that opens at 2 s is over too soon, the one that opens at 4 s fires then."""
        found = alerts_of(rule("r", threshold=1.0, cooldown_s=5.0), [2, 0, 2, 0, 2, 2, 2, 0])
        assert [(alert.state, alert.step, alert.seq) for alert in found] == [("firing", 0, 0), ("resolved", 1, 0), ("firing", 5, 4), ("resolved", 7, 4)]

    def test_a_clock_that_is_set_back_delays_nothing_for_long(self) -> None:
        """Pending since 100 s; the clock goes back to 10 s: the 3 seconds count from there."""
        (fired,) = alerts_of(rule("r", threshold=1.0, for_s=3.0), [2, 2, 2, 2], times_s=[100, 10, 12, 13])
        assert (fired.step, fired.opened_ms) == (3, 1_010_000)

    def test_infinities_compare(self) -> None:
        """An infinite value stands in its relations; NaN in none."""
        assert shown(rule("r", threshold=1.0), [INF, NAN, -INF]) == [("firing", 0, INF, None), ("resolved", 2, -INF, None)]


class TestAggregate:
    @pytest.mark.parametrize(
        ("name", "found"),
        [
            # Windows of 3 over 9, 1, 2, 6, 7, 5, 0:          9 1 2   1 2 6   2 6 7   6 7 5   7 5 0
            ("min", [("firing", 5, 5.0), ("resolved", 6, 0.0)]),  # 1       1       2       5       0
            ("max", [("firing", 2, 9.0)]),  #                       9       6       7       7       7
            ("mean", [("firing", 4, 5.0), ("resolved", 6, 4.0)]),  # 4      3       5       6       4
            ("median", [("firing", 4, 6.0)]),  #                    2       2       6       6       5
            ("last", [("firing", 3, 6.0), ("resolved", 6, 0.0)]),  # 2      6       7       5       0
        ],
    )
    def test_of_points(self, name: str, found: list[tuple[str, int, float]]) -> None:
        """The last 3 points above 4.5, nothing said before there are 3."""
        one = rule("r", "aggregate", aggregate=name, window=3, operator=">", threshold=4.5)
        assert [alert[:3] for alert in shown(one, [9, 1, 2, 6, 7, 5, 0])] == found

    def test_an_even_median_lies_between(self) -> None:
        """Of 1, 2, 4, 9 it is 3."""
        assert shown(rule("r", "aggregate", aggregate="median", window=4, operator="==", threshold=3.0), [9, 2, 1, 4])[0][2] == 3.0

    def test_values_that_are_not_finite_are_left_out(self) -> None:
        """The last 2 finite points of 1, NaN, 3, inf, 5: means 2 at row 2 and 4 at row 4."""
        one = rule("r", "aggregate", aggregate="mean", window=2, operator=">", threshold=1.5, for_s=2.0)
        assert shown(one, [1, NAN, 3, INF, 5]) == [("firing", 4, 4.0, None)]

    def test_of_seconds(self) -> None:
        """A GPU that is read every 5 s is idle from 20 s on; the mean of 30 s falls below 10 once readings before 20 s have left: at 45 s it is 0, at 40 s 15."""
        busy = [90.0 if second < 20 else 0.0 for second in range(0, 60, 5)]
        one = rule("r", "aggregate", aggregate="mean", window_s=30.0, operator="<", threshold=10.0)
        assert shown(one, busy, times_s=list(range(0, 60, 5)), steps=list(range(0, 60, 5))) == [("firing", 45, 0.0, None)]

    def test_nothing_is_said_before_the_window_is_full(self) -> None:
        """Readings of 0 from the start fire at 30 s, and a pause of 30 s begins the window anew."""
        one = rule("r", "aggregate", aggregate="max", window_s=30.0, operator="<", threshold=10.0)
        times = [0, 10, 20, 30, 31]
        assert shown(one, [0.0] * 5, times_s=times, steps=times) == [("firing", 30, 0.0, None)]
        times = [0, 10, 20, 51, 60, 80, 81]
        assert shown(one, [0.0] * 7, times_s=times, steps=times) == [("firing", 81, 0.0, None)]


class TestChange:
    def test_relative(self) -> None:
        """The last 2 against the 3 before: at row 4 means 3 and 2, half more; at row 5 5 and 2.33; at row 6 3 and 2.67, an eighth more."""
        one = rule("r", "change", window=2, baseline=3, threshold=0.4)
        assert shown(one, [2, 2, 2, 3, 3, 7, -1]) == [("firing", 4, 0.5, 2.0), ("resolved", 6, 0.125, 2.666667)]

    def test_directions(self) -> None:
        """1 to 4 is 3 up, 4 to 1 is 3 down; each direction sees its own, `clear` holds it until the change is no more than 1."""
        values = [1, 4, 1, 3, 3]
        for direction, steps in (("up", [1, 3]), ("down", [2]), ("either", [1])):
            one = rule("r", "change", window=1, baseline=1, threshold=1.5, measure="absolute", direction=direction, clear=1.0)
            assert [step for state, step, _, _ in shown(one, values) if state == "firing"] == steps

    def test_relative_to_nothing_is_nothing(self) -> None:
        """A baseline of 0 has no relative change: nothing is said, and nothing breaks."""
        assert shown(rule("r", "change", window=1, baseline=1, threshold=0.1), [0, 5, 6]) == [("firing", 2, 0.2, 5.0)]


class TestZScore:
    def test_scores(self) -> None:
        """Of 1, 3, 1, 3 the mean is 2 and the deviation 1: 5 is 3 deviations off; then of 3, 1, 3, 5 mean 3 and deviation 1.414: 3 is none off."""
        one = rule("r", "zscore", window=4, threshold=2.5)
        assert shown(one, [1, 3, 1, 3, 5, 3]) == [("firing", 4, 3.0, 2.0), ("resolved", 5, 0.0, 3.0)]

    def test_a_window_that_does_not_vary_says_nothing(self) -> None:
        """After a constant, any other value would be infinitely odd: nothing is said."""
        assert shown(rule("r", "zscore", window=3, threshold=1.0), [2, 2, 2, 9]) == []

    def test_a_small_spread_around_a_large_mean_counts(self) -> None:
        """A million and a thousandth: differences are taken before squares."""
        values = [1e6 + 0.001 * (n % 2) for n in range(10)]
        ((_, step, score, _),) = shown(rule("r", "zscore", window=10, threshold=5.0), [*values, 1e6 + 0.0055])
        assert step == 10
        assert score == pytest.approx(10.0, rel=1e-3)


class TestPlateau:
    def test_points_without_improvement(self) -> None:
        """Best 5; 4.9 is no improvement by more than 0.2, nor is 4.85; the third point without one fires; 4.7 improves on 5 by 0.3."""
        one = rule("r", "plateau", goal="min", window=3, threshold=0.2)
        assert shown(one, [9, 5, 4.9, 4.85, 6, 4.7, 4.7]) == [("firing", 4, 6.0, 5.0), ("resolved", 5, 4.7, 4.7)]

    def test_a_goal_of_max(self) -> None:
        """Without a threshold any rise improves; the same value does not."""
        assert [one[:2] for one in shown(rule("r", "plateau", goal="max", window=2), [1, 2, 2, 2, 3])] == [("firing", 3), ("resolved", 4)]


class TestDivergence:
    def test_rising(self) -> None:
        """From 1, three rises in a row; the same value again ends it."""
        assert shown(rule("r", "divergence", window=3), [5, 1, 2, 3, 4, 4, 9]) == [("firing", 4, 4.0, 1.0), ("resolved", 5, 4.0, 4.0)]

    def test_falling(self) -> None:
        """With the goal max, falling is worse; NaN in between is left out."""
        assert shown(rule("r", "divergence", window=2, goal="max"), [5, 4, NAN, 3, 6]) == [("firing", 3, 3.0, 5.0), ("resolved", 4, 6.0, 6.0)]


class TestThroughput:
    def test_a_drop(self) -> None:
        """10 steps a second up to row 5, then 5: over 2 rows against the 3 before, row 6 has 6.67 against 10, row 7 5 against 10, row 8 5 against 7.5, row 9 5 against 6."""
        steps = list(range(0, 110, 10))
        times = [0, 1, 2, 3, 4, 5, 7, 9, 11, 13, 15]
        one = rule("r", "throughput", window=2, baseline=3, threshold=0.3)
        found = shown(one, [0.0] * 11, times_s=times, steps=steps)
        assert found == [("firing", 60, 6.666667, 10.0), ("resolved", 90, 5.0, 6.0)]

    def test_steps_that_do_not_grow_say_nothing(self) -> None:
        """A counter that starts again, and rows at one moment, are no rate."""
        one = rule("r", "throughput", window=1, baseline=1, threshold=0.1)
        assert shown(one, [0.0] * 4, times_s=[0, 1, 2, 2], steps=[0, 10, 0, 10]) == []


class TestNonFinite:
    def test_each_kind_of_it(self) -> None:
        """NaN and both infinities fire and go on firing; the next number resolves."""
        assert [one[:2] for one in shown(rule("r", "non_finite"), [1, NAN, INF, -INF, 0, INF])] == [("firing", 1), ("resolved", 4), ("firing", 5)]


@pytest.mark.parametrize(
    ("kind", "field", "fields"),
    [
        ("aggregate", "aggregate", {"aggregate": "mode", "window": 5, "operator": ">", "threshold": 1.0}),
        ("aggregate", "window", {"aggregate": "mean", "operator": ">", "threshold": 1.0}),
        ("aggregate", "window", {"aggregate": "mean", "window": 5, "window_s": 5.0, "operator": ">", "threshold": 1.0}),
        ("aggregate", "window", {"aggregate": "mean", "window": 1001, "operator": ">", "threshold": 1.0}),
        ("aggregate", "window_s", {"aggregate": "mean", "window_s": -1.0, "operator": ">", "threshold": 1.0}),
        ("aggregate", "window_s", {"aggregate": "mean", "window_s": NAN, "operator": ">", "threshold": 1.0}),
        ("threshold", "threshold", {"operator": ">", "threshold": INF}),
        ("threshold", "clear", {"operator": ">", "threshold": 1.0, "clear": 2.0}),
        ("threshold", "clear", {"operator": "<", "threshold": 1.0, "clear": 0.0}),
        ("threshold", "clear", {"operator": "==", "threshold": 1.0, "clear": 1.0}),
        ("threshold", "window", {"operator": ">", "threshold": 1.0, "window": 5}),
        ("threshold", "states", {"operator": ">", "threshold": 1.0, "states": ["failed"]}),
        ("threshold", "for_s", {"operator": ">", "threshold": 1.0, "for_s": -1.0}),
        ("threshold", "cooldown_s", {"operator": ">", "threshold": 1.0, "cooldown_s": NAN}),
        ("threshold", "metric", {"operator": ">", "threshold": 1.0, "metric": "a" * 1001}),
        ("threshold", "rule_id", {"operator": ">", "threshold": 1.0, "rule_id": "a/b"}),
        ("change", "threshold", {"threshold": 0.0}),
        ("change", "measure", {"threshold": 1.0, "measure": "interval"}),
        ("change", "direction", {"threshold": 1.0, "direction": "sideways"}),
        ("change", "clear", {"threshold": 1.0, "clear": 2.0}),
        ("zscore", "window", {"threshold": 1.0, "window": 1}),
        ("plateau", "goal", {"window": 5}),
        ("plateau", "window", {"goal": "min"}),
        ("plateau", "threshold", {"goal": "min", "window": 5, "threshold": -1.0}),
        ("divergence", "window", {}),
        ("throughput", "threshold", {"threshold": 1.0}),
        ("stale", "window_s", {}),
        ("stale", "for_s", {"window_s": 5.0, "for_s": 1.0}),
        ("run_state", "states", {"metric": "*"}),
        ("run_state", "states", {"metric": "*", "states": ["tired"]}),
        ("run_state", "metric", {"metric": "loss", "states": ["failed"]}),
        ("run_state", "context", {"metric": "*", "states": ["failed"], "context": "training"}),
        ("straggler", "threshold", {"threshold": 1.0}),
        ("straggler", "measure", {"threshold": 1.5, "measure": "relative"}),
        ("desync", "threshold", {"threshold": 0.0}),
        ("desync", "window", {"threshold": 5.0, "window": -1}),
        ("disagreement", "window_s", {"threshold": 1.0, "window_s": INF}),
        ("disagreement", "clear", {"threshold": 1.0, "clear": 1.5}),
    ],
)
def test_a_refusal_names_the_field(kind: str, field: str, fields: dict[str, object]) -> None:
    """Each field of each kind that does not fit is named, with what was expected and what came."""
    with pytest.raises(RuleRefused, match=f"a rule's {field} must be .*, got ") as caught:
        check(rule(str(fields.pop("rule_id", "r")), kind, **({"operator": "", "threshold": None} | fields)))
    assert caught.value.field == field
