"""The agent's loop over one journal folder: takes journals in hand, ships them, samples hardware, and lets go of what is done.

It knows nothing of processes, locks on the folder or settings' origins; `agent` runs it, as a process or a thread.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from runstream_producers import claims, states
from runstream_producers.hands import take_up
from runstream_schemas.settings import refreshed

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_producers.hands import Hand
    from runstream_producers.kafka import Sender
    from runstream_producers.readings import Readings
    from runstream_schemas.settings import Settings

_log = logging.getLogger("runstream.agent")

LOOP_S = 0.02  # How long the loop waits at least, unless answers come.
LOOK_S = 0.05  # How often the folder is searched for new journals and for ends: what a short run, and every `finish`, waits for.
SCAN_S = 0.25  # How often the writers' locks are tried and the machine's readings are looked after.
EARLY_S = 0.01  # What is due so soon is done at once, since waking up is most of what an agent costs beside ranks that log a little.


class Agent:
    """One agent, with the hardware readings that it takes, if any. `broken` are the names of journals that cannot be read or written, which keep no other back."""

    def __init__(self, folder: Path, settings: Settings, sender: Sender, readings: Readings | None) -> None:
        self._folder = folder
        self._told_trouble: str | None = None
        self._settings = settings
        self._sender = sender
        self._readings = readings
        self._hands: dict[str, Hand] = {}
        self.broken: set[str] = set()
        self._busy_at = time.monotonic()
        self._look_again_at = 0.0
        self._scan_at = 0.0
        self._ship_at = 0.0
        self.stopping = self.moved = False

    def run(self) -> None:
        """Works until told to stop, until nothing has been left to do for `agent_idle_timeout` seconds, until the sender is broken or outdated, or Kafka has moved."""
        states.publish_schemas(self._sender, self._settings.topic_prefix)
        claims.sweep(self._folder)
        while not (self.stopping or self.moved or self._sender.broken or self._sender.outdated):
            now = time.monotonic()
            self.step(now)
            if now - self._busy_at > self._settings.agent_idle_timeout:
                return
            self._pause(time.monotonic())

    def _pause(self, now: float) -> None:
        """Waits until something is due, and takes in answers: as they come where somebody waits for them, else in one go afterwards."""
        pause_s = max(LOOP_S, min(self._look_again_at, self._scan_at, self._ship_at) - now)
        if any(hand.over or not hand.shipment.caught_up for hand in self._hands.values()):
            self._sender.poll(pause_s)
        else:
            time.sleep(pause_s)
            self._sender.poll(0.0)

    def step(self, now: float) -> None:
        """One round: look for journals, sample, ship, tell."""
        soon = now + EARLY_S
        if soon >= self._look_again_at:
            self._look_again_at = next_due(now, LOOK_S)
            self._look()
        if soon >= self._scan_at:
            self._scan_at = next_due(now, SCAN_S)
            self._scan(now)
        if self._hands:
            self._busy_at = now
        if soon >= self._ship_at or any(hand.over for hand in self._hands.values()):
            self._ship_at = next_due(now, self._settings.batch_interval)
            for name, hand in list(self._hands.items()):
                self._serve(name, hand, now)
        else:
            for hand in self._hands.values():
                hand.shipment.settle(now)

    def _look(self) -> None:
        """Finds journals that are new, and the ends that writers have left."""
        for name in os.listdir(self._folder):  # noqa: PTH208 - pathlib takes five times as long, twenty times a second
            if name.startswith("w-") and name not in self._hands and name not in self.broken:
                self._take_up(name)
        for name, hand in self._hands.items():
            if not hand.over and os.path.exists(f"{self._folder}/{name}/end.json"):  # noqa: PTH110 - as above
                hand.look()

    def _scan(self, now: float) -> None:
        """Finds the writers that have died, looks after the machine's readings, and says what is wrong with Kafka."""
        for hand in self._hands.values():
            hand.look()
        if self._readings is not None:
            ranks = [hand.shipment.identity for hand in self._hands.values() if not hand.over]
            self._readings.take((one for one in ranks if one.kind == "rank"), now)
        self.moved = refreshed(self._settings) is not self._settings
        if self._sender.trouble != self._told_trouble:
            self._told_trouble = self._sender.trouble
            states.tell_trouble(self._folder, self._sender.trouble)

    def _take_up(self, name: str) -> None:
        folder = self._folder / name
        try:
            hand = take_up(folder, self._sender, self._settings)
        except (OSError, ValueError, TypeError) as error:
            self.broken.add(name)
            _log.error("journal cannot be taken up folder=%s error=%s", folder, error)
            return
        if hand is None:
            return  # `runstream sync` is at it: it may leave something to do.
        self._hands[name] = hand
        one = hand.shipment.identity
        _log.info("journal taken up writer=%d run=%s rank=%d kind=%s", one.writer, one.run_id, one.rank, one.kind)

    def _serve(self, name: str, hand: Hand, now: float) -> None:
        try:
            done = hand.serve(now)
        except (OSError, ValueError, TypeError, KeyError) as error:
            # One journal that cannot be read must not keep the others.
            _log.error("journal cannot be shipped any further folder=%s error=%r", self._folder / name, error)
            hand.drop()
            del self._hands[name]
            self.broken.add(name)
            return
        if done:
            hand.let_go()
            del self._hands[name]
            _log.info("journal done writer=%d state=%s rows=%d", hand.shipment.identity.writer, hand.state, hand.shipment.ack.rows)

    def close(self, timeout_s: float) -> None:
        """Ends the hardware journals and waits for answers; what is left stays in the journals for the next agent. One whose producer is at its end leaves the readings to the next."""
        if self._readings is not None and not (self._sender.broken or self._sender.outdated):
            self._readings.close()
        self._readings = None
        while self._sender.broken and self._sender.poll(0.0):
            pass  # Answers that came before its end, such as that a record is refused: without them the next producer would come to the same end by the same record.
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            self._scan_at = 0.0
            self.step(time.monotonic())
            self._sender.poll(LOOP_S)
            if not self._sender.waiting():
                break
        for hand in self._hands.values():
            hand.put_down(time.monotonic())


def next_due(now: float, interval_s: float) -> float:
    """When something is due again that is done at `now`: at a multiple of its interval, so that things of several intervals meet in one round."""
    return (int((now + EARLY_S) / interval_s) + 1) * interval_s if interval_s else now
