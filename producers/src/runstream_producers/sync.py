"""Ships journals without an agent: those of offline runs, leftovers of the dead, and with `watch` those of the living.

It does what the agent does, with the same `Shipment`: from the acknowledged position on, the writer's last state at the end, then the folder goes. So it may be killed at any
moment and begun again, and two at once never work on one journal. Which folders, `sync_plan` decides.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runstream_producers import claims, states
from runstream_producers.agent import FINAL_PAUSE_S, FINALS_MAX
from runstream_producers.errors import SyncError
from runstream_producers.journal import survey
from runstream_producers.journal.segments import locked
from runstream_producers.kafka import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_producers.claims import Claim
    from runstream_producers.journal import format as fmt
    from runstream_producers.kafka import Failure
    from runstream_producers.shipper import Shipment
    from runstream_producers.sync_plan import Plan
    from runstream_schemas.settings import Settings

HANDS_MAX = 8  # Journals that are shipped at once, each with megabytes in flight; with `watch` living writers may not wait for others, and there is no limit.
LOOP_S = 0.02
LOOK_S = 0.5  # How often living writers are looked at, and folders for new ones.
TOLD_S = 0.1

Outcome = Literal["shipped", "skipped", "left"]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one journal. `rows` and `points` are what Kafka holds of it now, `note` what is to be said of it."""

    folder: Path
    outcome: Outcome
    note: str
    run_id: str = ""
    writer: int = 0
    rank: int = 0
    state: str = ""
    rows: int = 0
    points: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sync is: journals and rows, those done and all that are known."""

    journals: int
    journals_done: int
    rows: int
    rows_done: int


@dataclass(slots=True)
class _Hand:
    """A journal in hand."""

    shipment: Shipment
    claim: Claim
    alive: bool
    end: fmt.End | None
    rows_left: int
    rows_before: int
    looked_at: float
    heartbeat_at: float = 0.0
    telling: bool = False
    final: str = ""  # "", then "sent", then "stored" or "failed"
    final_at: float = 0.0
    final_failures: int = 0
    torn: int = 0


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    rows_done: int = 0
    known: set[Path] = field(default_factory=set[Path])


class Sync:
    """Ships the journals of a plan through one sender; `results` says what became of each."""

    def __init__(self, todo: Plan, settings: Settings, sender: Sender, *, watch: bool) -> None:
        self._settings = settings
        self._sender = _Overheard(sender, self._hear)
        self._watch = watch
        self._bases = todo.bases if watch else ()
        self._waiting: deque[Path] = deque()
        self._hands: dict[Path, _Hand] = {}
        self._counts = _Counts()
        self._look_at = 0.0
        self._mark: tuple[object, ...] = ()
        self._moved_at = 0.0
        self._contact = False
        self.last_failure = ""
        self.results: list[Result] = []
        self.stopping = False
        for folder in todo.journals:
            self._queue(folder)

    def _queue(self, folder: Path) -> None:
        if folder in self._counts.known:
            return
        self._counts.known.add(folder)
        self._waiting.append(folder)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        rows = rows_done = 0
        for hand in self._hands.values():
            done = hand.shipment.ack.next_seq - hand.rows_before
            rows_done += done
            rows += max(done, hand.rows_left)
        counts = self._counts
        return Progress(len(counts.known), len(self.results), counts.rows + rows, counts.rows_done + rows_done)

    def run(self, told: Callable[[Progress], None] = lambda _progress: None) -> None:
        """Works until all journals of the plan are shipped; with `watch`, until no more can come or `stopping` is set. `told` hears of the progress now and then.

        Raises:
            SyncError: Kafka has not answered for `sync_timeout` seconds, or refuses this sender for good. What was acknowledged stays so.
        """
        if not self._waiting and not self._watch:
            return
        self._moved_at = time.monotonic()
        told_at = float("-inf")
        states.publish_schemas(self._sender, self._settings.topic_prefix)
        while not self.stopping:
            now = time.monotonic()
            self._step(now)
            if now - told_at >= TOLD_S:
                told_at = now
                told(self.progress)
            if not self._hands and not self._waiting and not self._bases:
                break
            self._sender.poll(LOOP_S)
            self._check(time.monotonic())
        told(self.progress)

    def close(self, timeout_s: float = 5.0) -> None:
        """Takes in answers that are under way, and lets go of what is in hand; what is left stays in the journals."""
        if self._hands and self._contact:
            self._sender.flush(timeout_s)
        for folder, hand in list(self._hands.items()):
            hand.shipment.settle(time.monotonic())
            self._part(folder, hand, "left", "not everything is acknowledged")

    def _hear(self, failure: Failure | None) -> None:
        if failure is None:
            self._contact = True
        else:
            self.last_failure = failure.text

    def _check(self, now: float) -> None:
        """Gives up where nothing moves any more."""
        if self._sender.broken:
            raise SyncError(self._sentence("refuses what is sent"))
        mark = (self._contact, len(self.results), *(hand.shipment.ack.generation for hand in self._hands.values()))
        idle = self._contact and all(hand.alive and hand.shipment.drained for hand in self._hands.values())
        if mark != self._mark or idle:
            self._mark, self._moved_at = mark, now
        elif now - self._moved_at > self._settings.sync_timeout and not (self._watch and self._contact):
            raise SyncError(self._sentence(f"has acknowledged nothing for {self._settings.sync_timeout:g} s (sync_timeout)"))

    def _sentence(self, what: str) -> str:
        done, trouble = self.progress, self._sender.trouble or self.last_failure or self._sender.last_error
        why = f" ({trouble})" if trouble else ""
        kept = f"{done.journals_done} of {done.journals} journals are done, and what is left stays where it is for another `runstream sync`"
        return f"Kafka at {self._settings.kafka} {what}{why}: {kept}"

    def _step(self, now: float) -> None:
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            for base in self._bases:
                for folder in survey.journals_in(base):
                    self._queue(folder)
        while self._waiting and (self._watch or len(self._hands) < HANDS_MAX):
            self._take_up(self._waiting.popleft(), now)
        for folder, hand in list(self._hands.items()):
            try:
                self._serve(folder, hand, now)
            except (OSError, ValueError, TypeError, KeyError) as error:
                # One journal that cannot be read must not keep the others.
                self._part(folder, hand, "left", f"cannot be shipped any further: {error}")

    def _take_up(self, folder: Path, now: float) -> None:
        from runstream_producers.shipper import Shipment

        try:
            claim = claims.claim(folder)
        except OSError as error:
            self.results.append(Result(folder, "left", f"cannot be written to: {error.strerror}"))
            return
        if claim is None:
            gone = not folder.exists()
            self.results.append(Result(folder, "skipped", "another process has shipped it meanwhile" if gone else "another process is shipping it"))
            return
        try:
            journal = survey.open_journal(folder)
            extent = survey.extent_of(journal)
            shipment = Shipment(folder, journal.identity, self._sender, self._settings.topic_prefix, self._settings.batch_size)
        except (OSError, ValueError, TypeError) as error:
            claim.release()
            self.results.append(Result(folder, "left", f"cannot be read: {error}"))
            return
        hand = _Hand(shipment, claim, journal.alive, journal.end, extent.rows_waiting, shipment.ack.next_seq, now)
        self._hands[folder] = hand
        if shipment.ack.done:  # Whoever shipped it was killed between the writer's last state and the removal.
            hand.final = "stored"

    def _serve(self, folder: Path, hand: _Hand, now: float) -> None:
        shipment = hand.shipment
        if hand.final == "stored" or hand.final_failures >= FINALS_MAX:
            self._let_go(folder, hand)
            return
        if hand.alive and now >= hand.looked_at + LOOK_S:
            hand.looked_at = now
            hand.alive = locked(folder / "lock")
            hand.end = survey.read_end(folder)
        until = hand.end.next_seq if hand.end is not None else None
        moved = shipment.step(now, until)
        ended = (hand.end is not None or not hand.alive) and shipment.drained and not moved
        if ended and hand.final != "sent" and now >= hand.final_at:
            hand.final, hand.final_at = "sent", now + FINAL_PAUSE_S
            self._tell(folder, hand, final=True)
        elif hand.alive and hand.end is None and not hand.telling and now >= hand.heartbeat_at:
            hand.heartbeat_at = now + self._settings.heartbeat_interval
            self._tell(folder, hand, final=False)

    def _tell(self, folder: Path, hand: _Hand, *, final: bool) -> None:
        from runstream_schemas import topics, wire

        now_ms = time.time_ns() // 1_000_000
        alive_ms = now_ms if hand.alive and hand.end is None else states.last_sign_ms(folder, hand.shipment.identity.started_ms)
        if final and hand.end is None:
            hand.torn = hand.shipment.torn_bytes()
        record = states.told(hand.shipment, hand.end, final=final, now_ms=now_ms, alive_ms=alive_ms)

        def answered(failure: Failure | None) -> None:
            hand.telling = False
            if final:
                hand.final = "stored" if failure is None else "failed"
                hand.final_failures += failure is not None

        hand.telling = True
        if not self._sender.send(f"{self._settings.topic_prefix}.writer", topics.writer_key(record.writer), wire.encode(record), answered):
            hand.telling = False
            hand.final = "failed" if final else ""

    def _let_go(self, folder: Path, hand: _Hand) -> None:
        """Everything of this writer is stored in Kafka: its folder goes."""
        hand.shipment.finish()
        ack, dropped = hand.shipment.ack, hand.shipment.dropped if hand.end is None else hand.end.dropped
        notes: list[str] = []
        if hand.torn:
            notes.append(f"{hand.torn} bytes of a last row that its writer did not finish were left out")
        if ack.rows_aside:
            notes.append(f"{ack.rows_aside} rows were refused by Kafka and set aside in {folder.parent}")
        if missing := ack.next_seq - ack.rows - ack.rows_aside:
            reasons = ", ".join(sorted(reason for reason in dropped if reason != "bad_value"))
            notes.append(
                f"{missing} rows " + (f"had been dropped when they were logged ({reasons})" if reasons else "could not be read, since the journal is damaged")
            )
        self._part(folder, hand, "shipped", "; ".join(notes), removed=True)

    def _part(self, folder: Path, hand: _Hand, outcome: Outcome, note: str, *, removed: bool = False) -> None:
        shipment, one = hand.shipment, hand.shipment.identity
        done = shipment.ack.next_seq - hand.rows_before
        self._counts.rows_done += done
        self._counts.rows += done if removed else max(done, hand.rows_left)
        state = hand.end.state if hand.end is not None else "running" if hand.alive else "crashed"
        self.results.append(Result(folder, outcome, note, one.run_id, one.writer, one.rank, state, shipment.ack.rows, shipment.ack.points))
        shipment.close()
        if removed:
            claims.remove(folder)
        hand.claim.release()
        del self._hands[folder]


class _Overheard(Sender):
    """A sender that lets another hear of every answer."""

    def __init__(self, sender: Sender, hear: Callable[[Failure | None], None]) -> None:
        self._sender = sender
        self._hear = hear

    @property
    def broken(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._sender.broken

    @property
    def trouble(self) -> str:
        """Why nothing arrives at present."""
        return self._sender.trouble

    @property
    def last_error(self) -> str:
        """What librdkafka complained of last."""
        return self._sender.last_error

    def send(self, topic: str, key: bytes, value: bytes, on_answer: Callable[[Failure | None], None]) -> bool:
        """Hands a record over; False where the queue is full."""

        def answered(failure: Failure | None) -> None:
            self._hear(failure)
            on_answer(failure)

        return self._sender.send(topic, key, value, answered)

    def poll(self, timeout_s: float) -> int:
        """Serves answers for at most `timeout_s`."""
        return self._sender.poll(timeout_s)

    def waiting(self) -> int:
        """Records without an answer yet."""
        return self._sender.waiting()

    def flush(self, timeout_s: float) -> int:
        """Waits for answers; returns how many are still missing."""
        return self._sender.flush(timeout_s)
