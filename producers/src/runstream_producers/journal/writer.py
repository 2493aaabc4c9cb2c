"""The hot path: a log call becomes one row in mapped memory, and returns.

Pages of a mapped file belong to the kernel, so every call that returned survives the death of the process. Nothing here waits for a network or a disk flush, and nothing is
raised for reasons of transport. What bad values, steps and times mean is `values`' matter; here they take the slow way. How a key set's rows are packed is `plans`' matter.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import threading
import time as clock
import zlib
from typing import TYPE_CHECKING, Any

from runstream_producers.errors import JournalError
from runstream_producers.journal import devices, plans
from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import untraced
from runstream_producers.journal.late import LateRow, LateRows
from runstream_producers.journal.reader import row_at
from runstream_producers.journal.segments import Folder
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Mapping
    from pathlib import Path

_into_lead = fmt.ROW_LEAD.pack_into
_crc32 = zlib.crc32
_now = clock.time
_quick = plans.quick_types
_all_quick = plans.quick_types.issuperset
_PLAIN = plans.PLAIN

RETRY_S = 0.5  # How long rows are dropped after there was no room, before it is looked for again.
# What a row may come to with its names: a frame cannot be cut below one row, and must fit a Kafka message with its own fields.
ROW_BYTES_MAX = MESSAGE_BYTES_MAX - (64 << 10)
_ROOM_FOR_DROPS = 4096


class JournalWriter:
    """Writes one process's journal; safe to call from any thread and from signal handlers.

    `make_identity` gives this process's identity; it is called again in a forked child, which is a writer of its own. `report` gets one sentence for each kind of
    trouble, once (in strict mode it may raise). `begun_in_child` is called once a forked child has begun its own journal; it must not log.
    """

    def __init__(
        self,
        base: Path,
        make_identity: Callable[[], fmt.Identity],
        *,
        segment_bytes: int,
        bytes_max: int,
        report: Callable[[str, str], None],
        begun_in_child: Callable[[], None] | None = None,
    ) -> None:
        self._base = base
        self._make_identity = make_identity
        # Segments go only as a whole, and never the newest: with few of them the limit would hold what is shipped already.
        self._segment_bytes = min(segment_bytes, max(bytes_max // 8, 1 << 16))
        self._bytes_max = bytes_max
        self._report = report
        self._begun_in_child = begun_in_child
        self._use_lock()
        self._inside = False
        self._deferred: list[Callable[[], None]] = []
        self._draining = False
        self._late: LateRows | None = None
        self._scopes: dict[tuple[str, str], plans.Scope] = {}
        self._plain = self._scope("", "")
        self.seq: int = 0
        self.points: int = 0
        self.dropped: dict[str, int] = {}
        self._drops_told = True
        self._closed = False
        self._open()

    def _use_lock(self) -> None:
        self._lock = threading.RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release

    def _open(self) -> None:
        """Begins a journal of this process, with a first segment; raises OSError or JournalError."""
        identity = self._make_identity()
        self.folder = Folder(self._base, identity)
        self.identity = identity
        self.pid = os.getpid()
        self._map: mmap.mmap | bytearray = bytearray()
        self._number = self._spare = 0
        self._offset = self._end = 0
        self._full_until = 0.0
        self._key_sets = 0
        self._rotate(0)

    # ---- metric rows -------------------------------------------------------------------------------------------------------------------

    @untraced
    def log(self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "") -> None:
        """Writes one row of metrics; see `runstream.Run.log`."""
        if self._inside and self._nested():
            self._defer_log(data, step, time, context, subject)
            return
        try:
            # Taken and given back by hand, since a `with` takes a fifth of the whole call; `_leave` does it where an exception ends the call.
            self._acquire()
            self._inside = True
            try:
                body = None
                scope = self._plain if context is None and not subject else self._scope(context, subject)
                plan = scope.plans.get(tuple(data))
                if plan is not None and time is None:
                    plain, only, pack, into, length, size, count, head = plan
                    offset = self._offset
                    end = offset + size
                    if end <= self._end:
                        # Values of other types, or that do not fit, take the slow way, by this test or by the exception that struct raises.
                        points = self.points + count
                        if only is not None:
                            value = data[only]
                            if type(value) is float or type(value) in _quick:
                                body = pack(head, self.seq, scope.next_step if step is None else step, points, _now(), value)
                        else:
                            numbers = data.values()
                            # sum() adds plain floats and ints in C, quicker than their types can be looked at; with anything else its result has another type.
                            if (type(sum(numbers)) in _PLAIN) if plain else _all_quick(map(type, numbers)):
                                body = pack(head, self.seq, scope.next_step if step is None else step, points, _now(), *numbers)
                        if body is not None:
                            into(self._map, offset, length, _crc32(body), body)
                            self._offset = end
                            self.points = points
                            self.seq += 1
                            if step is None:
                                scope.next_step += 1
            except Exception as error:
                # The mapping and its values are the user's and may raise anything: the slow way sorts it out. What a signal handler raised is not ours.
                if val.from_signal(error):
                    raise
                body = None
            if body is None:
                self._log_slowly(data, step, time, context, subject)
            self._inside = False
            self._release()
        except BaseException as error:
            self._leave()
            if not self._closed_meanwhile(error):
                raise
        if self._deferred:
            self._run_deferred()

    def _closed_meanwhile(self, error: BaseException) -> bool:
        """Whether a call failed for the sole reason that a signal handler closed the journal in the middle of it, so that there was no mapping to write to."""
        return self._closed and isinstance(error, struct.error)

    def _nested(self) -> bool:
        """Whether this call was made by a signal handler while this thread is in the middle of another one; called while some thread is."""
        if not self._acquire(False):
            return False  # Another thread is: this call waits for it.
        inside = self._inside
        self._release()
        return inside

    def _leave(self) -> None:
        """Leaves a call of `log` that an exception ended, wherever that was: while it waited for the lock, inside, or on its way out."""
        if not self._acquire(False):
            return  # It was still waiting for another thread.
        if self._inside:
            self._settle()
            self._inside = False
        self._release()
        with contextlib.suppress(RuntimeError):  # The lock is not this call's own where it had not got it yet, or given it back.
            self._release()
        if self._deferred:
            self._run_deferred()

    def _log_slowly(self, data: Any, step: Any, time: Any, context: Any, subject: Any) -> None:
        """Sorts out names, values, step and time one by one, then writes the row. Raises nothing but what `report` raises."""
        if self._closed:
            self._report("closed", "log was called after finish: nothing is recorded any more")
            return
        try:
            flat, refused, readers = val.flatten(data, devices.reader_of)
            scope = self._scope(context, subject)
        except Exception as error:
            if val.from_signal(error):
                raise
            self._report("call", f"a call of log was not recorded: expected a mapping of names to numbers, got {val.told(data)} ({type(error).__name__})")
            return
        self._refuse(refused)
        if not flat:
            return
        number = scope.next_step if step is None else val.step_of(step)
        if number is None:
            self._report("step", f"step must be an integer of at most 64 bits, got {val.shown(step)}: the row was kept under step {scope.next_step}")
            step, number = None, scope.next_step
        when = _now() if time is None else val.seconds_of(time)
        if when is None:
            self._report("time", f"time must be seconds since 1970 or a datetime, got {val.shown(time)}: the row was kept with the time of the call")
            when = _now()
        if readers:
            self._put_late(LateRow(flat, readers, number, when, scope.context, scope.subject), scope, tuple(data))
            if step is None:
                scope.next_step = number + 1
            return
        plan = self._plan(scope, tuple(flat), data)
        if plan is None:
            return
        _, _, pack, into, length, size, count, head = plan
        body = pack(head, self.seq, number, self.points + count, when, *flat.values())
        into(self._map, self._offset, length, _crc32(body), body)
        self._offset += size
        self.points += count
        self.seq += 1
        if step is None:
            scope.next_step = number + 1

    def _refuse(self, refused: Mapping[str, str]) -> None:
        for key, why in refused.items():
            self._drop("bad_value", 1)
            self._report(f"value:{key}", f"value of {key!r} was not logged: {why}; the rest of the call was kept")

    def _put_late(self, row: LateRow, scope: plans.Scope, keys: tuple[str, ...]) -> None:
        """Hands a row over that takes waiting for a device; it gets its seq when it is written."""
        plan = scope.plans.get(keys)
        if plan is not None and plan[0]:
            scope.plans[keys] = (False, *plan[1:])  # Or the next call would add up these values to see what they are, on their device.
        if self._late is None:
            self._late = LateRows(self._write_late)
        if not self._late.put(row):
            self._drop_row("device_queue_full", len(row.values))
            self._report("device_queue_full", "more rows wait to be read from a device than are kept: new ones are dropped and counted until there is room")

    def _write_late(self, row: LateRow, found: dict[str, Any]) -> None:
        """Writes a row whose values have been read, in the thread that read them."""
        refused: dict[str, str] = {}
        for name, value in found.items():
            number = None if isinstance(value, Exception) else val.number_of(value)
            if number is None:
                del row.values[name]
                refused[name] = f"it could not be read from its device ({val.shown(value)})"
            else:
                row.values[name] = number
        with self._lock:
            if self._late is None or not self._late.claim(row):
                return
            self._refuse(refused)
            if row.values:
                self.log(row.values, row.step, time=row.time_s, context=row.context, subject=row.subject)

    def wait_for_devices(self, deadline: float) -> None:
        """Waits until the rows that were handed over have been read and written, at most until `deadline` of the monotonic clock."""
        if self._late is not None:
            self._late.wait(deadline)

    def _plan(self, scope: plans.Scope, keys: tuple[str, ...], data: Mapping[Any, Any]) -> plans.Plan | None:
        """The plan of a key set, defined in this segment, with room for one of its rows; None where there is none to be had, and the row is dropped and counted."""
        size = plans.row_bytes(len(keys))
        plan = scope.plans.get(keys)
        if plan is not None and self._offset + size > self._end:
            plan = None  # A new segment begins without key sets.
            if not self._rotate(size):
                self._drop_row("journal_full", len(keys))
                return None
        if plan is None:
            raw = _json({"id": self._key_sets + 1, "context": scope.context, "subject": scope.subject, "keys": keys})
            if size + len(raw) > ROW_BYTES_MAX:
                self._report(
                    "too_large", f"a row of {len(keys)} values comes to {size + len(raw)} bytes with its names, more than {ROW_BYTES_MAX}: it was dropped"
                )
                self._drop_row("too_large", len(keys))
                return None
            # The definition must stand in the same segment as the row that uses it.
            if not self._append(plans.head(fmt.Kind.KEY_SET, self._key_sets + 1), raw, room_after=size):
                self._drop_row("journal_full", len(keys))
                return None
            self._key_sets += 1
            plan = plans.make(self._key_sets, keys)
        plan = scope.plans[keys] = plans.suited(plan, data)
        return plan

    def _scope(self, context: Any, subject: Any) -> plans.Scope:
        """The scope of a context and subject, whatever they were given as; raises what turning them into text raises."""
        place = (val.context_of(context), val.text_of(subject) if subject else "")
        scope = self._scopes.get(place)
        if scope is None:
            scope = self._scopes[place] = plans.Scope(*place)
        return scope

    # ---- other records -----------------------------------------------------------------------------------------------------------------

    @untraced
    def record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> None:
        """Writes a record of another kind, as JSON, with a seq of its own; what JSON cannot hold is told and not recorded."""
        with self._lock:
            if self._inside:
                self._deferred.append(lambda: self.record(kind, payload))
                return
            self._inside = True
            try:
                self._record(kind, payload)
            except BaseException as error:
                self._settle()
                if not self._closed_meanwhile(error):
                    raise
            finally:
                self._inside = False
                if self._deferred:
                    self._run_deferred()

    def _record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> None:
        what = kind.name.lower()
        if self._closed:
            self._report("closed", "the run was finished before: nothing is recorded any more")
            return
        try:
            raw = _json(payload)
        except (TypeError, ValueError, RecursionError) as error:
            self._report(f"record:{what}", f"a record ({what}) was not logged, since JSON cannot hold it: {error}")
            return
        if len(raw) > ROW_BYTES_MAX:
            self._report("too_large", f"a record ({what}) of {len(raw)} bytes is more than {ROW_BYTES_MAX}: it was dropped")
            self._drop_row("too_large", 0)
        elif not self._append(plans.head(kind, 0), raw, seqs=1):
            self._drop_row("journal_full", 0)

    def _append(self, head: int, raw: bytes, *, seqs: int = 0, room_after: int = 0) -> bool:
        """Writes a row with such a payload that takes so many seqs; False where there is no room for it and `room_after` bytes more."""
        raw += b" " * (-len(raw) % 8)
        size = fmt.LEAD_BYTES + fmt.HEAD_BYTES + len(raw)
        if self._offset + size + room_after > self._end and not self._rotate(size + room_after):
            return False
        body = fmt.ROW_HEAD.pack(head, self.seq, 0, self.points, _now()) + raw
        # Body first, then lead: the lead is what makes it a row.
        start = self._offset + fmt.LEAD_BYTES
        self._map[start : start + len(body)] = body
        _into_lead(self._map, self._offset, len(body), _crc32(body))
        self._offset += size
        self.seq += seqs
        return True

    # ---- room --------------------------------------------------------------------------------------------------------------------------

    def _rotate(self, room: int) -> bool:
        """Goes on in a new segment that holds at least `room` bytes more; False, told once, where there is none to be had."""
        if self._closed or clock.monotonic() < self._full_until:
            return False
        if self.pid != os.getpid():
            return self._begin_in_child() and (self._offset + room <= self._end or self._rotate(room))
        size = max(self._segment_bytes, fmt.HEADER_BYTES + room + _ROOM_FOR_DROPS)
        try:
            held = self.folder.segments_bytes()
            if held + size > self._bytes_max and self._number:
                return self._no_room(
                    f"the journal holds {held >> 20} MiB that are not shipped yet, near its limit of {self._bytes_max >> 20} MiB (journal_bytes_max)"
                )
            # Before the segment has its name: an interruption after it must find no plan that this segment does not define.
            for scope in self._scopes.values():
                scope.plans.clear()
            number = self._number + 1
            spare = self._spare == number and size == self._segment_bytes
            self._take(self.folder.add_segment(number, size, self.seq, self.points, spare=spare), size)
        except OSError as error:
            self._spare = 0
            return self._no_room(f"the journal folder {self.folder.path} has no room for a segment ({error.strerror})")
        self._write_drops()
        return True

    def _take(self, fresh: mmap.mmap | bytearray, size: int) -> None:
        self._map = fresh
        self._number += 1
        self._offset, self._end = fmt.HEADER_BYTES, size

    def _no_room(self, why: str) -> bool:
        self._full_until = clock.monotonic() + RETRY_S
        self._report("full", f"{why}: new rows are dropped and counted until there is room")
        return False

    def _settle(self) -> None:
        """After an exception that a signal handler raised in the middle of a call: counts what the call has written whole, since a reader may have seen it."""
        if self._closed or self.pid != os.getpid():
            return
        try:
            named = self.folder.named_segment(self._number + 1)
        except (OSError, ValueError):
            named = bytearray()  # It cannot be mapped, and a reader goes there next: this leaves it empty and makes the one after it.
        if named is not None:
            for scope in self._scopes.values():
                scope.plans.clear()
            self._take(named, len(named))
            return
        found = row_at(self._map, self._offset, self._end)
        if found is not None and found[0].seq == self.seq:
            row, self._offset = found
            self.points = row.points
            if row.kind == fmt.Kind.KEY_SET:
                self._key_sets = row.key_set
            elif row.kind != fmt.Kind.DROP:
                self.seq += 1

    # ---- forked children ---------------------------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """Called in a forked child, whose locks may be held by threads that it does not have. It is a new writer, which begins a journal of its own with its first call."""
        self._use_lock()
        self._inside = self._draining = False
        self._deferred = []
        self._map = bytearray()
        self._offset = self._end = 0
        self._full_until = 0.0
        self._key_sets = 0
        self.seq = self.points = 0
        self.dropped = {}
        self._drops_told = True
        for scope in self._scopes.values():
            scope.plans.clear()
        self._late = None  # The rows that wait for a device are the parent's.
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

    # ---- drops, deferred calls and the end ---------------------------------------------------------------------------------------------

    def _drop_row(self, reason: str, points: int) -> None:
        """A row that is not written keeps its seq, so that the gap shows."""
        self.seq += 1
        self._drop(reason, points)

    def _drop(self, reason: str, points: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + points
        self._drops_told = False

    def _write_drops(self) -> None:
        """Writes the counts so far; each such row holds all of them, and each segment begins with one, so that a reader that begins anywhere knows them."""
        self._drops_told = not self.dropped or self._append(plans.head(fmt.Kind.DROP, 0), _json(self.dropped))

    def flush_drops(self) -> None:
        """What a log call should not wait for, to be called now and then by another thread: writes down what was dropped since the last time, so that the account
        carries it, and allocates the next segment once this one is half full, which takes milliseconds.
        """
        if self.pid != os.getpid() or self._closed:
            return
        if not self._drops_told:
            with self._lock:
                if not (self._inside or self._closed):
                    self._inside = True
                    try:
                        self._write_drops()
                    finally:
                        self._inside = False
        number, size = self._number + 1, self._segment_bytes
        if 2 * self._offset > self._end > 0 and self._spare != number:
            try:
                if self.folder.segments_bytes() + size <= self._bytes_max:
                    self.folder.make_spare(number, size)
                    self._spare = number
            except OSError:
                pass  # The rotation will find no room either, and say so.

    def _defer_log(self, data: Any, step: Any, time: Any, context: Any, subject: Any) -> None:
        try:
            copy: Any = dict(data)
        except Exception:  # noqa: BLE001 - the mapping is the user's and may raise anything; the call itself will say so
            copy = data
        self._deferred.append(lambda: self.log(copy, step, time=time, context=context, subject=subject))

    def _run_deferred(self) -> None:
        """Makes the calls that signal handlers made while a thread was in the middle of one."""
        if self._draining:
            return  # This is one of them, or another thread is at it.
        with self._lock:
            self._draining = True
            try:
                while self._deferred:
                    self._deferred.pop(0)()
            finally:
                self._draining = False

    def close(self, state: str, reason: str) -> None:
        """Ends the journal: no row is written after it, and calls that come later are ignored. A signal handler may close it in the middle of a call of this thread."""
        with self._lock:
            if self._closed or self.pid != os.getpid():
                return
            if self._inside:
                self._leave_interrupted()
            for row in () if self._late is None else self._late.give_up():
                self._drop_row("device_not_read", len(row.values))
            # What is dropped here was told when it was; a writer that cannot say so here says it in its end.
            self._write_drops()
            self._closed = True
            self._map = bytearray()
            self._end = self._offset = 0
            try:
                self.folder.end(fmt.End(state, reason, self.seq, self.points, self.dropped))
            except OSError as error:
                self.folder.close()
                self._report("end", f"the end of the journal in {self.folder.path} could not be written ({error.strerror}): its run will read as crashed")

    def _leave_interrupted(self) -> None:
        """The call that a signal handler interrupted may still write its row where it began: it keeps that place and its seq, and what follows stands in the next segment."""
        before = self.seq
        self._settle()
        if self.seq == before:
            self.seq += 1
        self._full_until = 0.0
        self._inside = False
        self._rotate(0)
        self._run_deferred()


def _json(payload: Mapping[str, Any]) -> bytes:
    """The payload as JSON; half surrogate pairs, which UTF-8 cannot hold, become question marks."""
    return json.dumps(payload, ensure_ascii=False).encode("utf-8", "replace")
