"""A worker that is killed (SIGKILL, by its own hand) between two steps of its work, which `TEST_DIES_AT` in the environment names.

decided: it has decided alerts and sent none. sent: Kafka holds the alerts, and nothing else of it. halfway: Kafka holds all entries of a state but the last. stored: it holds the state,
and no record is acknowledged. acknowledged: the records are, and no offset is committed yet.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from runstream_processors import worker
from runstream_processors.faust_options import Timing
from runstream_processors.faust_ports import FaustPorts
from runstream_processors.faust_runner import FaustRunner, _Work
from runstream_schemas.settings import load
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_processors.engine import Entry, Output

POINT = "TEST_DIES_AT"
POINTS = ("decided", "sent", "halfway", "stored", "acknowledged")
TIMING = Timing(session_timeout_s=6.0, heartbeat_s=1.5)  # The shortest that a broker takes.
_ALERTS = TOPICS["alert"].full_name("")
_send, _write, _store = FaustPorts.send, FaustPorts.store, FaustRunner._store


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def send(self: FaustPorts, outputs: Sequence[Output]) -> None:
    """Takes the place of sending, where there are alerts to send."""
    alerts = any(one.topic.endswith(_ALERTS) for one in outputs)
    if alerts and point == "decided":
        _die()
    await _send(self, outputs)
    if alerts and point == "sent":
        _die()


async def write(self: FaustPorts, entries: Sequence[Entry]) -> None:
    """Takes the place of storing, of states of several writers."""
    if point == "halfway" and len(entries) > 1:
        await _write(self, entries[:-1])
        _die()
    await _write(self, entries)
    if point == "stored":
        _die()


async def store(self: FaustRunner, work: _Work) -> None:
    """Takes the place of storing and acknowledging, where there is something to acknowledge."""
    anything = bool(work.pending)
    await _store(self, work)
    if anything and point == "acknowledged":
        _die()


if __name__ == "__main__":
    point = os.environ.pop(POINT)
    assert point in POINTS, point
    FaustPorts.send, FaustPorts.store, FaustRunner._store = send, write, store
    sys.exit(worker.run(load(), TIMING))
