"""A node agent that may be made to die at a named point of its work (`tests.faults.trap`). Run as a script, with the arguments of `runstream_producers.agent`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from runstream_producers import agent, claims, states
from runstream_producers.claims import GONE, Claim
from runstream_producers.hands import Hand
from runstream_producers.journal import format as fmt
from runstream_producers.kafka import Failure, Sender
from runstream_producers.shipper import Shipment
from runstream_schemas.settings import Settings
from runstream_schemas.topics import TOPICS
from tests.faults.trap import AGENT_POINTS, OF_AGENT, Trap

_FRAMES = TOPICS["metric"].full_name("")
_publish, _remove, _send = states.publish_schemas, claims.remove, Sender.send
_init, _let_go = Hand.__init__, Hand.let_go
_write_ack, _remove_segments, _finish = Shipment._write_ack, Shipment._remove_segments, Shipment.finish


def publish_schemas(sender: Sender, topic_prefix: str) -> None:
    """Takes the place of what an agent begins with."""
    trap.here("begun")
    _publish(sender, topic_prefix)
    trap.here("registered")


def init(self: Hand, folder: Path, claim: Claim, sender: Sender, settings: Settings) -> None:
    """Takes the place of taking a journal up."""
    _init(self, folder, claim, sender, settings)
    trap.here("taken")


def send(self: Sender, topic: str, key: bytes, value: bytes, on_answer: Callable[[Failure | None], None]) -> bool:
    """Takes the place of handing a record over."""
    taken = _send(self, topic, key, value, on_answer)
    if taken and topic.endswith(_FRAMES):
        trap.here("handed")
    return taken


def write_ack(self: Shipment) -> None:
    """Takes the place of moving the mark."""
    trap.here("answered")
    if trap.armed("half a mark"):
        raw, start = replace(self.ack, generation=self.ack.generation + 1).pack(), fmt.ACK_SLOT_BYTES * ((self.ack.generation + 1) % 2)
        self._slots[start : start + len(raw) // 2] = raw[: len(raw) // 2]
        trap.spring("half a mark")
    _write_ack(self)
    trap.here("moved")


def remove_segments(self: Shipment) -> None:
    """Takes the place of removing segments that are shipped."""
    trap.here("marked")
    _remove_segments(self)


def let_go(self: Hand) -> None:
    """Takes the place of letting go of a journal that is stored."""
    trap.here("told")
    _let_go(self)


def finish(self: Shipment) -> None:
    """Takes the place of marking a journal as done."""
    _finish(self)
    trap.here("done")


def remove(folder: Path) -> None:
    """Takes the place of removing a journal."""
    if trap.armed("removing"):
        folder.rename(folder.with_name(GONE + folder.name))
        trap.spring("removing")
    _remove(folder)


if __name__ == "__main__":
    trap = Trap(Path(os.environ[OF_AGENT]), AGENT_POINTS)
    states.publish_schemas, claims.remove, Sender.send = publish_schemas, remove, send
    Hand.__init__, Hand.let_go = init, let_go
    Shipment._write_ack, Shipment._remove_segments, Shipment.finish = write_ack, remove_segments, finish
    sys.exit(agent.main())
