"""The end of a journal: the mapped segment that rows are written to, the one after it, and the account of what was written and dropped.

Not safe for threads or signal handlers by itself: `writer` lets one call in at a time, and packs the usual row right into the segment. How much room there is, `room` says.
"""

from __future__ import annotations

import json
import os
import time as clock
import zlib
from typing import TYPE_CHECKING, Any

from runstream_producers.errors import JournalError
from runstream_producers.journal import format as fmt
from runstream_producers.journal import plans
from runstream_producers.journal.quick import Rows, same_by_identity
from runstream_producers.journal.reader import row_at
from runstream_producers.journal.room import room_on
from runstream_producers.journal.segments import Folder

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

_into_lead = fmt.ROW_LEAD.pack_into
_crc32 = zlib.crc32
_now = clock.time

RETRY_S = 0.5  # How long rows are dropped after there was no room, before it is looked for again.


class Tail(Rows):
    """Where this process's journal ends.

    Attributes:
        map: the segment in use, of which `offset` bytes of `end` are written; empty where there is none, so that no row fits.
        seq, points: the seq of the next row, and the points logged so far.
        inside: whether a call is changing any of these, so that no other may.
        direct: whether compiled calls may write rows without asking.
        rows_dropped: rows and records that have a seq and were not written.
        dropped: points that were given up, by reason.
        closed: nothing is written any more, and `closed_by` says since what, for those who call all the same.
        folder, identity, pid: whose journal this is; a forked child's are its parent's until it writes.
    """

    def __init__(
        self,
        base: Path,
        make_identity: Callable[[], fmt.Identity],
        scopes: plans.Scopes,
        *,
        segment_bytes: int,
        bytes_max: int | None,
        report: Callable[[str, str], None],
        begun_in_child: Callable[[], None] | None,
    ) -> None:
        """Begins the journal; see `writer.JournalWriter` for the arguments, `scopes` are told when a segment begins. Raises OSError or JournalError."""
        self._base = base
        self._make_identity = make_identity
        self._scopes = scopes
        self._segment_bytes = segment_bytes
        self._bytes_max = bytes_max
        self._report = report
        self._begun_in_child = begun_in_child
        self.closed = False
        self.closed_by = "finish"
        self._begin_account()
        self._open()

    def _begin_account(self) -> None:
        self.seq = 0
        self.rows_dropped: int = 0
        self.points = 0
        self.dropped: dict[str, int] = {}
        self._drops_told = True

    def _begin_segments(self) -> None:
        self.map = bytearray()
        self.direct = True
        self.offset = self.end = 0
        self._number = self._spare = self._key_sets = 0
        self._full_until = 0.0

    def _open(self) -> None:
        """Begins a journal of this process, with a first segment; raises OSError or JournalError."""
        identity = self._make_identity()
        self.folder = Folder(self._base, identity)
        self.identity = identity
        self.pid = os.getpid()
        try:
            self._begin_segments()
            self._room = room_on(self.folder.space(), segment_bytes=self._segment_bytes, bytes_max=self._bytes_max)
            self.rotate(0)
        except BaseException:  # Ctrl-C is one.
            self.folder.discard()
            self.pid = 0  # Nobody's: a forked child begins once more with its next row.
            raise

    # ---- rows --------------------------------------------------------------------------------------------------------------------------

    def add(self, plan: plans.Plan, step: int, time_s: float, values: Iterable[float]) -> None:
        """Writes a row of metrics, for which `has_room` or `define` has found room."""
        _, _, pack, into, length, size, count, head = plan
        body = pack(head, self.seq, step, self.points + count, time_s, *values)
        into(self.map, self.offset, length, _crc32(body), body)
        self.offset += size
        self.points += count
        self.seq += 1

    def append(self, head: int, raw: bytes, *, seqs: int = 0, room_after: int = 0) -> bool:
        """Writes a row with such a payload that takes so many seqs; False where there is no room for it and `room_after` bytes more."""
        raw += b" " * (-len(raw) % 8)
        size = fmt.LEAD_BYTES + fmt.HEAD_BYTES + len(raw)
        if self.offset + size + room_after > self.end and not self.rotate(size + room_after):
            return False
        body = fmt.ROW_HEAD.pack(head, self.seq, 0, self.points, _now()) + raw
        # Body first, then lead: the lead is what makes it a row.
        start = self.offset + fmt.LEAD_BYTES
        self.map[start : start + len(body)] = body
        _into_lead(self.map, self.offset, len(body), _crc32(body))
        self.offset += size
        self.seq += seqs
        return True

    def names(self, scope: plans.Scope, keys: tuple[str, ...]) -> bytes:
        """The definition of the next key set."""
        return as_json({"id": self._key_sets + 1, "context": scope.context, "subject": scope.subject, "keys": keys})

    def define(self, names: bytes, keys: tuple[str, ...], room_after: int) -> plans.Plan | None:
        """Writes the definition of a key set, in the segment where the row of `room_after` bytes that uses it will stand; None where there is no room."""
        if not self.append(plans.head(fmt.Kind.KEY_SET, self._key_sets + 1), names, room_after=room_after):
            return None
        self._key_sets += 1
        return plans.make(self._key_sets, keys)

    def drop_row(self, reason: str, points: int) -> None:
        """A row that is not written keeps its seq, so that the gap shows."""
        self.seq += 1
        self.rows_dropped += 1
        self.drop(reason, points)

    def drop(self, reason: str, points: int) -> None:
        """Counts points that are given up."""
        self.dropped[reason] = self.dropped.get(reason, 0) + points
        self._drops_told = False

    @property
    def owes_drops(self) -> bool:
        """Whether something was dropped that the journal does not say yet."""
        return not self._drops_told

    def write_drops(self) -> None:
        """Writes the counts so far; each such row holds all of them, and each segment begins with one, so that a reader that begins anywhere knows them."""
        self._drops_told = not self.dropped or self.append(plans.head(fmt.Kind.DROP, 0), as_json(self.dropped))

    # ---- segments ----------------------------------------------------------------------------------------------------------------------

    def rotate(self, more: int) -> bool:
        """Goes on in a new segment that holds at least `more` bytes; False, told once, where there is none to be had."""
        if self.closed or clock.monotonic() < self._full_until:
            return False
        if self.pid != os.getpid():
            return self._begin_in_child() and (self.offset + more <= self.end or self.rotate(more))
        size = self._room.size_for(more)
        number = self._number + 1
        spare = self._spare == number and size == self._room.segment_bytes
        try:
            why = self._refusal(size, spare=spare)
            if why:
                return self._no_room(why)
            # Before the segment has its name: an interruption after it must find no plan that this segment does not define.
            self._forget()
            self._take(self.folder.add_segment(number, size, self.seq, self.points, spare=spare), size)
        except OSError as error:
            self._spare = 0
            return self._no_room(f"the journal folder {self.folder.path} has no room for a segment ({error.strerror})")
        self.write_drops()
        return True

    def _refusal(self, size: int, *, spare: bool = False) -> str:
        """Why a segment of this size is too much, for the budget or for the file system, of which a spare one has its part already."""
        return self._room.refusal(size, self.folder.segments_bytes(), None if spare else self.folder.space())

    def _take(self, fresh: mmap.mmap | bytearray, size: int) -> None:
        self.map = fresh
        self._number += 1
        self.offset, self.end = fmt.HEADER_BYTES, size

    def _no_room(self, why: str) -> bool:
        self._full_until = clock.monotonic() + RETRY_S
        self._report("full", f"{why}: new rows are dropped and counted until there is room")
        return False

    def make_spare(self) -> None:
        """Allocates the next segment once this one is half full, which takes milliseconds; another thread may do it while rows are written."""
        number, size = self._number + 1, self._room.segment_bytes
        if 2 * self.offset > self.end > 0 and self._spare != number:
            try:
                if not self._refusal(size):
                    self.folder.make_spare(number, size)
                    self._spare = number
            except OSError:
                pass  # The rotation will find no room either, and say so.

    def know(self, plan: plans.Plan, keys: tuple[str, ...], scope: plans.Scope, context: Any, subject: Any) -> None:
        """Has rows of these names, given with this context and subject, written by the compiled call until this segment is full."""
        if same_by_identity(context) and same_by_identity(subject):
            self.learn(plan[-1], keys, context, subject, scope, plans.quick_types)

    def _forget(self) -> None:
        self.forget_plans()
        self._scopes.forget()

    # ---- interruptions, forks and the end ----------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """After an exception that a signal handler raised in the middle of a call: counts what the call has written whole, since a reader may have seen it."""
        if self.closed or self.pid != os.getpid():
            return
        try:
            named = self.folder.named_segment(self._number + 1)
        except (OSError, ValueError):
            named = bytearray()  # It cannot be mapped, and a reader goes there next: this leaves it empty and makes the one after it.
        if named is not None:
            self._forget()
            self._take(named, len(named))
            return
        found = row_at(self.map, self.offset, self.end)
        if found is not None and found[0].seq == self.seq:
            row, self.offset = found
            self.points = row.points
            if row.kind == fmt.Kind.KEY_SET:
                self._key_sets = row.key_set
            elif row.kind != fmt.Kind.DROP:
                self.seq += 1

    def skip_interrupted(self) -> None:
        """Goes on behind a call that a signal handler interrupted and that may still write its row where it began: it keeps that place and its seq, and what follows stands in
        the next segment.
        """
        before = self.seq
        self.settle()
        if self.seq == before:
            self.seq += 1
        self._full_until = 0.0
        self.rotate(0)

    def after_fork(self) -> None:
        """In a forked child: the journal is the parent's, and this process begins one of its own with its first row."""
        self._begin_account()
        self._begin_segments()
        self._forget()
        self.folder.forget()

    def _begin_in_child(self) -> bool:
        try:
            self._open()
        except (OSError, JournalError) as error:
            self._full_until = clock.monotonic() + RETRY_S
            self._report("child", f"this forked process can write no journal in {self._base} ({error}): its rows are dropped and counted")
            return False
        if self._begun_in_child is not None:
            self._begun_in_child()
        return True

    def close(self, state: str, reason: str) -> None:
        """Ends the journal: no row fits any more."""
        self.direct = False
        # What is dropped here was told when it was; a writer that cannot say so here says it in its end.
        self.write_drops()
        self.closed = True
        self.map = bytearray()
        self.end = self.offset = 0
        try:
            self.folder.end(fmt.End(state, reason, self.seq, self.points, self.dropped))
        except OSError as error:
            self.folder.close()
            self._report("end", f"the end of the journal in {self.folder.path} could not be written ({error.strerror}): its run will read as crashed")


def as_json(payload: Mapping[str, Any]) -> bytes:
    """The payload as JSON; half surrogate pairs, which UTF-8 cannot hold, become question marks. Raises TypeError, ValueError or RecursionError where JSON cannot hold it."""
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
