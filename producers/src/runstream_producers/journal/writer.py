"""The hot path in Python: a log call becomes one row in mapped memory, and returns; and who may write when: threads, signal handlers, forked children.

Pages of a mapped file belong to the kernel, so every call that returned survives the death of the process. Nothing here waits for a network or a disk flush, and nothing is
raised for reasons of transport. Where it was compiled, the usual call does not come here: `quick`. Calls that cannot be packed at once take `slow`'s way. Segments, room and counts
are `tail`'s matter, how a key set's rows are packed `plans`'.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
import time as clock
import zlib
from typing import TYPE_CHECKING, Any

from runstream_producers.journal import plans
from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import torch_is_loaded, untraced
from runstream_producers.journal.quick import COMPILED
from runstream_producers.journal.slow import ROW_BYTES_MAX, SlowWay
from runstream_producers.journal.tail import Tail, as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from runstream_producers.journal import format as fmt
    from runstream_producers.journal.late import LateRow
    from runstream_producers.journal.segments import Folder

_crc32 = zlib.crc32
_now = clock.time
_quick = plans.quick_types
_all_quick = plans.quick_types.issuperset
_PLAIN = plans.PLAIN
_EARLIEST_S, _LATEST_S = val.SECONDS_MIN, val.SECONDS_MAX


class JournalWriter:
    """Writes one process's journal; safe to call from any thread and from signal handlers.

    `make_identity` gives this process's identity; it is called again in a forked child, which is a writer of its own. `bytes_max` is what may wait unshipped, None for the usual
    (`room`). `report` gets one sentence for each kind of trouble, once (in strict mode it may raise). `begun_in_child` is called once a forked child has begun its own journal;
    it must not log. `compiled` lets `quick` take the usual call, where it was built. Raises OSError or JournalError where no journal can be made.
    """

    def __init__(
        self,
        base: Path,
        make_identity: Callable[[], fmt.Identity],
        *,
        segment_bytes: int,
        bytes_max: int | None,
        report: Callable[[str, str], None],
        begun_in_child: Callable[[], None] | None = None,
        compiled: bool = True,
    ) -> None:
        self._report = report
        self._use_lock()
        self._deferred: list[Callable[[], object]] = []
        self._draining = False
        self._scopes = plans.Scopes()
        self._plain = self._scopes.plain
        self._tail = Tail(base, make_identity, self._scopes, segment_bytes=segment_bytes, bytes_max=bytes_max, report=report, begun_in_child=begun_in_child)
        self._slow = SlowWay(self._tail, self._scopes, report, self._write_late, self._record)
        self._tail.slow = self.log
        if COMPILED and compiled:
            # Which hands to `slow` what it does not take. For torch's compiler a marked function of Python stands before it, since it has no place for a mark.
            self.__dict__["log"] = self._log_compiled if torch_is_loaded() else self._tail.log

    def _use_lock(self) -> None:
        self._lock = threading.RLock()
        self._acquire, self._release = self._lock.acquire, self._lock.release

    @property
    def folder(self) -> Folder:
        """The folder of this journal."""
        return self._tail.folder

    @property
    def identity(self) -> fmt.Identity:
        """Who writes it."""
        return self._tail.identity

    @property
    def tail(self) -> Tail:
        """Its end, for those who look at how it is written."""
        return self._tail

    @property
    def seq(self) -> int:
        """The seq of the next row."""
        return self._tail.seq

    @property
    def rows(self) -> int:
        """Rows and records written so far: those that have a seq and were not dropped."""
        return self._tail.seq - self._tail.rows_dropped

    @property
    def points(self) -> int:
        """Points logged so far."""
        return self._tail.points

    @property
    def dropped(self) -> dict[str, int]:
        """Points that were given up, by reason."""
        return self._tail.dropped

    # ---- calls -------------------------------------------------------------------------------------------------------------------------

    @untraced
    def log(self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "", source: Any = None) -> None:
        """Writes one row of metrics; see `runstream.Run.log`."""
        tail = self._tail
        if tail.inside and self._nested():
            self._defer_log(data, step, time, context, subject, source)
            return
        try:
            # Taken and given back by hand, since a `with` takes a fifth of the whole call; `_leave` does it where an exception ends the call.
            self._acquire()
            tail.inside = True
            try:
                body = None
                scope = self._plain if context is None and not subject else self._scopes.of(context, subject)
                plan = scope.plans.get(tuple(data))
                if (
                    plan is not None
                    and source is None
                    and type(step) is not bool
                    and (time is None or (type(time) is float and _EARLIEST_S <= time <= _LATEST_S))
                ):
                    plain, only, pack, into, length, size, count, head = plan
                    offset = tail.offset
                    end = offset + size
                    if end <= tail.end:
                        # Values of other types, or that do not fit, take the slow way, by this test or by the exception that struct raises.
                        points = tail.points + count
                        if only is not None:
                            value = data[only]
                            if type(value) is float or type(value) in _quick:
                                body = pack(head, tail.seq, scope.next_step if step is None else step, points, _now() if time is None else time, value)
                        else:
                            numbers = data.values()
                            # sum() adds plain floats and ints in C, quicker than their types can be looked at; with anything else its result has another type.
                            if (type(sum(numbers)) in _PLAIN) if plain else _all_quick(map(type, numbers)):
                                body = pack(head, tail.seq, scope.next_step if step is None else step, points, _now() if time is None else time, *numbers)
                        if body is not None:
                            into(tail.map, offset, length, _crc32(body), body)
                            tail.offset = end
                            tail.points = points
                            tail.seq += 1
                            if step is None:
                                scope.next_step += 1
            except Exception as error:
                # The mapping and its values are the user's and may raise anything: the slow way sorts it out. What a signal handler raised is not ours.
                if val.from_signal(error):
                    raise
                body = None
            if body is None:
                self._slow.log(data, step, time, context, subject, source)
            tail.inside = False
            self._release()
        except BaseException as error:
            self._leave()
            if not self._closed_meanwhile(error):
                raise
        if self._deferred:
            self._run_deferred()

    @untraced
    def _log_compiled(
        self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "", source: Any = None
    ) -> None:
        if time is None and context is None and not subject and source is None:
            self._tail.log(data, step)
        else:
            self._tail.log(data, step, time=time, context=context, subject=subject, source=source)

    def _closed_meanwhile(self, error: BaseException) -> bool:
        """Whether a call failed for the sole reason that a signal handler closed the journal in the middle of it, so that there was no mapping to write to."""
        return self._tail.closed and isinstance(error, struct.error)

    def _nested(self) -> bool:
        """Whether this call was made by a signal handler while this thread is in the middle of another one; called while some thread is."""
        if not self._acquire(False):
            return False  # Another thread is: this call waits for it.
        inside = self._tail.inside
        self._release()
        return inside

    def _leave(self) -> None:
        """Leaves a call of `log` that an exception ended, wherever that was: while it waited for the lock, inside, or on its way out."""
        if not self._acquire(False):
            return  # It was still waiting for another thread.
        if self._tail.inside:
            self._tail.settle()
            self._tail.inside = False
        self._release()
        with contextlib.suppress(RuntimeError):  # The lock is not this call's own where it had not got it yet, or given it back.
            self._release()
        if self._deferred:
            self._run_deferred()

    def _write_late(self, row: LateRow, refused: Mapping[str, str]) -> None:
        with self._lock:
            late = self._slow.late
            if late is None or not late.claim(row):
                return
            self._slow.refuse(refused, len(refused))
            if row.values:
                self.log(row.values, row.step, time=row.time_s, context=row.context, subject=row.subject)

    @untraced
    def record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> bool:
        """Writes a record of another kind, as JSON, with a seq of its own; what JSON cannot hold, or no message, is told and not recorded. Whether it was recorded, as far as
        that is known: a signal handler's record is written once the call that it interrupted is over.
        """
        with self._lock:
            if self._tail.inside:
                self._deferred.append(lambda: self.record(kind, payload))
                return True
            self._tail.inside = True
            try:
                recorded = self._record(kind, payload)  # Not returned from here: what strikes on the way out must still be met by `except`.
            except BaseException as error:
                self._tail.settle()
                if not self._closed_meanwhile(error):
                    raise
                recorded = False
            finally:
                self._tail.inside = False
                if self._deferred:
                    self._run_deferred()
            return recorded

    def _record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> bool:
        if self._tail.closed:
            self._report("closed", f"a call came after {self._tail.closed_by}: nothing is recorded any more")
            return False
        name = payload.get("key") or payload.get("name")
        what = kind.name.lower() + (f" {val.shown(name)}" if name and isinstance(name, str) else "")
        try:
            raw = as_json(payload)
        except (TypeError, ValueError, RecursionError) as error:
            self._report(f"record:{what}", f"{what} was not logged, since JSON cannot hold it: {error}")
            return False
        if len(raw) > ROW_BYTES_MAX:
            self._tail.drop_row("too_large", 0)
            self._report(f"too_large:{what}", f"{what} was dropped: it comes to {len(raw)} bytes, and a record may have {ROW_BYTES_MAX} at most")
            return False
        if not self._tail.append(plans.head(kind, 0), raw, seqs=1):
            self._tail.drop_row("journal_full", 0)
            return False
        return True

    def _defer_log(self, data: Any, step: Any, time: Any, context: Any, subject: Any, source: Any) -> None:
        try:
            copy: Any = dict(data)
        except Exception:  # noqa: BLE001 - the mapping is the user's and may raise anything; the call itself will say so
            copy = data
        self._deferred.append(lambda: self.log(copy, step, time=time, context=context, subject=subject, source=source))

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

    # ---- beside and after them ---------------------------------------------------------------------------------------------------------

    def flush_drops(self) -> None:
        """What a log call should not wait for, to be called now and then by another thread: writes down what was dropped since the last time, so that the account
        carries it, and allocates the next segment once this one is half full.
        """
        tail = self._tail
        if tail.pid != os.getpid() or tail.closed:
            return
        if tail.owes_drops:
            with self._lock:
                if not (self._tail.inside or tail.closed):
                    self._tail.inside = True
                    try:
                        tail.write_drops()
                    finally:
                        self._tail.inside = False
        tail.make_spare()

    def wait_for_devices(self, deadline: float) -> None:
        """Waits until the rows that were handed over have been read and written, at most until `deadline` of the monotonic clock."""
        if self._slow.late is not None:
            self._slow.late.wait(deadline)

    def after_fork(self) -> None:
        """Called in a forked child, whose locks may be held by threads that it does not have. It is a new writer, which begins a journal of its own with its first call."""
        self._use_lock()
        self._tail.inside = self._draining = False
        self._deferred = []
        self._slow.late = None  # The rows that wait for a device are the parent's.
        self._tail.after_fork()

    def close(self, state: str, reason: str) -> None:
        """Ends the journal: no row is written after it, and calls that come later are ignored. A signal handler may close it in the middle of a call of this thread."""
        with self._lock:
            if self._tail.closed or self._tail.pid != os.getpid():
                return
            if self._tail.inside:
                try:
                    self._tail.skip_interrupted()
                finally:
                    self._tail.inside = False
                self._run_deferred()
            for row in () if self._slow.late is None else self._slow.late.give_up():
                self._tail.drop_row("device_not_read", len(row.values))
            self._tail.close(state, reason)
