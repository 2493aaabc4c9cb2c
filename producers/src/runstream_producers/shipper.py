"""Ships one writer's journal: in order, from the acknowledged prefix, again from there after any failure.

`Shipment` is one writer's: it reads rows, cuts them, hands the records to Kafka and moves the acknowledged position once all records of a cut are answered for. A cut that
was sent again repeats rows, never loses them; readers know repeats by their seqs. Records that Kafka refuses for good are set aside in a file beside the journals and counted;
metrics go on meanwhile.
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

# Frames of one writer that wait for an answer: with half a megabyte each, what a slow broker may hold of one rank. After a failure there is one at a time until one has arrived,
# so that none arrives before the one that failed just as what was wrong is mended; with options of librdkafka that do not keep order there is always one.
FRAMES_MAX = 16
CUTS_MAX = 4096  # Cuts whose frames are stored while another of their records is not: minutes of a topic that is missing.
ATTEMPTS_MAX = 4  # Sends of one record that is not a frame before it is set aside.
BACKOFF_S = 0.5
ASIDE_NAME = "set-aside.jsonl"
ASIDE_BYTES_MAX = 64 << 20  # Of the file of records that were set aside; past it they are only counted.


@dataclass(slots=True)
class _InFlight:
    """A cut that waits for answers: what holds once they are there, how many are missing, what was refused."""

    next_seq: int
    position: fmt.Position
    rows: int
    points: int
    rules: int
    missing: int
    epoch: int
    rows_aside: int = 0
    points_aside: int = 0


@dataclass(frozen=True, slots=True)
class _Parcel:
    """A record on its way: `rows` and `points` are what is lost to readers if Kafka refuses it."""

    keyed: Keyed
    one: _InFlight
    is_frame: bool
    rows: int
    points: int
    attempt: int = 1


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
        self._unsent: deque[_Parcel] = deque()
        self._again_later: deque[_Parcel] = deque()
        self._later_at = 0.0
        self._frames_waiting = 0
        self._at_end = False
        self._unanswered = 0
        self._again = False
        self._epoch = 0
        self._failed: Failure | None = None
        self._frame_failures = 0
        self._retry_at = 0.0
        self._first_segment = 0  # Those before it are gone.
        self._begin()

    def _begin(self) -> None:
        """Begins at the acknowledged prefix, at first and after a failure."""
        self._epoch += 1
        self._failed = None
        self._in_flight.clear()
        self._unsent.clear()
        self._again_later.clear()
        self._later_at = 0.0
        self._frames_waiting = 0
        self._at_end = False
        self._reader = Reader(self.folder, self.identity.writer, self.ack.position)
        self._cutter = Cutter(self.identity, next_seq=self.ack.next_seq, rules=self.ack.rules)
        for row in self._reader.definitions():
            self._cutter.define(row)

    @property
    def rows_read(self) -> int:
        """Rows read so far, acknowledged or in flight."""
        return self.ack.rows + self.ack.rows_aside + sum(one.rows for one in self._in_flight)

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
        """Points that never come, by reason: what the writer dropped, as far as read, and what Kafka refused."""
        return dict(self._cutter.dropped) | self.refused

    @property
    def refused(self) -> dict[str, int]:
        """Points that Kafka refused for good, under the reason `set_aside`; empty where there are none."""
        return {"set_aside": self.ack.points_aside} if self.ack.points_aside else {}

    @property
    def caught_up(self) -> bool:
        """Whether the last `step` found the journal's end, whatever has been answered for."""
        return self._at_end

    @property
    def drained(self) -> bool:
        """Whether the last `step` found the journal's end and everything before it has been answered for."""
        return self._at_end and not self._in_flight

    def torn_bytes(self) -> int:
        """Bytes of a row that a dead writer did not finish."""
        return self._reader.torn_bytes()

    def step(self, now: float, until_seq: int | None = None) -> bool:
        """Sends what can be sent; True where there was something. `until_seq` is a finished writer's last word on its seqs."""
        self._settle(now)
        self._at_end = False
        if now < self._retry_at or (self._again and self._unanswered) or not self._send_unsent():
            return False
        self._again = False
        moved = False
        frames_max = FRAMES_MAX if self._sender.keeps_order and not self._frame_failures else 1
        while self._frames_waiting < frames_max and len(self._in_flight) < CUTS_MAX and self._failed is None:
            cut = self._cutter.cut(self._reader.rows(self._rows_max_bytes))
            if cut is None and until_seq is not None and until_seq > self._cutter.next_seq:
                cut = self._cutter.cut((), until_seq)
            if cut is None:
                self._at_end = True
                break
            moved = True
            self._hand_over(cut)
            if not self._send_unsent():
                break
        return moved

    def _hand_over(self, cut: Cut) -> None:
        one = _InFlight(cut.next_seq, self._reader.position, cut.rows, cut.points, cut.rules, len(cut.others) + 1, self._epoch)
        for reason, payload in cut.unreadable:
            self._put_aside("", b"", payload, reason)
            one.rows_aside += 1
        self._in_flight.append(one)
        self._frames_waiting += 1
        self._unsent.extend(_Parcel(keyed, one, is_frame=False, rows=1, points=0) for keyed in cut.others)
        metric_rows = cut.rows - len(cut.others) - len(cut.unreadable)
        self._unsent.append(_Parcel(cut.frame, one, is_frame=True, rows=metric_rows, points=cut.points))

    def _send_unsent(self) -> bool:
        """Hands waiting records to Kafka; False where some are left, since its queue is full, a frame was refused at once, or the producer is at its end."""
        while self._unsent and self._failed is None and not self._sender.broken:
            parcel = self._unsent[0]
            try:
                value = wire.encode(parcel.keyed.record)
            except MalformedRecord as error:
                self._unsent.popleft()
                self._refuse(parcel, b"", str(error))
                continue
            self._unanswered += 1
            if not self._sender.send(f"{self._prefix}.{parcel.keyed.topic}", parcel.keyed.key, value, self._answer_to(parcel, value)):
                self._unanswered -= 1
                return False
            self._unsent.popleft()
        return not self._unsent

    def _answer_to(self, parcel: _Parcel, value: bytes) -> Callable[[Failure | None], None]:
        def answered(failure: Failure | None) -> None:
            self._unanswered -= 1
            if parcel.one.epoch != self._epoch:
                return  # It was sent before a new beginning, and will be sent again.
            if failure is None:
                self._count(parcel)
            elif parcel.is_frame and not failure.record_is_bad:
                self._failed = failure
            elif not failure.record_is_bad and parcel.attempt + failure.refused <= ATTEMPTS_MAX:
                self._again_later.append(replace(parcel, attempt=parcel.attempt + failure.refused))
            else:
                self._refuse(parcel, value, failure.text)

        return answered

    def _count(self, parcel: _Parcel) -> None:
        parcel.one.missing -= 1
        if parcel.is_frame:
            self._frames_waiting -= 1

    def _refuse(self, parcel: _Parcel, value: bytes, reason: str) -> None:
        self._put_aside(parcel.keyed.topic, parcel.keyed.key, value, reason)
        parcel.one.rows_aside += parcel.rows
        parcel.one.points_aside += parcel.points
        self._count(parcel)

    def _put_aside(self, topic: str, key: bytes, value: bytes, reason: str) -> None:
        """Keeps what Kafka refuses for good in a file beside the journals, while there is room for it."""
        _log.error("record set aside topic=%s writer=%d reason=%s", topic, self.identity.writer, reason)
        line = {
            "writer": self.identity.writer,
            "topic": topic,
            "key": base64.b64encode(key).decode(),
            "reason": reason,
            "value": base64.b64encode(value).decode(),
        }
        try:
            with (self.folder.parent / ASIDE_NAME).open("a", encoding="utf-8") as file:
                if file.tell() + len(value) < ASIDE_BYTES_MAX:
                    file.write(json.dumps(line) + "\n")
        except OSError as error:
            _log.error("record set aside is not kept error=%s", error)

    def _settle(self, now: float) -> None:
        self._acknowledge()
        if self._failed is not None:
            self._frame_failures += 1
            self._retry_at = now + BACKOFF_S * min(self._frame_failures, 10)
            # What was sent before is waited for, so that none of it comes between what is sent again.
            self._again = True
            _log.warning("frame not delivered writer=%d error=%s", self.identity.writer, self._failed.name)
            self._begin()
        elif self._again_later and now >= self._later_at:
            if self._later_at:
                self._unsent.extend(self._again_later)
                self._again_later.clear()
            self._later_at = now + BACKOFF_S if self._again_later else 0.0

    def _acknowledge(self) -> None:
        """Moves the acknowledged position over the cuts that are answered for."""
        moved = False
        while self._in_flight and self._in_flight[0].missing == 0:
            one = self._in_flight.popleft()
            self._frame_failures = 0
            moved = True
            self.ack = replace(
                self.ack,
                next_seq=one.next_seq,
                position=one.position,
                rows=self.ack.rows + one.rows - one.rows_aside,
                points=self.ack.points + one.points - one.points_aside,
                rules=self.ack.rules + one.rules,
                rows_aside=self.ack.rows_aside + one.rows_aside,
                points_aside=self.ack.points_aside + one.points_aside,
            )
        if moved:
            self._write_ack()
            if self.ack.position.segment != self._first_segment:
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
        self._first_segment = self.ack.position.segment
        for path in self.folder.glob("*.seg"):
            if int(path.stem) < self._first_segment:
                path.unlink(missing_ok=True)
