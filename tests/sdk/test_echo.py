"""Offline, rules of the run are echoed where the values are logged."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

import runstream
from runstream import Condition, Context
from runstream._echo import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(name="run")
def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[runstream.Run]:
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path))
    with runstream.init("echo", mode="offline", capture="none", strict=True) as run:
        yield run


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was echoed: what happened, and to what."""
    lines = [one.partition("runstream: ")[2] for one in caplog.messages if "judged here" in one]
    return [one.partition(";")[0] for one in lines]


def test_a_bound_fires_once_and_is_over_at_its_clear(run: runstream.Run, caplog: pytest.LogCaptureFixture) -> None:
    """An episode is told twice, whatever lies between; NaN says nothing to a bound. The module's call is the run's."""
    run.alert_on("loss", ">", 2.0, clear=1.0, severity="critical")
    for step, loss in enumerate((1.5, 3.0, 4.0, 1.5, math.nan, 0.5, 2.5)):
        runstream.log({"loss": loss, "other": 9.0}, step=step)
    assert told(caplog) == [
        "critical alert firing: loss > 2 (loss is 3 at step 1)",
        "critical alert resolved: loss > 2 (loss is 0.5 at step 5)",
        "critical alert firing: loss > 2 (loss is 2.5 at step 6)",
    ]
    assert run.points_logged == 14


def test_what_is_not_finite(run: runstream.Run, caplog: pytest.LogCaptureFixture) -> None:
    """NaN and infinities fire, by pattern and in nested names; another context is another series."""
    run.alert_on("*lo?s", "non_finite")
    run.log({"head": {"loss": math.nan}}, step=1)
    run.log({"head": {"loss": math.inf}}, step=1, context=Context.VALIDATION)
    run.log({"head": {"loss": 1.0}}, step=2)
    assert [one.partition(" (")[2] for one in told(caplog)] == ["head/loss is nan at step 1)", "head/loss is inf at step 1)", "head/loss is 1 at step 2)"]


OTHERS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "context": ("loss", ">", {"threshold": 1.0, "context": "validation"}),
    "rank": ("loss", ">", {"threshold": 1.0, "rank": 5}),
    "for": ("loss", ">", {"threshold": 1.0, "for_s": "1h"}),
    "name": ("los", ">", {"threshold": 1.0}),
    "kind": ("loss", Condition("aggregate", aggregate="mean", window=1, operator=">", threshold=1.0), {}),
}


@pytest.mark.parametrize("about", list(OTHERS))
def test_rules_that_are_about_something_else(run: runstream.Run, caplog: pytest.LogCaptureFixture, about: str) -> None:
    """Nothing is echoed of them, and all of them are registered."""
    metric, condition, others = OTHERS[about]
    assert run.alert_on(metric, condition, **others)
    run.log({"loss": 5.0}, step=1)
    assert told(caplog) == []


def test_a_pattern_of_one_character_and_one_of_many_stars(run: runstream.Run, caplog: pytest.LogCaptureFixture) -> None:
    """`?` alone makes a pattern, too, and stars without number do not hold the training up."""
    run.alert_on("lo?s", ">", 1.0)
    run.alert_on("*a" * 40 + "*b", ">", 1.0)
    run.log({"loss": 2.0, "a" * 500: 2.0}, step=1)
    assert told(caplog) == ["warning alert firing: lo?s > 1 (loss is 2 at step 1)"]


def test_a_condition_that_holds_long_enough() -> None:
    """It fires at the first row by which it held for so long, and begins anew where it did not hold."""
    watch = Watch({"kind": "threshold", "metric": "loss", "operator": ">", "threshold": 1.0, "for_s": 10.0})
    series: Any = ("loss", "", "")
    rows = ((0.0, 2.0, ""), (9.0, 2.0, ""), (9.5, 0.5, ""), (12.0, 2.0, ""), (21.0, 2.0, ""), (22.0, 2.0, "firing"), (23.0, 2.0, ""), (24.0, 1.0, "resolved"))
    for now_s, value, expected in rows:
        assert watch.take(series, value, now_s) == expected
