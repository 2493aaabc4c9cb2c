"""A channel at work: a thread that takes messages from its lane, tries them, and hands the outcomes on. Each channel has its own, so that none waits for another."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from runstream_processors.notify.lane import Lane
from runstream_processors.notify.message import message_of
from runstream_processors.notify.outcome import Accepted, Again, Refused
from runstream_processors.notify.sending import Bounded

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_processors.notify.channels import Channel
    from runstream_processors.notify.figures import Figures
    from runstream_processors.notify.lane import Batch, Item, Settled
    from runstream_processors.notify.outcome import Outcome
    from runstream_processors.notify.sending import Way

logger = logging.getLogger(__name__)


class Finished(NamedTuple):
    """A message that was delivered or given up, and when, epoch milliseconds."""

    channel: Channel
    settled: Settled
    done_ms: int


class Runner:
    """One channel's lane and thread. Its methods return at once, but for `stop`."""

    def __init__(self, channel: Channel, way: Way, figures: Figures, finished: Callable[[Finished], None]) -> None:
        """`finished` is called from the channel's thread, and returns at once."""
        self.channel = channel
        self._way = Bounded(way, channel.name, channel.policy.timeout_s)
        self._figures = figures
        self._finished = finished
        self._lane = Lane(channel.name, channel.policy, time.monotonic())
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True, name=f"lane {channel.name}")

    def start(self) -> None:
        """Begins to send."""
        self._thread.start()

    def stop(self) -> None:
        """Asks the thread to end after the try that it is at; what was not told then is not told here any more."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self, timeout_s: float) -> None:
        """Waits for the thread."""
        self._thread.join(max(0.0, timeout_s))

    def add(self, item: Item) -> bool:
        """Takes an alert; False when too many wait."""
        with self._changed:
            taken = self._lane.add(item, time.monotonic())
            self._figures.pending.labels(self.channel.name).set(self._lane.pending)
            self._changed.notify()
        return taken

    def drop(self, is_gone: Callable[[Item], bool]) -> list[Item]:
        """Takes back alerts that wait."""
        with self._changed:
            return self._lane.drop(is_gone)

    def told(self, rule_id: str, run_id: str, alert_id: str, state: str) -> None:
        """Notes what the channel was told before this notifier started."""
        with self._changed:
            self._lane.firing.told(rule_id, run_id, alert_id, state)

    def _run(self) -> None:
        while True:
            with self._changed:
                batch = None
                while not self._stopping and batch is None:
                    batch = self._lane.take(time.monotonic())
                    if batch is None:
                        self._changed.wait(self._lane.wait_s(time.monotonic()))
            if batch is None:
                return
            outcome = self._try(batch)
            result = "accepted" if isinstance(outcome, Accepted) else "again" if isinstance(outcome, Again) else "refused"
            self._figures.tries.labels(self.channel.name, result).inc()
            if not isinstance(outcome, Accepted):
                logger.warning("delivery failed", extra={"channel": self.channel.name, "message_id": batch.message_id, "reason": outcome.reason})
            with self._changed:
                settled = self._lane.settle(outcome, time.monotonic(), random.random())
                self._figures.pending.labels(self.channel.name).set(self._lane.pending)
            if settled is not None:
                self._tell(settled)

    def _try(self, batch: Batch) -> Outcome:
        try:
            message = message_of(batch, self.channel.name)
        except Exception as error:
            # An alert of a kind that nobody thought of must not end the channel's thread.
            logger.exception("message cannot be made", exc_info=error, extra={"channel": self.channel.name, "message_id": batch.message_id})
            return Refused("a message of these alerts cannot be made")
        return self._way.send(message)

    def _tell(self, settled: Settled) -> None:
        if settled.outcome == "failed":
            facts = {"channel": self.channel.name, "message_id": settled.batch.message_id, "alerts": len(settled.batch.items)}
            logger.error("delivery given up", extra={**facts, "tries": settled.tries, "reason": settled.reason})
        self._figures.messages.labels(self.channel.name, settled.outcome).inc()
        done_ms = time.time_ns() // 1_000_000
        for item in settled.batch.items:
            self._figures.deliveries.labels(self.channel.name, settled.outcome).inc()
            if settled.outcome == "delivered":
                self._figures.seconds.labels(self.channel.name).observe(max(0.0, (done_ms - item.taken_ms) / 1000))
        self._finished(Finished(self.channel, settled, done_ms))
