"""Stored summaries against what stored points come to: the plain reference fills the table, and each thing that is changed is found and named."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from runstream_rules.recompute import recompute
from runstream_schemas.records import MetricGroup
from runstream_sinks.commands.verify import summaries_text
from runstream_sinks.verify_summaries import SummaryReport, verify_summaries
from tests.sinks import examples
from tests.sinks.replays import command, words
from tests.sinks.test_tables import insert, new_run

if TYPE_CHECKING:
    from runstream_schemas.records import SummaryFrame
    from runstream_sinks.clickhouse import Server

pytestmark = pytest.mark.stack
ROWS = 500
NAMES = ("loss", "const", "far/away", "ties", "never", "huge")


def columns() -> dict[str, list[float]]:
    """Values by name: with and without numbers, far from zero, the same again and again, and such as overflow when they are squared."""
    random = np.random.default_rng(3)
    loss = random.normal(size=ROWS)
    loss[[3, 77]] = (math.nan, -math.inf)
    return {
        "loss": loss.tolist(),
        "const": [0.1] * ROWS,
        "far/away": (1e9 + random.normal(size=ROWS)).tolist(),
        "ties": [float(number % 5) for number in range(ROWS)],
        "never": [math.nan] * ROWS,
        "huge": [1e308 * (-1) ** number for number in range(ROWS)],
    }


def filled(server: Server, run_id: str, *, hardware: bool = False) -> SummaryFrame:
    """Stores points of a run, some twice and steps out of order, and gives the summaries that are right."""
    seqs = np.arange(ROWS, dtype=np.int64)
    steps = seqs // 2 * 3 - 40 + (seqs % 7)
    times = examples.STARTED_MS + 10 * seqs
    values = columns()
    with np.errstate(all="ignore"):
        group = MetricGroup("training", "", NAMES, seqs, steps, times, np.array([values[name] for name in NAMES]).T)
        frame = examples.frame(group, run_id=run_id, writer=7)
        insert(server, "hardware_points" if hardware else "metric_points", frame, frame)
        found = [recompute(zip(steps.tolist(), times.tolist(), values[name], strict=True)) for name in NAMES]
    named = {f"{name}s": tuple(getattr(one, name) for one in found) for name in ("count", "sum", "mean", "m2", "min", "min_step", "max", "max_step")}
    named |= {f"{name}s": tuple(getattr(one, name) for one in found) for name in ("first", "first_step", "last", "last_step", "first_time", "last_time")}
    named["non_finites"] = tuple(one.non_finite for one in found)
    return examples.summary(run_id, names=NAMES, contexts=("training",) * len(NAMES), subjects=("",) * len(NAMES), next_seq=ROWS, **named)


def check(server: Server, *runs: str) -> SummaryReport:
    """A verification without pauses."""
    return verify_summaries(server, frozenset(runs), look_again_s=0.0)


def test_summaries_that_are_right_are_found_equal(server: Server) -> None:
    """Metrics and hardware, values that are no numbers, ties, values that overflow, and rows that came twice: nothing differs, with all runs and with one."""
    run_id, other = new_run(), new_run()
    insert(server, "summary_series", filled(server, run_id))
    insert(server, "summary_series", filled(server, other, hardware=True))
    report = check(server)
    assert report.equal, summaries_text(report)
    assert {(one.run, one.series, one.compared) for one in report.runs} == {(run_id, 6, 6), (other, 6, 6)}
    assert [one.run for one in check(server, other).runs] == [other]


def test_every_field_that_is_wrong_is_named(server: Server) -> None:
    """One wrong figure of one series makes one difference, with what is stored and what points give; the other series are equal."""
    whole = {"counts": 1, "non_finites": 1, "min_steps": 1, "max_steps": 1, "first_steps": 1, "last_steps": 1, "first_times": 1, "last_times": 1}
    changed: dict[str, float] = {**whole, "mins": 1e-12, "maxs": 1e-12, "firsts": 1e-12, "lasts": 1e-12, "means": 1e-6, "m2s": 1e-3, "sums": 1e-3}
    wrong: dict[str, str] = {}
    for name, by in changed.items():
        run_id = new_run()
        right = filled(server, run_id)
        column = list(getattr(right, name))
        column[0] += by
        insert(server, "summary_series", replace(right, **{name: tuple(column)}))
        wrong[run_id] = "variance" if name == "m2s" else name.removesuffix("s")
    report = check(server)
    assert not report.equal
    for one in report.runs:
        [difference] = one.differences
        spread: set[str] = {"mean", "variance"} & difference.stored.keys() if wrong[one.run] in ("count", "non_finite") else set()
        expected = {wrong[one.run], *spread}
        assert (difference.series.name, set(difference.stored), set(difference.computed)) == ("loss", expected, expected)
    assert "loss (training), rank 0, writer 7: " in summaries_text(report)


def test_what_is_behind_or_gone_is_told_and_what_is_missing_differs(server: Server) -> None:
    """A summary that has not seen the newest rows is behind; one without points is told; a series without a summary differs once its writer was seen that far."""
    behind, gone, missing, never = new_run(), new_run(), new_run(), new_run()
    insert(server, "summary_series", replace(filled(server, behind), next_seq=ROWS - 1, counts=(ROWS - 1,) * len(NAMES)))
    insert(server, "summary_series", examples.summary(gone))
    some = filled(server, missing)
    columns: dict[str, Any] = {one.name: getattr(some, one.name) for one in fields(some)}
    insert(server, "summary_series", replace(some, **{name: value[1:] for name, value in columns.items() if type(value) is tuple}))
    filled(server, never)
    report = check(server, behind, gone, missing, never)
    by_run = {one.run: one for one in report.runs}
    assert {run: (one.series, one.behind, one.without_points, one.differing) for run, one in by_run.items()} == {
        behind: (6, 6, 0, 0),
        gone: (2, 0, 2, 0),
        missing: (6, 0, 0, 1),
        never: (6, 6, 0, 0),
    }
    assert [(one.series.name, one.what) for one in by_run[missing].differences] == [("loss", "no summary")]
    assert not check(server, never).equal  # Nothing could be compared.
    assert "have not caught up with 6 of 6 series" in summaries_text(report)


def test_the_command_tells_and_ends_with_what_was_found(
    clickhouse_url: str, database: str, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 0 and `equal`, or 1 and what differs; beside --topic it is refused."""
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", clickhouse_url)
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_DATABASE", database)
    monkeypatch.setattr("runstream_sinks.verify_summaries.LOOKS", 1)
    run_id = new_run()
    right = filled(server, run_id)
    insert(server, "summary_series", right)
    code, out, err = words(["verify", "--summaries"], capsys)
    assert (code, out.splitlines()) == (0, ["1 runs, 6 series, 6 compared, 0 differ", "equal"]), err
    insert(server, "summary_series", replace(right, next_seq=ROWS + 1, lasts=(1.5, *right.lasts[1:])))
    code, found, err = command(["verify", "--summaries", "--json", "--run", run_id], capsys)
    assert (code, found["equal"], found["runs"][0]["differences"][0]["stored"]) == (1, False, {"last": "1.5"}), err
    assert command(["verify", "--summaries", "--topic", "metric"], capsys)[0] == 2
