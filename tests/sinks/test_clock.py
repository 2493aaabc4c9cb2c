"""The wall clock of a sink worker is set back: librdkafka's threads would wait for as long, so the worker ends, and the next one goes on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.clock import Clock
from tests.sinks import examples
from tests.sinks.workers import SHORT_SESSION, Pipe

HOUR_S = 3600
RUN = "0e177292-7500-42b8-8f51-e962d246ef2b"


@pytest.mark.stack
def test_a_worker_whose_clock_is_set_back_ends_and_the_next_one_goes_on(pipe: Pipe, tmp_path: Path) -> None:
    """It says so, ends with 1 within seconds, and nothing is lost or doubled. Before, it waited for an hour for a Kafka that was back."""
    clock = Clock(tmp_path)
    environ = SHORT_SESSION | clock.environ
    first = pipe.start(environ=environ)
    for number in range(2):
        pipe.send_frames(examples.frame(examples.group(["loss"], 10 * number, 10), run_id=RUN, writer=1, first_seq=10 * number, next_seq=10 * number + 10))
        pipe.wait_for_rows("metrics", 10 * number + 10)
        if number == 0:
            clock.set(HOUR_S)  # Ahead is no matter: nobody waits longer for it.
            time.sleep(2.5)  # It is looked at once a second, and one that is right again before was never wrong.
    clock.set(0)
    assert first.wait(20) == 1, pipe.log()
    assert "the clock was set back, so that this process ends and another goes on set_back_s=3600" in pipe.log()
    pipe.send_frames(examples.frame(examples.group(["loss"], 20, 10), run_id=RUN, writer=1, first_seq=20, next_seq=30))
    pipe.start(environ=environ)
    pipe.wait_for_rows("metrics", 30)
