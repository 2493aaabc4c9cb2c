"""Arguments of `init` that concern what surrounds a run, and the examples of the pages on it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import runstream
from runstream_producers.readings import INTERVAL, interval_of
from tests.sdk.conftest import Offline

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize(
    ("argument", "value", "expected"),
    [
        (
            "hardware_interval_s",
            0.5,
            "argument 'hardware_interval_s' (seconds between hardware readings, 1 to 60; 0 turns them off) does not fit: expected 1 to 60, or 0, got 0.5",
        ),
        ("hardware_interval_s", 61, "expected 1 to 60, or 0, got 61"),
        ("hardware_interval_s", float("nan"), "expected"),
        ("hardware_interval_s", -1, "expected 1 to 60, or 0, got -1"),
        ("hardware_interval_s", "soon", "expected"),
        ("console", "maybe", "expected"),
        ("console", 7, "expected"),
    ],
    ids=["often", "seldom", "nan", "negative", "word", "console-word", "console-number"],
)
def test_what_does_not_fit_is_named(offline: Offline, argument: str, value: Any, expected: str) -> None:
    """A wrong interval or console is one sentence with the argument as it was given, what was expected and what came, and nothing has begun."""
    with pytest.raises(runstream.SettingsError) as caught:
        runstream.init("p", **{argument: value})
    assert str(caught.value).startswith(f"argument {argument!r} (")
    assert expected in str(caught.value)
    assert offline.folders() == []


@pytest.mark.parametrize("seconds", [0, 1, 2.5, 60, "30"], ids=str)
def test_each_rank_says_how_often_its_run_is_read(offline: Offline, seconds: Any) -> None:
    """The interval goes with the rank, for whatever agent serves it."""
    assert offline
    with runstream.init("p", hardware_interval_s=seconds) as run:
        assert run._journal is not None
        environment = run._journal.identity.environment
    assert interval_of(environment, 7.0) == float(seconds)
    assert interval_of({}, 7.0) == interval_of({INTERVAL: "often"}, 7.0) == 7.0


def test_the_examples_of_the_pages_run(tmp_path: Path) -> None:
    """What docs/hardware.md, environments.md and console.md show for training runs as it stands, in strict mode."""
    pages = [(DOCS / name).read_text(encoding="utf-8") for name in ("hardware.md", "environments.md", "console.md")]
    blocks = [block for page in pages for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)]
    assert len(blocks) == 3
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
    settings = {"RUNSTREAM_HOME": str(tmp_path), "RUNSTREAM_JOURNAL_DIR": str(tmp_path), "RUNSTREAM_MODE": "offline", "RUNSTREAM_STRICT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", "\n".join(blocks)], env=kept | settings, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "epoch 1\n", "")
