"""Ships journals without an agent: those of offline runs, leftovers of the dead, and with `watch` those of the living.

It does what the agent does, with the same `Hand`: from the acknowledged position on, the writer's last state at the end, then the folder goes. So it may be killed at any
moment and begun again, and two at once never work on one journal. Which folders, `sync_plan` decides.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from runstream_producers import states
from runstream_producers.errors import SyncError
from runstream_producers.hands import take_up
from runstream_producers.journal import survey
from runstream_producers.kafka import Sender

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream_producers.hands import Hand
    from runstream_producers.kafka import Failure
    from runstream_producers.sync_plan import Plan
    from runstream_schemas.settings import Settings

HANDS_MAX = 8  # Journals that are shipped at once, each with megabytes in flight; with `watch` living writers may not wait for others, and there is no limit.
LOOP_S = 0.02
LOOK_S = 0.5  # How often living writers are looked at, and folders for new ones.
TOLD_S = 0.1
_GONE = "another process has shipped it meanwhile"

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
class _Held:
    """A journal in hand, with the rows that waited in it and the seq from which on they were shipped here."""

    hand: Hand
    rows_left: int
    rows_before: int
    look_at: float

    @property
    def rows_done(self) -> int:
        return self.hand.shipment.ack.next_seq - self.rows_before


@dataclass(slots=True)
class _Counts:
    rows: int = 0
    rows_done: int = 0
    known: set[Path] = field(default_factory=set[Path])


class Sync:
    """Ships the journals of a plan through one sender, and through `another` in its place once that is outdated; `results` says what became of each."""

    def __init__(self, todo: Plan, settings: Settings, sender: Sender, *, watch: bool, another: Callable[[], Sender]) -> None:
        self._settings = settings
        self._another = another
        self._sender = _Overheard(sender, self._hear)
        self._watch = watch
        self._bases = todo.bases if watch else ()
        self._waiting: deque[Path] = deque()
        self._held: dict[Path, _Held] = {}
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
        for held in self._held.values():
            rows_done += held.rows_done
            rows += max(held.rows_done, held.rows_left)
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
            if self._sender.outdated:
                self._renew(now)
            self._step(now)
            if now - told_at >= TOLD_S:
                told_at = now
                told(self.progress)
            if not self._held and not self._waiting and not self._bases:
                break
            self._sender.poll(LOOP_S)
            self._check(time.monotonic())
        told(self.progress)

    def _renew(self, now: float) -> None:
        """Goes on from what is acknowledged with another sender: this one's threads may wait for as long as the clock was set back."""
        for folder, held in list(self._held.items()):
            held.hand.put_down(now)
            self._counts.rows += held.rows_done
            self._counts.rows_done += held.rows_done
            del self._held[folder]
            self._waiting.append(folder)
        self._sender = _Overheard(self._another(), self._hear)
        self._moved_at = now
        states.publish_schemas(self._sender, self._settings.topic_prefix)

    def close(self, timeout_s: float = 5.0) -> None:
        """Takes in answers that are under way, and lets go of what is in hand; what is left stays in the journals."""
        if self._held and self._contact:
            self._sender.flush(timeout_s)
        for folder, held in list(self._held.items()):
            held.hand.put_down(time.monotonic())
            self._part(folder, held, "left", "not everything is acknowledged")

    def _hear(self, failure: Failure | None) -> None:
        if failure is None:
            self._contact = True
        else:
            self.last_failure = failure.text

    def _check(self, now: float) -> None:
        """Gives up where nothing moves any more."""
        if self._sender.broken:
            raise SyncError(self._sentence("refuses what is sent"))
        hands = [held.hand for held in self._held.values()]
        mark = (self._contact, len(self.results), *(hand.shipment.ack.generation for hand in hands))
        idle = self._contact and all(hand.alive and hand.shipment.drained for hand in hands)
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
        while self._waiting and (self._watch or len(self._held) < HANDS_MAX):
            self._take_up(self._waiting.popleft(), now)
        for folder, held in list(self._held.items()):
            try:
                self._serve(folder, held, now)
            except (OSError, ValueError, TypeError, KeyError) as error:
                # One journal that cannot be read must not keep the others.
                held.hand.drop()
                self._part(folder, held, "left", f"cannot be shipped any further: {error}")

    def _take_up(self, folder: Path, now: float) -> None:
        try:
            rows = survey.extent_of(survey.open_journal(folder)).rows_waiting
            hand = take_up(folder, self._sender, self._settings)
        except PermissionError as error:
            self.results.append(Result(folder, "left", f"cannot be written to: {error.strerror}"))
        except (OSError, ValueError, TypeError) as error:
            if folder.exists():
                self.results.append(Result(folder, "left", f"cannot be read: {error}"))
            else:
                self.results.append(Result(folder, "skipped", _GONE))
        else:
            if hand is None:
                self.results.append(Result(folder, "skipped", "another process is shipping it" if folder.exists() else _GONE))
            else:
                self._held[folder] = _Held(hand, rows, hand.shipment.ack.next_seq, now + LOOK_S)

    def _serve(self, folder: Path, held: _Held, now: float) -> None:
        if now >= held.look_at:
            held.look_at = now + LOOK_S
            held.hand.look()
        if held.hand.serve(now):
            self._let_go(folder, held)

    def _let_go(self, folder: Path, held: _Held) -> None:
        """Everything of this writer is stored in Kafka: its folder goes."""
        hand = held.hand
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
        hand.let_go()
        self._part(folder, held, "shipped", "; ".join(notes))

    def _part(self, folder: Path, held: _Held, outcome: Outcome, note: str) -> None:
        """Counts a journal that is out of hand."""
        shipment, one, done = held.hand.shipment, held.hand.shipment.identity, held.rows_done
        self._counts.rows_done += done
        self._counts.rows += done if outcome == "shipped" else max(done, held.rows_left)
        self.results.append(Result(folder, outcome, note, one.run_id, one.writer, one.rank, held.hand.state, shipment.ack.rows, shipment.ack.points))
        del self._held[folder]


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
    def outdated(self) -> bool:
        """Whether the wall clock has been set back since it was made."""
        return self._sender.outdated

    @property
    def keeps_order(self) -> bool:
        """Whether several frames of a writer may be under way at once."""
        return self._sender.keeps_order

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
