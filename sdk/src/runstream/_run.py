"""`Run`: what training code holds in its hands, from `init` to `finish`.

Every call writes into the journal of this process and returns; the node agent ships. Nothing here raises for reasons of transport, and bad input is one warning a kind
(an error in strict mode).
"""

from __future__ import annotations

import logging
import math
import os
import time as clock
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from runstream import _ends
from runstream._agent import InlineWatch, Watch
from runstream._params import flatten, json_values
from runstream._types import Event, EventSource, Finished
from runstream_producers.errors import StrictError
from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val
from runstream_producers.journal.segments import map_file
from runstream_producers.states import trouble_of
from runstream_schemas import ids

if TYPE_CHECKING:
    import datetime as dt
    import enum
    import mmap
    from types import TracebackType

    from runstream_producers.journal.writer import JournalWriter
    from runstream_schemas.records import Operator, Severity
    from runstream_schemas.settings import Settings

_log = logging.getLogger("runstream")

_POLL_S = 0.01
_OPERATORS = ("<", "<=", ">", ">=", "==", "!=")
_RUN_TEXTS = frozenset({"name", "owner", "namespace", "external_id", "framework", "task", "notes"})
# Held here until it is finished, so that a run whose variable went out of scope ends well all the same; kept when the module is reloaded.
_live: set[Run] = globals().get("_live") or set()
held_signals: list[int] = []  # Signals that came while a journal was being ended.


class _Rows(Protocol):
    """What a run needs of a journal; `NoRows` is the one that keeps nothing."""

    seq: int
    points: int
    dropped: dict[str, int]

    def log(self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "") -> None: ...
    def record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> None: ...
    def wait_for_devices(self, deadline: float) -> None: ...
    def close(self, state: str, reason: str) -> None: ...
    def after_fork(self) -> None: ...


class NoRows:
    """Keeps nothing: for `mode="disabled"`, and where no journal can be written."""

    def __init__(self) -> None:
        self.seq = 0
        self.points = 0
        self.dropped: dict[str, int] = {}

    def log(self, data: Mapping[str, Any], step: int | None = None, *, time: Any = None, context: Any = None, subject: str = "") -> None:
        """Does nothing."""

    def record(self, kind: fmt.Kind, payload: Mapping[str, Any]) -> None:
        """Does nothing."""

    def wait_for_devices(self, deadline: float) -> None:
        """Does nothing."""

    def close(self, state: str, reason: str) -> None:
        """Does nothing."""

    def after_fork(self) -> None:
        """Does nothing."""


class Reporter:
    """One warning for each kind of trouble; an error instead in strict mode."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._told: set[str] = set()

    def __call__(self, key: str, sentence: str) -> None:
        """Tells a sentence unless one of its kind was told before; raises StrictError in strict mode."""
        if self._strict:
            raise StrictError(sentence)
        if key not in self._told and len(self._told) < 10_000:
            self._told.add(key)
            _log.warning("runstream: %s", sentence)


class Run:
    """One process's part in a run. Made by `runstream.init`; usable as a context manager, which finishes it.

    Attributes:
        id: UUID of the run, shared by all its ranks.
        project: the project it belongs to.
        rank: this process's global rank.
    """

    def __init__(self, run_id: str, project: str, rank: int, settings: Settings, rows: JournalWriter | None, report: Reporter) -> None:
        self.id = run_id
        self.project = project
        self.rank = rank
        self._settings = settings
        self._journal = rows
        self._rows: _Rows = rows or NoRows()
        self._report = report
        self._ending: _ends.Ending | None = None
        self._forked = False
        self.closing = False  # Its journal is being ended: a signal that would end the process meanwhile is held until that is done.
        self._finished: Finished | None = None
        self._watch: Watch | None = None
        self._ack: mmap.mmap | None = None
        # Bound once: a call through one more layer would cost a fifth of the whole.
        self.__dict__["log"] = self._rows.log
        if rows is not None:
            self._follow(rows)
        _live.add(self)

    def _follow(self, rows: JournalWriter) -> None:
        """Looks at the journal's acknowledgements from now on, and keeps an agent alive that makes them."""
        self._ack = map_file(rows.folder.path / "ack", write=False)
        folder = rows.folder.path.parent
        if self._settings.mode == "online":
            self._watch = Watch(folder, self._settings, rows.flush_drops)
        elif self._settings.mode == "inline" and not self._forked:
            self._watch = InlineWatch(folder, self._settings, rows.flush_drops, rows.identity.writer)
        if self._watch is not None:
            self._watch.start()

    # ---- logging -----------------------------------------------------------------------------------------------------------------------

    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        *,
        time: float | dt.datetime | None = None,
        context: str | enum.Enum | None = None,
        subject: str = "",
    ) -> None:
        """Logs metric values; returns in about a microsecond, without network or disk flush, and survives the death of the process.

        Args:
            data: values by name. A value is a number: Python's, numpy's, or a tensor of one element. NaN and infinities are kept. Nested dicts flatten with `/`.
                Anything else is refused for its name with one warning, and the rest is kept.
            step: any integer in any order; without it a counter of this process and context is used.
            time: epoch seconds or a datetime; now if None.
            context: a phase, such as `Context.VALIDATION` or `"validation"`.
            subject: what the values are about, such as `model/bert/3`; the run itself if empty.

        Example:
            >>> run.log({"loss": 0.31, "lr": 1e-3}, step=10)
        """
        self._rows.log(data, step, time=time, context=context, subject=subject)

    def log_params(self, params: Mapping[str, Any], *, context: str | enum.Enum | None = None) -> None:
        """Logs parameters: nested dicts flatten with `.`, and bool, int, float, string, None and lists keep their types. A later value of a key is a new version of it."""
        now_ms = clock.time_ns() // 1_000_000
        where = val.context_of(context)
        taken, refused = flatten(params)
        for key, why in refused.items():
            self._report(f"param:{key}", f"param {key!r} was not logged: {why}")
        for key, kind, text in taken:
            self._rows.record(fmt.Kind.PARAM, {"time_ms": now_ms, "key": key, "context": where, "kind": kind, "value": text})

    def log_event(
        self, event: Event | str, *, metadata: Mapping[str, Any] | None = None, source: EventSource | str = "", step: int | None = None, subject: str = ""
    ) -> str:
        """Logs something that happened, given as an `Event` or by its name and the other arguments; returns its id.

        Example:
            >>> run.log_event("checkpoint_started", metadata={"bytes": 1 << 30}, source="trainer")
        """
        if not isinstance(event, Event):
            event = Event(event, source=source, metadata=metadata or {}, step=step, subject=subject)
        seconds = clock.time() if event.time is None else val.seconds_of(event.time)
        if seconds is None:
            self._report(
                "event:time",
                f"time of event {event.name!r} must be seconds since 1970 or a datetime, got {val.shown(event.time)}: it was kept with the time of the call",
            )
            seconds = clock.time()
        number = None if event.step is None else val.step_of(event.step)
        if event.step is not None and number is None:
            self._report(
                "event:step", f"step of event {event.name!r} must be an integer of at most 64 bits, got {val.shown(event.step)}: it was kept without one"
            )
        said: Any = event.metadata or {}
        if not isinstance(said, Mapping):
            self._report("event:metadata", f"metadata of event {event.name!r} must be a mapping, got {val.told(said)}: it was kept under the name metadata")
            said = {"metadata": said}
        source_name: Any = event.source.name if isinstance(event.source, EventSource) else event.source
        event_id = ids.new_uuid()
        payload = {
            "event_id": event_id,
            "time_ms": round(seconds * 1000.0),
            "name": val.text_of(event.name),
            "source": val.text_of(source_name or ""),
            "subject": val.text_of(event.subject or ""),
            "step": number,
            "metadata": json_values(cast("Mapping[Any, Any]", said)),
        }
        self._rows.record(fmt.Kind.EVENT, payload)
        return event_id

    def alert_on(
        self,
        metric: str,
        operator: Operator | Literal["non_finite"],
        threshold: float | None = None,
        *,
        name: str = "",
        severity: Severity = "warning",
        text: str = "",
        context: str | enum.Enum | None = None,
        rank: int | None = None,
        channels: Sequence[str] = (),
    ) -> str:
        """Registers an alert rule for this run, on all its ranks, from the next row on; returns the rule's id, the same from every rank that registers it.

        Args:
            metric: a metric's name, or a pattern with `*` and `?`.
            operator: `<`, `<=`, `>`, `>=`, `==` or `!=` with a threshold, or `non_finite` for NaN and infinities.
            threshold: what values are compared with.
            name: a name for people; made from the rest if empty.
            severity: `info`, `warning` or `critical`.
            text: message template with `{metric}`, `{value}`, `{threshold}`, `{step}`, `{rank}`.
            context: only values of this phase; any if None.
            rank: only this rank; any if None.
            channels: notifier channels; all if empty.

        Example:
            >>> run.alert_on("loss", ">", 10.0, severity="critical")
        """
        metric = val.text_of(metric)
        wrong = _wrong_rule(operator, threshold, severity, rank)
        if wrong:
            # Told for each rule that differs: an alert that is missing is found out when it would have been needed.
            self._report(
                f"rule:{metric}:{val.shown(operator)}:{val.shown(threshold)}:{val.shown(severity)}:{val.shown(rank)}",
                f"rule on {metric!r} was not registered: {wrong}",
            )
            return ""
        kind = "non_finite" if operator == "non_finite" else "threshold"
        where = val.context_of(context)
        limit = None if threshold is None else val.number_of(threshold)
        shown = val.text_of(name) or (f"{metric} is not finite" if kind == "non_finite" else f"{metric} {operator} {limit:g}")
        to = [val.text_of(channel) for channel in ([channels] if isinstance(channels, str) else channels)]
        rule_id = ids.named_uuid("rule", self.id, metric, operator, repr(limit), where, str(rank), shown, severity, val.text_of(text), *to)
        payload = {
            "rule_id": rule_id,
            "version": 1,
            "time_ms": clock.time_ns() // 1_000_000,
            "name": shown,
            "kind": kind,
            "metric": metric,
            "run_id": self.id,
            "context": where,
            "rank": None if rank is None else val.step_of(rank),
            "operator": "" if kind == "non_finite" else operator,
            "threshold": limit,
            "severity": severity,
            "text": val.text_of(text),
            "channels": to,
        }
        self._rows.record(fmt.Kind.RULE, payload)
        return rule_id

    def change(self, **fields: Any) -> None:
        """Says something of the run: `name`, `owner`, `namespace`, `external_id`, `framework`, `task`, `notes`, `tags` or `metadata`; None says nothing."""
        said: dict[str, Any] = {}
        for key, value in fields.items():
            if value is None:
                continue
            if key in _RUN_TEXTS:
                said[key] = val.text_of(value)
            elif key == "tags" and isinstance(value, Iterable):
                said[key] = [val.text_of(tag) for tag in ([value] if isinstance(value, str) else cast("Iterable[Any]", value))]
            elif key == "metadata" and isinstance(value, Mapping):
                said[key] = json_values(cast("Mapping[Any, Any]", value))
            else:
                wanted = {"tags": "a list of texts", "metadata": "a mapping"}.get(key, f"one of {', '.join(sorted(_RUN_TEXTS))}, tags, metadata")
                self._report(f"run:{key}", f"{key!r} of the run was not recorded: expected {wanted}, got {val.told(value)}")
        self._rows.record(fmt.Kind.RUN, {"time_ms": clock.time_ns() // 1_000_000} | said)

    # ---- the account and the end -------------------------------------------------------------------------------------------------------

    @property
    def points_logged(self) -> int:
        """Metric values that this process has logged."""
        return self._rows.points

    @property
    def points_dropped(self) -> Mapping[str, int]:
        """Metric values that were given up, by reason."""
        return dict(self._rows.dropped)

    @property
    def rows_shipped(self) -> int:
        """Rows and records of this process that Kafka has acknowledged."""
        return self._read_ack().rows

    @property
    def points_shipped(self) -> int:
        """Metric values of this process that Kafka has acknowledged."""
        return self._read_ack().points

    @property
    def next_seq(self) -> int:
        """The seq of what this process logs next."""
        return self._rows.seq

    @property
    def alive(self) -> bool:
        """Whether it has not been finished in this process."""
        return self._finished is None

    def fail(self, reason: str) -> None:
        """Says that the run went wrong: `finish` will record it as failed, with the reason."""
        self.note(_ends.Ending("failed", val.text_of(reason)))

    def mark_preempted(self, reason: str = "") -> None:
        """Says that the run ends because its machine is taken away, whatever else is known of its end: `finish` will record it as preempted."""
        self._ending = _ends.Ending("preempted", val.text_of(reason) or (self._ending.reason if self._ending else ""))

    def note(self, ending: _ends.Ending) -> None:
        """Notes how the run ends; what was noted first holds, since what follows comes of it. Safe in signal handlers."""
        if self._ending is None:
            self._ending = ending

    def close_journal(self, deadline: float) -> None:
        """Ends the journal with what has been noted, once rows that wait for a device are read, at `deadline` at the latest; from here on nothing is recorded."""
        self._rows.wait_for_devices(deadline)
        ending = self._ending or _ends.FINISHED
        self.closing = True
        try:
            self._rows.close(ending.state, ending.reason)
        finally:
            self.closing = False
            while held_signals:
                os.kill(os.getpid(), held_signals.pop())

    def finish(self, timeout: float = 30.0) -> Finished:
        """Ends this process's part and waits, at most `timeout` seconds, until everything is acknowledged. Never raises; what is left is shipped by the agent, or
        by the next one on this node. Calling it again returns the same answer.
        """
        return self.finish_within(timeout)

    def finish_within(self, timeout: float, *, quiet: bool = False) -> Finished:
        """As `finish`; `quiet` says nothing of what is left."""
        if self._finished is not None:
            return self._finished
        deadline = clock.monotonic() + timeout
        self.close_journal(deadline)
        # A forked child that has logged nothing has nothing to wait for, and what its parent logged is its parent's.
        journal = self._journal if self._ack is not None else None
        rows = self._rows.seq
        try:
            while self._watch is not None and not self._read_ack().done and clock.monotonic() < deadline:
                self._watch.ensure(clock.monotonic())
                clock.sleep(min(_POLL_S, max(0.0, deadline - clock.monotonic())))
        finally:  # Also when Ctrl-C ends the waiting: then it is not begun again at exit.
            if self._watch is not None:
                self._watch.stop(deadline)
            ack = self._read_ack()
            done = ack.done or journal is None
            folder = None if journal is None else journal.folder.path
            trouble = "" if done or folder is None or self._watch is None else trouble_of(folder.parent)
            if self._journal is None and self._settings.mode != "disabled":
                trouble = "nothing was recorded, since no journal could be written"
            elif done and ack.rows_aside:
                trouble = f"{ack.rows_aside} rows were refused by Kafka for good and set aside beside the journals"
            self._finished = Finished(done and not trouble, 0 if done else max(0, rows - ack.next_seq), folder, trouble)
            _live.discard(self)
        if self._watch is not None and not done and not quiet:
            _log.warning(
                "runstream: %d rows were not shipped within %g s; they are kept in %s and shipped by the agent once Kafka answers%s",
                self._finished.rows_left,
                timeout,
                self._finished.folder,
                f". {self._finished.trouble}" if self._finished.trouble else "",
            )
        return self._finished

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.note(_ends.of_exception(error))
        self.finish()

    def _read_ack(self) -> fmt.Ack:
        return fmt.Ack() if self._ack is None else fmt.read_ack(self._ack[: 2 * fmt.ACK_SLOT_BYTES])

    def _after_fork(self) -> None:
        """In a forked child: acknowledgements, agent and end are the parent's until the child logs and so begins a journal of its own."""
        self._ack = self._watch = self._finished = None
        self._ending = None
        self._forked = True
        self._rows.after_fork()

    def begun_in_child(self) -> None:
        """A forked child has begun a journal of its own."""
        if self._journal is not None:
            self._follow(self._journal)


def live_runs() -> list[Run]:
    """Runs of this process that have not been finished."""
    return [run for run in _live if run._finished is None]


def _after_fork_in_child() -> None:
    for run in list(_live):
        run._after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _wrong_rule(operator: str, threshold: float | None, severity: str, rank: int | None) -> str:
    if operator != "non_finite" and operator not in _OPERATORS:
        return f"operator must be one of {' '.join(_OPERATORS)} or 'non_finite', got {val.shown(operator)}"
    if operator == "non_finite" and threshold is not None:
        return f"non_finite takes no threshold, got {val.shown(threshold)}"
    limit = val.number_of(threshold)
    if operator != "non_finite" and (limit is None or math.isnan(limit)):
        return f"threshold must be a number, got {val.shown(threshold)}"
    if severity not in ("info", "warning", "critical"):
        return f"severity must be info, warning or critical, got {val.shown(severity)}"
    if rank is not None and not 0 <= (-1 if (number := val.step_of(rank)) is None else number) < 1 << 31:
        return f"rank must be an integer from 0, got {val.shown(rank)}"
    return ""
