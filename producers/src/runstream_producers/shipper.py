"""Ships one writer's journal: in order, from the acknowledged prefix, again from there after any failure.

`Shipment` is one writer's: it reads rows, cuts them, hands the records to Kafka and moves the acknowledged position once all records of a cut are answered for. A cut that
was sent again repeats rows, never loses them; readers know repeats by their seqs. Records of other kinds than metrics that Kafka refuses for good are set aside in
a file beside the journal and counted, so that they never hold metrics back.
"""

from __future__ import annotations

import base64
import json
import logging
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from runstream_producers.frames import Cut, Cutter, Keyed
from runstream_producers.journal import format as fmt
from runstream_producers.journal.reader import Reader
from runstream_producers.journal.segments import map_file
from runstream_schemas import wire
from runstream_schemas.errors import MalformedRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from runstream_producers.kafka import Failure, Sender

_log = logging.getLogger(__name__)

IN_FLIGHT_MAX = 16  # Cuts of one writer that wait for an answer: with half a megabyte each, what a slow broker may hold of one rank.
ATTEMPTS_MAX = 4  # Sends of one record that is not a frame before it is set aside.
BACKOFF_S = 0.5


@dataclass(slots=True)
class _InFlight:
    cut: Cut
    position: fmt.Position
    missing: int
    epoch: int


class Shipment:
    """One writer's way to Kafka. `rows_max_bytes` is where a frame is cut."""

    def __init__(self, folder: Path, identity: fmt.Identity, sender: Sender, topic_prefix: str, rows_max_bytes: int) -> None:
        self.folder = folder
        self.identity = identity
        self._sender = sender
        self._prefix = topic_prefix
        self._rows_max_bytes = rows_max_bytes
        self._slots = map_file(folder / "ack", write=True)
        self.ack = fmt.read_ack(self._slots[: 2 * fmt.ACK_SLOT_BYTES])
        self._in_flight: deque[_InFlight] = deque()
        self._unsent: deque[tuple[Keyed, _InFlight, int]] = deque()
        self._epoch = 0
        self._failed: Failure | None = None
        self._frame_failures = 0
        self._retry_at = 0.0
        self.set_aside = 0
        self._begin()

    def _begin(self) -> None:
        """Begins at the acknowledged prefix, at first and after a failure."""
        self._epoch += 1
        self._failed = None
        self._in_flight.clear()
        self._unsent.clear()
        self._reader = Reader(self.folder, self.identity.writer, self.ack.position)
        self._cutter = Cutter(self.identity, next_seq=self.ack.next_seq, rules=self.ack.rules)
        for row in self._reader.definitions():
            self._cutter.define(row)

    @property
    def rows_read(self) -> int:
        """Rows read so far, acknowledged or in flight."""
        return self.ack.rows + sum(one.cut.rows for one in self._in_flight)

    @property
    def points_seen(self) -> int:
        """The writer's own count of its points as of the newest row that was read."""
        return max(self._cutter.points_seen, self.ack.points)

    @property
    def next_seq(self) -> int:
        """The first seq that has not been read."""
        return self._cutter.next_seq

    @property
    def dropped(self) -> dict[str, int]:
        """Points that the writer dropped, by reason, as far as read."""
        return dict(self._cutter.dropped)

    @property
    def drained(self) -> bool:
        """Whether all that was read is acknowledged."""
        return not self._in_flight

    def torn_bytes(self) -> int:
        """Bytes of a row that a dead writer did not finish."""
        return self._reader.torn_bytes()

    def step(self, now: float, until_seq: int | None = None) -> bool:
        """Sends what can be sent; True where there was something. `until_seq` is a finished writer's last word on its seqs."""
        self._settle(now)
        if now < self._retry_at or not self._send_unsent():
            return False
        moved = False
        while len(self._in_flight) < IN_FLIGHT_MAX:
            cut = self._cutter.cut(self._reader.rows(self._rows_max_bytes))
            if cut is None and until_seq is not None and until_seq > self._cutter.next_seq:
                cut = self._cutter.cut((), until_seq)
            if cut is None:
                break
            moved = True
            self._hand_over(cut)
            if not self._send_unsent():
                break
        return moved

    def _hand_over(self, cut: Cut) -> None:
        records = (*cut.others, cut.frame)
        one = _InFlight(cut, self._reader.position, len(records), self._epoch)
        self._in_flight.append(one)
        self._unsent.extend((keyed, one, 1) for keyed in records)

    def _send_unsent(self) -> bool:
        """Hands waiting records to Kafka; False where its queue is full."""
        while self._unsent:
            keyed, one, attempt = self._unsent[0]
            try:
                value = wire.encode(keyed.record)
            except MalformedRecord as error:
                self._unsent.popleft()
                self._put_aside(keyed, str(error), b"")
                one.missing -= 1
                continue
            if not self._sender.send(f"{self._prefix}.{keyed.topic}", keyed.key, value, self._answer_to(keyed, one, attempt, value)):
                return False
            self._unsent.popleft()
        return True

    def _answer_to(self, keyed: Keyed, one: _InFlight, attempt: int, value: bytes) -> Callable[[Failure | None], None]:
        def answered(failure: Failure | None) -> None:
            if one.epoch != self._epoch:
                return  # It was sent before a new beginning, and will be sent again.
            if failure is None:
                one.missing -= 1
            elif keyed is one.cut.frame and not failure.record_is_bad:
                self._failed = failure
            elif keyed is not one.cut.frame and attempt < ATTEMPTS_MAX and not failure.record_is_bad:
                self._unsent.append((keyed, one, attempt + 1))
            else:
                self._put_aside(keyed, failure.text, value)
                one.missing -= 1

        return answered

    def _put_aside(self, keyed: Keyed, reason: str, value: bytes) -> None:
        """Keeps a record that Kafka refuses for good beside the journals, and counts it."""
        self.set_aside += 1
        line = {"topic": keyed.topic, "key": base64.b64encode(keyed.key).decode(), "reason": reason, "value": base64.b64encode(value).decode()}
        with (self.folder.parent / "set-aside.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"writer": self.identity.writer} | line) + "\n")
        _log.error("record set aside topic=%s writer=%d reason=%s", keyed.topic, self.identity.writer, reason)

    def _settle(self, now: float) -> None:
        if self._failed is not None:
            self._frame_failures += 1
            self._retry_at = now + BACKOFF_S * min(self._frame_failures, 10)
            _log.warning("frame not delivered writer=%d error=%s", self.identity.writer, self._failed.name)
            self._begin()
            return
        moved = False
        while self._in_flight and self._in_flight[0].missing == 0:
            one = self._in_flight.popleft()
            self._frame_failures = 0
            moved = True
            self.ack = replace(
                self.ack,
                next_seq=one.cut.next_seq,
                position=one.position,
                rows=self.ack.rows + one.cut.rows,
                points=self.ack.points + one.cut.points,
                rules=self.ack.rules + one.cut.rules,
            )
        if moved:
            self._write_ack()
            self._remove_segments()

    def settle(self, now: float) -> None:
        """Takes in the answers that have come."""
        self._settle(now)

    def finish(self) -> None:
        """Says in the journal that nothing of this writer is left to do."""
        self.ack = replace(self.ack, done=True)
        self._write_ack()

    def close(self) -> None:
        """Unmaps what is mapped; answers that come later are ignored."""
        self._epoch += 1
        self._reader.close()
        self._slots.close()

    def _write_ack(self) -> None:
        self.ack = replace(self.ack, generation=self.ack.generation + 1)
        raw = self.ack.pack()
        start = fmt.ACK_SLOT_BYTES * (self.ack.generation % 2)
        self._slots[start : start + len(raw)] = raw

    def _remove_segments(self) -> None:
        for path in self.folder.glob("*.seg"):
            if int(path.stem) < self.ack.position.segment:
                path.unlink(missing_ok=True)
