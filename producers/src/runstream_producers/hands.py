"""One journal in the hands of whoever ships it, the agent or a sync: its rows, its heartbeats, and the writer's last word once it has ended or died.

Which journals are taken up, and what becomes of one that is done, is the matter of `loop` and `sync`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runstream_producers import claims, states
from runstream_producers.journal import format as fmt
from runstream_producers.journal import survey
from runstream_producers.journal.segments import held, locked
from runstream_producers.shipper import Shipment
from runstream_schemas import topics, wire
from runstream_schemas.errors import MalformedRecord

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_producers.claims import Claim
    from runstream_producers.kafka import Failure, Sender
    from runstream_schemas.settings import Settings

FINALS_MAX = 4  # Sends of a writer's last state, each refused by Kafka, before its journal goes without: its rows are stored by then.
FINAL_PAUSE_S = 1.0


def take_up(folder: Path, sender: Sender, settings: Settings) -> Hand | None:
    """Takes a journal in hand; None where another process has it, or has shipped it meanwhile.

    Raises:
        PermissionError: the folder cannot be written to.
        OSError, ValueError, TypeError: the journal cannot be read.
    """
    claim = claims.claim(folder)
    if claim is None:
        return None
    try:
        return Hand(folder, claim, sender, settings)
    except BaseException:
        claim.release()
        raise


class Hand:
    """A journal in hand. `alive` is whether its writer's process lives, `end` what it said at its end, `torn` how many bytes of a row a dead one left unfinished."""

    def __init__(self, folder: Path, claim: Claim, sender: Sender, settings: Settings) -> None:
        identity = fmt.Identity.from_json((folder / "writer.json").read_text(encoding="utf-8"))
        self.shipment = Shipment(folder, identity, sender, settings.topic_prefix, settings.batch_size)
        self.alive = True
        self.end: fmt.End | None = None
        self.torn = 0
        self._claim = claim
        self._sender = sender
        self._topic = f"{settings.topic_prefix}.writer"
        self._heartbeat_interval_s = settings.heartbeat_interval
        self._heartbeat_at = 0.0
        self._heard_ms = states.last_sign_ms(folder, identity.started_ms)
        self._telling = False  # A record of its state waits for an answer.
        # Whoever shipped it before may have been killed between the writer's last state and the removal.
        self._stored = self.shipment.ack.done
        self._final_failures = 0
        self._final_at = 0.0
        self._final_sent = False
        self.look()
        self._seen_alive = not self.over

    @property
    def over(self) -> bool:
        """Whether its writer has ended or died, so that nothing more is to come."""
        return self.end is not None or not self.alive

    @property
    def state(self) -> str:
        """`running`, the state in which the writer ended, or `crashed`."""
        if self.end is not None:
            return self.end.state
        return "running" if self.alive else "crashed"

    def look(self) -> None:
        """Finds out whether the writer has ended, and how."""
        if self.over:
            return
        folder = self.shipment.folder
        # In this order: a writer that ends between the two looks has left its end by the second. A lock of this very process must not be tried, which would free it.
        self.alive = self.shipment.identity.writer in held or locked(folder / "lock")
        self.end = survey.read_end(folder)

    def serve(self, now: float) -> bool:
        """Ships what there is, tells of the writer when that is due; True once all is stored and the journal may go.

        Raises:
            OSError, ValueError, TypeError, KeyError: the journal cannot be read any further.
        """
        if self._stored or self._final_failures >= FINALS_MAX:
            return True
        moved = self.shipment.step(now, self.end.next_seq if self.end is not None else None)
        if self.over and self.shipment.drained and not moved:
            if not self._final_sent and now >= self._final_at:
                self._final_sent, self._final_at = True, now + FINAL_PAUSE_S
                self._tell(final=True)
        elif self._seen_alive and not self._telling and now >= self._heartbeat_at:
            # Also while the rest of one that has ended is shipped: its account moves on, and its last sign of life does not. The long dead are not told to run.
            self._heartbeat_at = now + self._heartbeat_interval_s
            self._tell(final=False)
        return False

    def _tell(self, *, final: bool) -> None:
        """Sends the writer's record: a heartbeat, or its last state."""
        shipment = self.shipment
        now_ms = time.time_ns() // 1_000_000
        self._heard_ms = max(self._heard_ms, states.last_sign_ms(shipment.folder, 0)) if self.over else now_ms
        heartbeat = None if final else self._claim.next_version(now_ms)
        if final and self.end is None:
            self.torn = shipment.torn_bytes()
        record = states.told(shipment, self.end, alive_ms=min(now_ms, self._heard_ms), heartbeat=heartbeat)
        try:
            value = wire.encode(record)
        except MalformedRecord as error:
            raise ValueError(f"its identity or its end holds what no record can: {error}") from error

        def answered(failure: Failure | None) -> None:
            self._telling = False
            if final:
                self._final_sent = False
                self._stored = failure is None
                self._final_failures += failure is not None and failure.refused

        self._telling = True
        if not self._sender.send(self._topic, topics.writer_key(record.writer), value, answered):
            self._telling = self._final_sent = False

    def let_go(self) -> None:
        """Everything of this writer is stored in Kafka: its folder goes."""
        self.shipment.finish()
        self.shipment.close()
        claims.remove(self.shipment.folder)
        self._claim.release()

    def put_down(self, now: float) -> None:
        """Takes in the answers that have come, and leaves the rest of the journal to another."""
        self.shipment.settle(now)
        self.drop()

    def drop(self) -> None:
        """Leaves the journal as it is."""
        self.shipment.close()
        self._claim.release()
