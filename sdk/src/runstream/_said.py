"""The calls of a run that write records: params, events, summary values, definitions, alerts at once, and what is said of the run itself.

Each checks what it was given, makes the payload and hands it to the journal; `_run` owns metrics, the account and the end.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from runstream import _checks, _clock, _installed, _records
from runstream._params import flatten
from runstream._summary import Summary
from runstream._timed import Timed
from runstream._types import Event, EventSource
from runstream_producers.journal import format as fmt
from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    import enum
    from collections.abc import Sequence

    from runstream._rows import Rows
    from runstream_schemas.records import Severity

_ECHO_CHARACTERS_MAX = 2000
SEVERITIES = ("info", "warning", "critical")


class Said(_checks.Reports):
    """What a run writes beside metrics. `_rows` is its journal, `_report` tells of bad input."""

    _rows: Rows
    _echoes = False  # Whether alerts are told here, since nobody else will before they are old.

    def _begin_words(self) -> None:
        self.summary = Summary(self._set_summary, self.tell)

    def tell(self, key: str, sentence: str) -> None:
        """Tells of bad input, once a kind; raises in strict mode."""
        self._report(key, sentence)

    @untraced
    @_checks.guarded(None)
    def log_params(self, params: Mapping[str, Any], *, context: str | enum.Enum | None = None) -> None:
        """Logs parameters: nested dicts flatten with `.`, and bool, int, float, string, None, lists and empty dicts keep their types. A later value of a key is a new version of it.

        Values that are secrets by their names or shapes are hidden (docs/sdk.md has the rule).

        Args:
            params: values by name, nested up to 32 deep.
            context: a phase that they hold in; none if None.

        Example:
            >>> run.log_params({"optimizer": {"name": "adam", "lr": 3e-4}, "layers": [64, 10]})
        """
        self.take_params("params of log_params", params, _checks.context_of("log_params", context, self._report))

    @untraced
    @_checks.guarded(None)
    def log_packages(self) -> None:
        """Records the packages that this process finds now as params `environment.*`, as the first rank's `init` does; for programs that install more on their way.

        Example:
            >>> run.log_packages()
        """
        self.take_params("packages", _installed.params(anew=True), own=True)

    @_checks.guarded(None, "log_params")
    def take_params(self, argument: str, params: Any, where: str = "", *, own: bool = False) -> None:
        """Logs params that were given as this argument of some call; names that are kept for what a run had installed are refused, unless it is our own."""
        if not isinstance(params, Mapping):
            self._report(argument, f"{argument} must be a mapping of names to values, got {val.told(params)}: nothing of it was recorded")
            return
        now_ms = _clock.now_ms()
        if not _checks.fits("log_params", "context", where, self._report):
            return
        taken, refused = flatten(cast("Mapping[Any, Any]", params), self._report, () if own or where else _installed.NAMES)
        for key, why in refused.items():
            self._report(f"param:{key}", f"param {val.shown(key)} was not logged: {why}")
        for key, kind, text in taken:
            self._rows.record(fmt.Kind.PARAM, {"time_ms": now_ms, "key": key, "context": where, "kind": kind, "value": text})

    @untraced
    @_checks.guarded("")
    def log_event(
        self, event: Event | str, *, metadata: Mapping[str, Any] | None = None, source: EventSource | str = "", step: int | None = None, subject: str = ""
    ) -> str:
        """Logs something that happened, given as an `Event` or by its name and the other arguments; returns its id, empty where it could not be recorded.

        Args:
            event: what happened.
            metadata: whatever JSON can hold.
            source: what says so.
            step: the step it belongs to, if any.
            subject: what it is about, such as `checkpoint/step-100`; the run itself if empty.

        Example:
            >>> event_id = run.log_event("checkpoint_started", metadata={"bytes": 1 << 30}, source="trainer")
        """
        if not isinstance(event, Event):
            event = Event(event, source=source, metadata={} if metadata is None else metadata, step=step, subject=subject)
        if not _checks.name_of("log_event", "event name", event.name, self._report):
            return ""
        payload = _records.event_of(event, _clock.now_s(), self._report)
        if not (
            _checks.fits("log_event", "source", payload["source"], self._report) and _checks.fits("log_event", "subject", payload["subject"], self._report)
        ):
            return ""
        return payload["event_id"] if self._rows.record(fmt.Kind.EVENT, payload) else ""

    def timed(self, name: str, *, source: EventSource | str = "", subject: str = "", step: int | None = None, **metadata: Any) -> Timed:
        """A block with an event at its beginning and one at its end: `NAME_started`, then `NAME_finished` or, if it raises, `NAME_failed`, with `seconds`.

        Args:
            name: what is done.
            source: what does it.
            subject: what it is done to, such as `checkpoint/step-100`.
            step: the step it belongs to, if any.
            metadata: more to say in both events; what is added to `metadata` of the block comes with the second.

        Example:
            >>> with run.timed("checkpoint", size=1024) as block:
            ...     block.metadata["path"] = "step-1.pt"
        """
        called = _checks.name_of("timed", "name", name, self._report)
        return Timed(self, called, source, subject, step, metadata)  # pyright: ignore[reportArgumentType]  # a Run in all but type

    @untraced
    @_checks.guarded(None)
    def define_metric(
        self, name: str, *, step_metric: str | None = None, goal: Literal["min", "max"] | None = None, unit: str | None = None, source: str | None = None
    ) -> None:
        """Says what a metric means; what is None is not spoken of.

        Args:
            name: the metric's name, or a pattern with `*` and `?`.
            step_metric: the metric that it is drawn over, instead of the step.
            goal: which way it should go.
            unit: the unit of its values.
            source: the library that its values come from.

        Example:
            >>> run.define_metric("val/*", step_metric="epoch", goal="min", unit="nat")
        """
        metric = _checks.name_of("define_metric", "name", name, self._report)
        if not metric or (goal is not None and not _checks.one_of("define_metric", "goal", goal, ("min", "max"), self._report)):
            return
        for role, said in (("step_metric", step_metric), ("goal", goal), ("unit", unit), ("source", source)):
            text = _checks.text_of("define_metric", role, said, self._report)
            if said is not None and _checks.fits("define_metric", role, text, self._report):
                self._rows.record(fmt.Kind.VALUE, _records.definition_of(metric, role, text, _clock.now_ms()))

    @_checks.guarded(False, "summary")
    def _set_summary(self, name: str, value: Any) -> bool:
        text = _checks.name_of("summary", "name", name, self._report)
        if not text:
            return False
        payload = _records.summary_of(text, value, _clock.now_ms(), self._report)
        return payload is not None and self._rows.record(fmt.Kind.VALUE, payload)

    @untraced
    @_checks.guarded("")
    def alert(
        self,
        title: str,
        text: str = "",
        level: Severity = "warning",
        *,
        step: int | None = None,
        subject: str = "",
        labels: Mapping[str, str] | None = None,
        channels: Sequence[str] = (),
    ) -> str:
        """Raises an alert at once, which notifies people as those of rules do; returns its id, empty where it could not be recorded. It fires and does not resolve.

        Args:
            title: what it is called.
            text: the message; the title if empty.
            level: `info`, `warning` or `critical`.
            step: the step it belongs to, if any.
            subject: what it is about; the run itself if empty.
            labels: labels by which it is routed.
            channels: notifier channels; all if empty.

        Example:
            >>> alert_id = run.alert("data looks odd", "labels of shard 7 are all zero", level="info")
        """
        title = _checks.name_of("alert", "title", title, self._report)
        level_of: Any = _checks.one_of("alert", "level", level, SEVERITIES, self._report)
        if not title or not level_of:
            return ""
        message = _checks.text_of("alert", "text", text, self._report)
        about = _checks.text_of("alert", "subject", subject, self._report)
        if not _checks.fits("alert", "subject", about, self._report):
            return ""
        payload = _records.alert_of(title, message or title, level_of, step, about, labels, channels, _clock.now_ms(), self._report)
        if not self._rows.record(fmt.Kind.ALERT, payload):
            return ""
        if self._echoes:
            told = message if len(message) <= _ECHO_CHARACTERS_MAX else f"{message[:_ECHO_CHARACTERS_MAX]}… ({len(message)} characters)"
            self._report(f"alert:{payload['alert_id']}", f"{level_of} alert: {title}" + (f": {told}" if told else ""), always=True)
        return payload["alert_id"]

    @untraced
    @_checks.guarded(None)
    def change(self, **fields: Any) -> None:
        """Says something of the run: `name`, `owner`, `namespace`, `external_id`, `framework`, `task`, `notes`, `tags`, `group`, `parent` or `metadata`; None says nothing.

        Example:
            >>> run.change(notes="the second try", tags=["baseline"])
        """
        self._rows.record(fmt.Kind.RUN, _records.change_of(fields, _clock.now_ms(), self._report))

    @_checks.guarded(cast("dt.datetime | None", None))
    def update_metadata(self, key: str, value: Any) -> dt.datetime | None:
        """Sets one key of the run's metadata, to whatever JSON can hold; returns when, by this process's clock, in UTC, and None where it could not be recorded.

        Example:
            >>> changed = run.update_metadata("dataset", {"name": "digits", "images": 1797})
        """
        now_ms = _clock.now_ms()
        name = _checks.name_of("update_metadata", "key", key, self._report)
        payload = _records.change_of({"metadata": {name: value}} if name else {}, now_ms, self._report)
        if "metadata" not in payload or not self._rows.record(fmt.Kind.RUN, payload):
            return None
        return dt.datetime.fromtimestamp(now_ms / 1000.0, dt.UTC)
