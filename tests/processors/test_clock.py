"""The wall clock of a processor is set back: what follows the rules would wait for as long, so the process ends, and is started again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clock import Clock
from tests.processors.stack import Part, settings_of
from tests.waiting import wait_for


@pytest.mark.stack
@pytest.mark.parametrize("part", ["worker", "notify"])
def test_a_processor_whose_clock_is_set_back_ends(kafka: str, tmp_path: Path, part: str) -> None:
    """It says so and ends with 1 within seconds, whatever it does at that moment."""
    clock = Clock(tmp_path)
    process = Part(part, settings_of(kafka), tmp_path, environ=clock.environ)
    try:
        wait_for(lambda: bool(process.said()), 30, process.said)
        clock.set(-3600)
        assert process.process.wait(30) == 1, process.said()
        assert "the clock was set back, so that this process ends and another goes on set_back_s=3600" in process.said()
    finally:
        process.kill()
