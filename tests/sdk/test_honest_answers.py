"""`finish` and `alert_on` say what did not go as asked."""

from __future__ import annotations

import logging
import math
import time
from pathlib import Path
from typing import Any

import pytest

import runstream
from tests.sdk.conftest import Offline


def test_finish_does_not_call_shipped_what_was_never_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no journal can be written the answer is not `shipped`, and says why; with mode disabled there was nothing to ship."""
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(blocked))
    run = runstream.init("project")
    run.log({"loss": 1.0})
    finished = run.finish(1.0)
    assert not finished.shipped
    assert "no journal" in finished.trouble
    silent = runstream.init("project", mode="disabled").finish(1.0)
    assert silent.shipped
    assert silent.trouble == ""


def test_each_rule_that_is_refused_is_told(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Wrong rules that differ are told each; the same one again is not told again."""
    run = runstream.init("project")
    wrong: list[tuple[Any, ...]] = [(">", None, "warning"), (">", math.nan, "warning"), (">", 1.0, "bad"), ("=>", 1.0, "warning")]
    with caplog.at_level(logging.WARNING, logger="runstream"):
        for operator, threshold, severity in [*wrong, *wrong]:
            assert run.alert_on("loss", operator, threshold, severity=severity) == ""
    told = [record.getMessage() for record in caplog.records if "was not registered" in record.getMessage()]
    assert len(told) == len(wrong)
    run.finish(0)


def test_each_record_that_no_message_can_carry_is_told_by_name(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Two params and an event of 20 MB are three warnings, each with its name and size; the event has no id, and the gaps in the seqs show in the account."""
    run = runstream.init("project")
    first = run.next_seq
    with caplog.at_level(logging.WARNING, logger="runstream"):
        run.log_params({"prompt": "x" * 20_000_000, "system": "y" * 20_000_000, "lr": 0.1})
        assert run.log_event("dump", metadata={"text": "z" * 20_000_000}) == ""
        assert run.log_event("saved") != ""
    told = [record.getMessage() for record in caplog.records]
    assert [any(name in one and "20000" in one for one in told) for name in ("'prompt'", "'system'", "'dump'")] == [True] * 3, told
    assert len(told) == 3
    assert run.next_seq == first + 5
    assert run.finish(0).rows_left == first + 2


def test_rows_left_are_those_that_wait_in_the_journal(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that found no room are counted as dropped, and not as waiting to be shipped."""
    monkeypatch.setenv("RUNSTREAM_JOURNAL_BYTES_MAX", str(1 << 20))
    run = runstream.init("project")
    before = run.next_seq
    for step in range(20_000):
        run.log({"loss": 1.0, "accuracy": 2.0}, step=step)
    kept, dropped = run.points_logged, run.points_dropped["journal_full"]
    assert kept + dropped == 40_000
    assert run.finish(0).rows_left == before + kept // 2


def test_times_that_are_none_are_told_by_what_they_are(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of mistake is told once, milliseconds by that name; the rows are kept with the time of the call."""
    run = runstream.init("project")
    begun = time.time()
    wrong: list[Any] = ["2020-01-01", 1.7e12, 1.7e18, True, 1e300]
    with caplog.at_level(logging.WARNING, logger="runstream"):
        for one in [*wrong, *wrong]:
            run.log({"loss": 1.0}, time=one)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(wrong), told
    assert "milliseconds (divide it by 1,000)" in told[1]
    assert "nanoseconds (divide it by 1,000,000,000)" in told[2]
    assert all(begun - 1 <= row.time_s <= time.time() for row in offline.rows(run))


def test_each_value_of_names_that_meet_is_counted(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """Two values under one name are both given up, and both counted; an integer too large for a double says so."""
    run = runstream.init("project")
    with caplog.at_level(logging.WARNING, logger="runstream"):
        run.log({1: 1.0, "1": 2.0, "kept": 3.0})  # pyright: ignore[reportArgumentType]  # what callers do
        run.log({"huge": 10**400})
    assert run.points_dropped == {"bad_value": 3}
    assert run.points_logged == 1
    assert any("'huge'" in record.getMessage() and "range of doubles" in record.getMessage() for record in caplog.records)
