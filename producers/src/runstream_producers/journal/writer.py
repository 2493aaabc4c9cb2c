"""The hot path: a log call becomes one row in mapped memory, and returns.

Pages of a mapped file belong to the kernel, so every call that returned survives the death of the process. Nothing here waits for a network or a disk flush, and nothing is
raised for reasons of transport. What bad values, steps and times mean is `values`' matter; here they take the slow way.
"""

from __future__ import annotations

import json
import os
import struct
import threading
import time as clock
import zlib
from typing import TYPE_CHECKING, Any

from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val
from runstream_producers.journal.segments import Folder

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Mapping
    from pathlib import Path

_into_lead = fmt.ROW_LEAD.pack_into
_crc32 = zlib.crc32
_METRICS = int(fmt.Kind.METRICS)

# How to pack a row of one key set: the struct's pack, the pack_into of lead and body, bytes with lead, number of keys, key set.
Plan = tuple["Callable[..., bytes]", "Callable[..., None]", int, int, int]


class Scope:
    """Key sets and the step counter of one context and subject."""

    __slots__ = ("context", "next_step", "plans", "subject")

    def __init__(self, context: str, subject: str) -> None:
        self.context = context
        self.subject = subject
        self.next_step = 0
        self.plans: dict[tuple[str, ...], Plan] = {}


class JournalWriter:
    """Writes one process's journal; safe to call from any thread and from signal handlers.

    `make_identity` gives this process's identity; it is called again in a forked child, which is a writer of its own. `report` gets one sentence for each kind of
    trouble, once (in strict mode it may raise).
    """

    def __init__(
        self,
        base: Path,
        make_identity: Callable[[], fmt.Identity],
        *,
        segment_bytes: int,
        bytes_max: int,
        report: Callable[[str, str], None],
    ) -> None:
        self._base = base
        self._make_identity = make_identity
        self._segment_bytes = segment_bytes
        self._bytes_max = bytes_max
        self._report = report
        self._lock = threading.RLock()
        self._inside = False
        self._deferred: list[Callable[[], None]] = []
        self._scopes: dict[tuple[str, str], Scope] = {}
        self._plain = self._scope("", "")
        self._map: mmap.mmap | bytearray = bytearray()
        self._open()

    def _open(self) -> None:
        """Begins a journal of this process, with a first segment; raises OSError or JournalError."""
        self.identity = self._make_identity()
        self.pid = os.getpid()
        self.folder = Folder(self._base, self.identity)
        self.seq = 0
        self.points = 0
        self.dropped: dict[str, int] = {}
        self._drops_told = True
        self._number = 0
        self._offset = self._end = 0
        self._full_until = 0.0
        self._closed = False
        self._key_sets = 0
        self._rotate(self._segment_bytes)

    # ---- metric rows -------------------------------------------------------------------------------------------------------------------

    def log(self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "") -> None:
        """Writes one row of metrics; see `runstream.Run.log`."""
        with self._lock:
            if self._inside:  # A signal handler logs while this thread is in here: its row comes right after ours.
                copy = dict(data)
                self._deferred.append(lambda: self.log(copy, step, time=time, context=context, subject=subject))
                return
            self._inside = True
            scope = self._plain if context is None and not subject else self._scope(val.context_of(context), subject)
            counted = step is None
            number = scope.next_step if counted else step
            try:
                plan = scope.plans.get(tuple(data))
                numbers = data.values()
                try:
                    # sum() adds plain floats and ints in C; whatever else is among them makes its result another type, or raises.
                    total = type(sum(numbers))
                except Exception:  # noqa: BLE001 - the values are the user's objects and may raise anything
                    total = None
                if plan is None or type(number) is not int or time is not None or (total is not float and total is not int):
                    self._log_slowly(scope, data, step, time)
                else:
                    pack, into, size, keys, key_set = plan
                    offset = self._offset
                    if offset + size > self._end:
                        self._log_slowly(scope, data, step, time)
                    else:
                        points = self.points + keys
                        body = pack(_METRICS, 0, 0, key_set, self.seq, number, points, clock.time(), *numbers)
                        into(self._map, offset, size - 8, _crc32(body), body)
                        self._offset = offset + size
                        self.points = points
                        self.seq += 1
                        if counted:
                            scope.next_step = number + 1
            except (struct.error, OverflowError):
                self._log_slowly(scope, data, step, time)  # An integer too large for a double or for 64 bits.
            finally:
                self._inside = False
        if self._deferred:
            self._run_deferred()

    def _log_slowly(self, scope: Scope, data: Mapping[str, Any], step: Any, time: Any) -> None:
        """Sorts out values, step and time one by one, then writes the row."""
        flat, refused = val.flatten(data)
        for key, why in refused.items():
            self._drop("bad_value", 1)
            self._report(f"value:{key}", f"value of {key!r} was not logged: {why}; the rest of the call was kept")
        if not flat:
            return
        number = scope.next_step if step is None else val.step_of(step)
        if number is None:
            self._report("step", f"step must be an integer of at most 64 bits, got {step!r}: the row was kept under step {scope.next_step}")
            step, number = None, scope.next_step
        if step is None:
            scope.next_step = number + 1
        when = clock.time() if time is None else val.seconds_of(time)
        if when is None:
            self._report("time", f"time must be seconds since 1970 or a datetime, got {time!r}: the row was kept with the time of the call")
            when = clock.time()
        keys = tuple(flat)
        plan = scope.plans.get(keys) or self._define(scope, keys)
        if plan is None or (self._offset + plan[2] > self._end and not self._rotate(plan[2])):
            self._drop_row("journal_full", len(keys))
            return
        plan = scope.plans.get(keys) or self._define(scope, keys)  # A new segment begins without key sets.
        if plan is None or self._offset + plan[2] > self._end:
            self._drop_row("journal_full", len(keys))
            return
        pack, into, size, count, key_set = plan
        body = pack(_METRICS, 0, 0, key_set, self.seq, number, self.points + count, when, *flat.values())
        into(self._map, self._offset, size - 8, _crc32(body), body)
        self._offset += size
        self.points += count
        self.seq += 1

    def _scope(self, context: str, subject: str) -> Scope:
        scope = self._scopes.get((context, subject))
        if scope is None:
            scope = self._scopes[context, subject] = Scope(context, subject)
        return scope

    def _define(self, scope: Scope, keys: tuple[str, ...]) -> Plan | None:
        """Writes a key set and remembers how its rows are packed; None where there is no room."""
        packer = struct.Struct(f"<{fmt.ROW_HEAD_FORMAT}{len(keys)}d")
        payload = {"id": self._key_sets + 1, "context": scope.context, "subject": scope.subject, "keys": keys}
        # The definition must stand in the same segment as the row that uses it.
        room = packer.size + fmt.LEAD_BYTES
        if not self._append(fmt.Kind.KEY_SET, payload, room_after=room):
            return None
        self._key_sets += 1
        plan = (packer.pack, struct.Struct(f"<II{packer.size}s").pack_into, room, len(keys), self._key_sets)
        scope.plans[keys] = plan
        return plan

    # ---- other records -----------------------------------------------------------------------------------------------------------------

    def record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> None:
        """Writes a record of another kind, as JSON, with a seq of its own. Values must be what JSON can hold."""
        with self._lock:
            if self._inside:
                self._deferred.append(lambda: self.record(kind, payload))
                return
            self._inside = True
            try:
                if self._append(kind, payload):
                    self.seq += 1
                else:
                    self._drop_row("journal_full", 0)
            finally:
                self._inside = False
        if self._deferred:
            self._run_deferred()

    def _append(self, kind: fmt.Kind, payload: Mapping[str, Any], room_after: int = 0) -> bool:
        raw = json.dumps(payload).encode()
        raw += b" " * (-len(raw) % 8)
        body = fmt.ROW_HEAD.pack(kind, 0, 0, 0, self.seq, 0, self.points, clock.time()) + raw
        size = fmt.LEAD_BYTES + len(body)
        if self._offset + size + room_after > self._end and not self._rotate(size + room_after):
            return False
        # Body first, then lead: the lead is what makes it a row.
        start = self._offset + fmt.LEAD_BYTES
        self._map[start : start + len(body)] = body
        _into_lead(self._map, self._offset, len(body), _crc32(body))
        self._offset += size
        return True

    # ---- room --------------------------------------------------------------------------------------------------------------------------

    def _rotate(self, room: int) -> bool:
        """Goes on in a new segment that holds at least `room` bytes more; False, told once, where there is none to be had."""
        if self._closed:
            return False
        if self.pid != os.getpid():
            self._open_in_child()
            if self._offset + room <= self._end:
                return True
        now = clock.monotonic()
        if now < self._full_until:
            return False
        size = max(self._segment_bytes, fmt.HEADER_BYTES + room + 4096)
        try:
            held = self.folder.segments_bytes()
            if held + size > self._bytes_max and self._number:
                self._full_until = now + 0.5
                self._report(
                    "full",
                    f"the journal holds {held >> 20} MiB that are not shipped yet, its limit (journal_bytes_max): new rows are dropped and counted until there is room",
                )
                return False
            fresh = self.folder.add_segment(self._number + 1, size, self.seq, self.points)
        except OSError as error:
            self._full_until = now + 0.5
            self._report(
                "full", f"the journal folder {self.folder.path} has no room for a segment ({error.strerror}): new rows are dropped and counted until it has"
            )
            return False
        self._map = fresh
        self._number += 1
        self._offset, self._end = fmt.HEADER_BYTES, size
        for scope in self._scopes.values():
            scope.plans.clear()
        self._write_drops()
        return True

    def _open_in_child(self) -> None:
        """A forked child is a new writer: it begins its own journal and leaves its parent's alone."""
        parent = self.folder
        for scope in self._scopes.values():
            scope.plans.clear()
        self._map = bytearray()
        parent.forget()
        self._open()

    def after_fork(self) -> None:
        """Called in a forked child, whose locks may be held by threads that it does not have; its first call begins a journal of its own."""
        self._lock = threading.RLock()
        self._inside = False
        self._deferred = []
        self._end = 0
        self._full_until = 0.0

    # ---- drops and the end -------------------------------------------------------------------------------------------------------------

    def _drop_row(self, reason: str, points: int) -> None:
        """A row that finds no room keeps its seq, so that the gap shows."""
        self.seq += 1
        self._drop(reason, points)

    def _drop(self, reason: str, points: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + points
        self._drops_told = False

    def _write_drops(self) -> None:
        """Writes the counts so far; each such row holds all of them, and each segment begins with one, so that a reader that begins anywhere knows them."""
        self._drops_told = not self.dropped or self._append(fmt.Kind.DROP, self.dropped)

    def flush_drops(self) -> None:
        """Writes down what was dropped since the last call, so that the account carries it."""
        if not self._drops_told:
            with self._lock:
                if not self._inside and self.pid == os.getpid() and not self._closed:
                    self._write_drops()

    def _run_deferred(self) -> None:
        while self._deferred:
            self._deferred.pop(0)()

    def close(self, state: str, reason: str) -> None:
        """Ends the journal: no row is written after it. Calls that come later are ignored."""
        with self._lock:
            if self._closed or self.pid != os.getpid():
                return
            self._write_drops()
            self._closed = True
            self._end = self._offset = 0
            try:
                self.folder.end(fmt.End(state, reason, self.seq, self.points, self.dropped))
            except OSError as error:
                self.folder.close()
                self._report("end", f"the end of the journal in {self.folder.path} could not be written ({error.strerror}): its run will read as crashed")
