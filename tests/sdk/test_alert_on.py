"""`alert_on`: every kind from code is the rule that a file would write, and every argument that does not fit is told by its name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

import runstream
from runstream import Condition
from runstream_producers.journal import format as fmt
from runstream_rules import check
from runstream_rules.files import read
from runstream_schemas.records import Rule
from runstream_schemas.rule_fields import KINDS

if TYPE_CHECKING:
    from tests.sdk.conftest import Offline

# By kind: a metric, the condition in code, and the fields of the same rule in a file.
CONDITIONS: dict[str, tuple[str, Condition, str]] = {
    "threshold": ("loss", Condition("threshold", operator=">", threshold=10, clear=5), "operator: '>', threshold: 10, clear: 5"),
    "aggregate": (
        "loss",
        Condition("aggregate", aggregate="median", window_s="10m", operator="<", threshold=5),
        "aggregate: median, window_s: 10m, operator: <, threshold: 5",
    ),
    "change": (
        "loss",
        Condition("change", threshold=0.2, window=10, baseline=50, direction="up", measure="absolute"),
        "threshold: 0.2, window: 10, baseline: 50, direction: up, measure: absolute",
    ),
    "zscore": ("loss", Condition("zscore", threshold=6, window=30, direction="down"), "threshold: 6, window: 30, direction: down"),
    "non_finite": ("loss*", Condition("non_finite"), ""),
    "plateau": ("loss", Condition("plateau", goal="min", window=20, threshold=0.001), "goal: min, window: 20, threshold: 0.001"),
    "divergence": ("loss", Condition("divergence", goal="max", window=5), "goal: max, window: 5"),
    "throughput": ("loss", Condition("throughput", threshold=0.3, window=20, baseline=200), "threshold: 0.3, window: 20, baseline: 200"),
    "stale": ("loss", Condition("stale", window_s=7200), "window_s: 2h"),
    "run_state": ("", Condition("run_state", states=["failed", "silent"], window_s=60), "states: [failed, silent], window_s: 1m"),
    "straggler": ("t", Condition("straggler", measure="value", window=10, threshold=1.5), "measure: value, window: 10, threshold: 1.5"),
    "desync": ("t", Condition("desync", threshold=20), "threshold: 20"),
    "disagreement": ("t", Condition("disagreement", threshold=0.001, measure="relative"), "threshold: 0.001, measure: relative"),
}


def registered(offline: Offline, run: runstream.Run) -> Rule:
    """The rule that the run registered last, as the shipper makes it of its journal."""
    return Rule(**offline.records(run, fmt.Kind.RULE)[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_the_rule_that_a_file_would_write(offline: Offline, kind: str) -> None:
    """Same fields, same values, and it can be applied; the id is another, since it is the run's own."""
    metric, condition, written = CONDITIONS[kind]
    run = runstream.init("p")
    rule_id = run.alert_on(metric, condition, name="a", severity="critical", labels={"team": "vision"}, channels=["ops"])
    made = registered(offline, run)
    check(made)
    named = f"metric: '{metric}', " if metric else ""
    (entry,) = read([("f", f"rules: [{{name: a, kind: {kind}, {named}severity: critical, labels: {{team: vision}}, channels: [ops], {written}}}]")])
    own = {"rule_id": rule_id, "version": 1, "time_ms": made.time_ms, "run_id": run.id}
    for field in Rule.__dataclass_fields__:
        value, wanted = getattr(made, field), own.get(field, getattr(entry.rule, field))
        assert value == (list(cast("tuple[str, ...]", wanted)) if isinstance(wanted, tuple) and wanted else wanted), field


def test_what_holds_for_all_kinds_stands_beside_the_condition(offline: Offline) -> None:
    """Durations are seconds or texts, numbers may be numpy's, and the bounds of a condition may be given beside it."""
    run = runstream.init("p")
    condition = Condition("aggregate", aggregate="mean", window=np.int64(10), operator=">")  # pyright: ignore[reportArgumentType]  # what callers do
    assert run.alert_on("loss", condition, np.float32(2.0), clear=1, for_s="30s", cooldown_s=np.float64(600.0), rank=np.int32(1))  # pyright: ignore[reportArgumentType]  # what callers do
    made = registered(offline, run)
    assert (made.threshold, made.clear, made.for_s, made.cooldown_s, made.rank, made.window) == (2.0, 1.0, 30.0, 600.0, 1, 10)
    assert made.name == "loss: aggregate mean > 2"


def test_a_bound_of_zero_is_a_bound(offline: Offline) -> None:
    """And rank 0 is a rank."""
    run = runstream.init("p")
    run.alert_on("loss", ">", 0, clear=0, rank=0)
    made = registered(offline, run)
    assert (made.threshold, made.clear, made.rank) == (0.0, 0.0, 0)


def test_the_same_condition_is_the_same_rule(offline: Offline) -> None:
    """From every rank that registers it; anything else is another one."""
    ids = [runstream.init("p", id="one").alert_on("loss", Condition("stale", window_s=window_s)) for window_s in (60, "1m", 61)]
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (("a", ">", "5"), {}, "threshold must be a number, got '5'"),
        (("a", "above", 5), {}, "operator must be one of < <= > >= == !=, 'non_finite' or a Condition, got 'above'"),
        (("a", ">", float("inf")), {}, "threshold must be a finite number for a threshold rule, got inf"),
        (("a", ">", 5), {"for_s": "soon"}, "for_s must be seconds, or a number with ms, s, m, h or d behind it, such as 30s or 2h, got 'soon'"),
        (("a", ">", 5), {"clear": 6}, "clear must be a number not above the threshold, 5, got 6.0"),
        (("a", ">", 5), {"severity": "dire"}, "severity must be one of info, warning, critical, got 'dire'"),
        (("a", ">", 5), {"labels": ["x"]}, "labels must be a mapping of texts, got ['x']"),
        (("a", ">", 5), {"rank": -1}, "rank must be an integer from 0, or left out for every rank, got -1"),
        (("", ">", 5), {}, "metric must be a text that is not empty, got ''"),
        (("a", "non_finite", 3), {}, "threshold must be left out of a non_finite rule, got 3.0"),
        (("a", Condition("plateau", goal="min", window="x")), {}, "window must be an integer from 0, got 'x'"),  # pyright: ignore[reportArgumentType]  # what callers do
        (("a", Condition("plateau", goal="min", window=5, direction="up")), {}, "direction must be left out of a plateau rule, got 'up'"),
        (("a", Condition("tresh")), {}, f"kind must be one of {', '.join(KINDS)}, got 'tresh'"),  # pyright: ignore[reportArgumentType]  # what callers do
        (("a", Condition("stale", window_s=5)), {"for_s": 3}, "for_s must be left out of a stale rule, got 3.0"),
        (("a", Condition("run_state", states="dead")), {}, "states must be some of failed, crashed, killed, preempted, finished, silent, got ['dead']"),
        (("a", Condition("threshold", operator=">", threshold=1), 2), {}, "threshold must be given once, in the condition or beside it, got 2 beside 1"),
    ],
    ids=lambda one: one[:30] if isinstance(one, str) else None,
)
def test_each_argument_that_does_not_fit_is_told(
    offline: Offline, caplog: pytest.LogCaptureFixture, arguments: tuple[Any, ...], options: dict[str, Any], said: str
) -> None:
    """By its name, with what was expected and what came; nothing is registered, and strict mode raises."""
    run = runstream.init("p")
    with caplog.at_level(logging.WARNING, logger="runstream"):
        assert run.alert_on(*arguments, **options) == ""
    assert any(said in record.getMessage() for record in caplog.records), [record.getMessage() for record in caplog.records]
    assert offline.records(run, fmt.Kind.RULE) == []


def test_all_mistakes_are_told_at_once(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """In one sentence a rule; in strict mode it is raised."""
    run = runstream.init("p")
    with caplog.at_level(logging.WARNING, logger="runstream"):
        run.alert_on("a", Condition("aggregate"), severity="dire")  # pyright: ignore[reportArgumentType]  # what callers do
    (told,) = [record.getMessage() for record in caplog.records if "was not registered" in record.getMessage()]
    assert [word for word in ("severity", "operator", "threshold", "aggregate", "window") if f"{word} must be" in told] == [
        "severity",
        "operator",
        "threshold",
        "aggregate",
        "window",
    ]
    strict = runstream.init("p", strict=True)
    with pytest.raises(runstream.StrictError, match="window must be"):
        strict.alert_on("a", Condition("aggregate", aggregate="mean", operator=">", threshold=1.0))
