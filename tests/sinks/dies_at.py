"""A worker that is killed (SIGKILL, by its own hand) at a point of its loop, which `TEST_DIES_AT` in the environment names.

poll: it has taken records from Kafka for the first time, and done nothing with them. commit: ClickHouse has the rows, and it is about to commit them for the first time.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from runstream_sinks import kafka
from runstream_sinks.__main__ import main

if TYPE_CHECKING:
    from runstream_sinks.pipeline import Message

POINT = "TEST_DIES_AT"
_poll = kafka.Source.poll


def die(*_: object, **__: object) -> None:
    """Takes the place of the commit."""
    os.kill(os.getpid(), signal.SIGKILL)


def poll(self: kafka.Source, *, records_max: int, timeout_s: float) -> list[Message]:
    """Takes the place of the poll."""
    messages = _poll(self, records_max=records_max, timeout_s=timeout_s)
    if messages:
        die()
    return messages


if __name__ == "__main__":
    match os.environ.pop(POINT):
        case "poll":
            kafka.Source.poll = poll
        case "commit":
            kafka.Source.commit = die
        case other:
            raise ValueError(other)
    sys.exit(main())
