"""The slow way of a log call: whatever `writer` cannot pack at once. Names, values, step and time are sorted out one by one, key sets are defined, and values on a device are handed over.

What bad values, steps and times are is `values`' matter, values that are no numbers `blobs`', where values come from `sources`', of which type they are `number_types`'.
Everything here runs inside of a call that `writer` has let in.
"""

from __future__ import annotations

import enum
import json
import time as clock
from typing import TYPE_CHECKING, Any

from runstream_producers.journal import blobs, devices, number_types, plans, sources
from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val
from runstream_producers.journal.late import LateRow, LateRows, Waited
from runstream_schemas.topics import MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from runstream_producers.journal.tail import Tail

_now = clock.time

_TEXTS = (str, type(None))
_CONTEXTS = (*_TEXTS, enum.Enum)
# What a row may come to with its names: a frame cannot be cut below one row, and must fit a Kafka message with its own fields.
ROW_BYTES_MAX = MESSAGE_BYTES_MAX - (64 << 10)


class SlowWay:
    """Writes rows to `tail` with plans of `scopes`; `late` are the rows that wait for a device, None as long as there were none.

    `write_late` gets each of these once its values have been read, with why some could not be, in the thread that read them; `record` writes a record of another kind.
    """

    def __init__(
        self,
        tail: Tail,
        scopes: plans.Scopes,
        report: Callable[[str, str], None],
        write_late: Callable[[LateRow, Mapping[str, str]], None],
        record: Callable[[fmt.Kind, Mapping[str, Any]], bool],
    ) -> None:
        self._tail = tail
        self._scopes = scopes
        self._report = report
        self._write_late = write_late
        self._record = record
        self._sources = sources.Sources()
        self._types = number_types.NumberTypes()
        self.late: LateRows | None = None

    def log(self, data: Any, step: Any, time: Any, context: Any, subject: Any, source: Any) -> None:
        """Writes one row. Raises nothing but what `report` raises, and signal handlers."""
        if self._tail.closed:
            self._report("closed", f"log was called after {self._tail.closed_by}: nothing is recorded any more")
            return
        try:
            flat, refused, readers, others, given_up = val.flatten(data, devices.reader_of, blobs.blob_of)
            scope = self._scopes.of_any(context, subject)
            found = self._sources.news(scope, flat.keys() | others.keys(), source, data)
            odd_names = [key for key in data if not isinstance(key, str)]
            # Names, places and types are looked at when a key set is first met in a segment.
            fresh = bool(others) or tuple(flat) not in scope.plans or self._tail.offset + plans.row_bytes(len(flat)) > self._tail.end
            looks = fresh and bool(flat) and type(data) is not Waited
            types = self._types.news(scope, flat.keys(), data) if looks else []
            rounded = number_types.inexact(flat.keys(), data) if looks else {}
            words = (scope.context, scope.subject, *flat, *others) if fresh else ()
            long = next((word for word in (*words, source or "") if len(val.text_of(word)) > val.NAME_CHARACTERS_MAX), None)
        except Exception as error:
            if val.from_signal(error):
                raise
            self._report(
                f"call:{type(data).__name__}",
                f"a call of log was not recorded: expected a mapping of names to numbers, got {val.told(data)} ({type(error).__name__})",
            )
            return
        self.refuse(refused, given_up)
        self._check_words(odd_names, step)
        self._check_places(context, subject, source, (*flat, *others) if fresh else ())
        if long is not None:
            self._tail.drop("bad_value", len(flat))
            self._report(
                "long",
                f"a call of log was not recorded: names, context, subject and source may have {val.NAME_CHARACTERS_MAX} characters, got one of {len(long)}, {val.shown(long[:60])}…",
            )
            return
        if not flat and not others:
            return
        number = scope.next_step if step is None else val.step_of(step)
        if number is None:
            self._report(
                f"step:{type(step).__name__}",
                f"step must be an integer of at most 64 bits, got {val.shown(step)}: the row was kept under step {scope.next_step}",
            )
            step, number = None, scope.next_step
        when = _now() if time is None else val.seconds_of(time)
        if when is None:
            hint = val.time_hint(time)
            told = f"time must be seconds since 1970 or a datetime, got {val.shown(time)}{hint}: the row was kept with the time of the call"
            self._report(f"time:{type(time).__name__}:{hint}", told)
            when = _now()
        for name, value in rounded.items():
            told = f"value of {val.shown(name)} is the integer {val.shown(value)}, and numbers are kept as doubles, which hold integers to 2^53: it was kept as {float(value):.0f}"
            self._report(f"digits:{name}", f"{told}; log it as a text, or as a param, where its last digits matter")
        said = [("source", one.source, one.names) for one in found] + [("type", one.type, one.names) for one in types]
        for role, what, names in said:
            self._record(fmt.Kind.VALUE, self._value(scope, what, role, when) | {"kind": "list", "value": json.dumps(names)})
        if readers:
            self._put_late(LateRow(Waited(flat), readers, number, when, scope.context, scope.subject), scope, tuple(data))
        elif flat:
            plan = self._plan(scope, tuple(flat), data)
            if plan is not None:
                self._tail.add(plan, number, when, flat.values())
                if fresh:
                    self._tail.know(plan, tuple(flat), scope, context, subject)
            elif not others:
                return
        for name, fields in others.items():
            self._record(fmt.Kind.VALUE, self._value(scope, name, "metric", when) | {"step": number} | fields)
        if step is None:
            scope.next_step = number + 1

    def _value(self, scope: plans.Scope, name: str, role: str, when: float) -> dict[str, Any]:
        return {"time_ms": round(when * 1000.0), "name": name, "role": role, "context": scope.context, "subject": scope.subject}

    def _check_words(self, odd_names: Sequence[Any], step: Any) -> None:
        """Tells of names and steps that are taken for what they were hardly meant to be. Names are past this where a call is packed at once; steps never are."""
        for name in odd_names:
            self._report("key", f"names of metrics must be texts, got {val.told(name)} ({val.shown(name)}): it was taken as {val.text_of(name)!r}")
        if isinstance(step, bool):
            self._report("step:bool", f"step must be an integer, got {step}: the row was kept under step {int(step)}")

    def _check_places(self, context: Any, subject: Any, source: Any, names: Iterable[str]) -> None:
        """Tells of a context, a subject and a source that are taken for texts, and of names that nobody can read; what is packed at once is past this."""
        if not isinstance(context, _CONTEXTS):
            self._report(
                "context", f"context of log must be a text or a member of an Enum, got {val.told(context)}: it was taken as {val.context_of(context)!r}"
            )
        for argument, value in (("subject", subject), ("source", source)):
            if not isinstance(value, _TEXTS):
                self._report(argument, f"{argument} of log must be a text, got {val.told(value)}: it was taken as {val.text_of(value)!r}")
        for name in names:
            if not name or "\0" in name:
                self._report("name", f"names of metrics must be texts that are not empty and hold no NUL, got {val.shown(name)}: it was kept all the same")

    def refuse(self, refused: Mapping[str, str], values: int) -> None:
        """Counts so many values that were not kept, and tells by name why."""
        if values:
            self._tail.drop("bad_value", values)
        for key, why in refused.items():
            self._report(f"value:{key}", f"value of {val.shown(key)} was not logged: {why}; the rest of the call was kept")

    def _put_late(self, row: LateRow, scope: plans.Scope, keys: tuple[str, ...]) -> None:
        """Hands a row over that takes waiting for a device; it gets its seq when it is written."""
        plan = scope.plans.get(keys)
        if plan is not None and plan[0]:
            scope.plans[keys] = (False, *plan[1:])  # Or the next call would add up these values to see what they are, on their device.
        if self.late is None:
            self.late = LateRows(self._write_late)
        if not self.late.put(row):
            self._tail.drop_row("device_queue_full", len(row.values))
            self._report("device_queue_full", "more rows wait to be read from a device than are kept: new ones are dropped and counted until there is room")

    def _plan(self, scope: plans.Scope, keys: tuple[str, ...], data: Mapping[Any, Any]) -> plans.Plan | None:
        """The plan of a key set, defined in this segment, with room for one of its rows; None where there is none to be had, and the row is dropped and counted."""
        tail = self._tail
        size = plans.row_bytes(len(keys))
        plan = scope.plans.get(keys)
        if plan is not None and tail.offset + size > tail.end:
            plan = None  # A new segment begins without key sets.
            if not tail.rotate(size):
                tail.drop_row("journal_full", len(keys))
                return None
        if plan is None:
            names = tail.names(scope, keys)
            if size + len(names) > ROW_BYTES_MAX:
                self._report(
                    "too_large", f"a row of {len(keys)} values comes to {size + len(names)} bytes with its names, more than {ROW_BYTES_MAX}: it was dropped"
                )
                tail.drop_row("too_large", len(keys))
                return None
            plan = tail.define(names, keys, room_after=size)
            if plan is None:
                tail.drop_row("journal_full", len(keys))
                return None
        plan = scope.plans[keys] = plans.suited(plan, data)
        return plan
