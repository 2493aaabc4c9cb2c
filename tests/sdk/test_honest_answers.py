"""`finish` and `alert_on` say what did not go as asked."""

from __future__ import annotations

import logging
import math
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
