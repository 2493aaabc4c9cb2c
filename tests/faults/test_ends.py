"""Which ends of workers a plan explains: a clock that it sets back, a restart, a worker that hangs, an engine that says why; nothing else."""

from __future__ import annotations

import pytest

from tests.faults.ends import unexplained
from tests.faults.schedule import Blow, Part, Plan

SINK, PROCESSOR = "2026-11-22 05:46:02 sinks is failed (exit code 1)\n", "2026-11-22 05:46:02 processors is failed (exit code 1)\n"
KILLED = "2026-11-22 05:46:02 sinks is failed (killed by SIGKILL)\n"
ENGINE = "ERROR runstream_processors worker ends reason=EngineFailed('Kafka did not know its topics')"


def clock(part: Part, *set_to: int) -> tuple[Blow, ...]:
    """A clock that is set several times."""
    return tuple(Blow(1.0 + number, "clock", part, amount=ahead_s) for number, ahead_s in enumerate(set_to))


@pytest.mark.parametrize(
    ("blows", "said", "processors_said", "strange"),
    [
        pytest.param((), KILLED, "", 0, id="a kill is no end of its own"),
        pytest.param((), SINK, "", 1, id="a sink that ends unasked"),
        pytest.param(clock("sinks", -600), SINK, "", 0, id="a clock that is set back"),
        pytest.param(clock("sinks", -600), SINK * 2, "", 1, id="once more than its clock is set back"),
        pytest.param(clock("sinks", -3), SINK, "", 1, id="a clock that is set back by less than ends a worker"),
        pytest.param(clock("sinks", 600), SINK, "", 1, id="a clock that is set ahead"),
        pytest.param(clock("sinks", 600, 0), SINK, "", 0, id="a clock that is set ahead and back"),
        pytest.param(clock("processors", -600), SINK, "", 1, id="the clock of another"),
        pytest.param((Blow(1.0, "restart", "sinks"),), SINK.replace("1)", "0)"), "", 0, id="a restart"),
        pytest.param((), SINK.replace("1)", "0)"), "", 1, id="an end in order that nobody asked for"),
        pytest.param((), SINK + "x sinks hangs and is asked to end: it does not answer", "", 0, id="a worker that hangs"),
        pytest.param((Blow(1.0, "kill", "kafka"),), PROCESSOR, ENGINE, 0, id="an engine that says why"),
        pytest.param((Blow(1.0, "kill", "kafka"),), PROCESSOR, "x could not be read to its end within 60 s", 0, id="topics that do not come"),
        pytest.param((Blow(1.0, "kill", "kafka"),), PROCESSOR * 2, ENGINE, 1, id="an engine that says so once"),
        pytest.param((Blow(1.0, "poison", "sinks"),), PROCESSOR, ENGINE, 1, id="an engine that nothing shook"),
        pytest.param((Blow(1.0, "kill", "kafka"),), PROCESSOR, "worker ends reason=KeyError(7)", 1, id="an error that nobody foresaw"),
        pytest.param((Blow(1.0, "kill", "kafka"),), SINK, ENGINE, 1, id="a sink has no such reason"),
    ],
)
def test_an_end_that_nothing_explains_is_found(blows: tuple[Blow, ...], said: str, processors_said: str, strange: int) -> None:
    """By part, and not more often than it is explained."""
    assert unexplained(Plan(7, 2, 150.0, 8.0, blows), said, {"processors": processors_said, "sinks": ""}).total() == strange
