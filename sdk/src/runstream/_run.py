"""`Run`: what training code holds in its hands, from `init` to `finish`.

Every call writes into the journal of this process and returns; the node agent ships. Nothing here raises for reasons of transport, and bad input is one warning a kind
(an error in strict mode).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from runstream import _checks, _clock, _ends, _existed, _live
from runstream._alerts import rule_of
from runstream._finish import TIMEOUT_S, Finishing
from runstream._model_calls import ModelCalls
from runstream._rows import NoRows
from runstream_producers.journal import format as fmt
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    import datetime as dt
    import enum
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from runstream._alerts import Condition
    from runstream._echo import Echo
    from runstream._rows import Reporter, Rows
    from runstream._types import Finished
    from runstream.read import StoredEvent
    from runstream_producers.journal.writer import JournalWriter
    from runstream_schemas.records import Operator, Severity
    from runstream_schemas.settings import Settings


class Run(ModelCalls, Finishing):
    """One process's part in a run. Made by `runstream.init`; usable as a context manager, which finishes it.

    Attributes:
        id: UUID of the run, shared by all its ranks.
        project: the project it belongs to.
        rank: this process's global rank.
        summary: values that say how it came out, to be set by name.
    """

    def __init__(self, run_id: str, project: str, rank: int, settings: Settings, rows: JournalWriter | None, report: Reporter) -> None:
        self.id = run_id
        self.project = project
        self.rank = rank
        self._settings = settings
        self._journal = rows
        self._rows: Rows = rows or NoRows()
        self._report: Reporter = report
        self._existed: bool | Literal["unasked"] | None = "unasked"
        self._started = False
        self._echoes = settings.mode == "offline"
        self._echo: Echo | None = None
        self._begin_words()
        self._begin_end()
        # Bound once: a call through one more layer would cost a fifth of the whole.
        self.__dict__["log"] = self._rows.log
        _live.hold(self)

    # ---- logging -----------------------------------------------------------------------------------------------------------------------

    @untraced
    def log(
        self,
        data: Mapping[str, Any],
        step: int | None = None,
        *,
        time: float | dt.datetime | None = None,
        context: str | enum.Enum | None = None,
        subject: str = "",
        source: str | None = None,
    ) -> None:
        """Logs metric values; returns in about a microsecond, without network or disk flush, and survives the death of the process.

        Args:
            data: values by name. A value is a number (Python's, numpy's, or a tensor of one element), which is kept as a double with NaN and infinities; or a text, bytes, or an array
                or tensor of several elements in the host's memory, which keeps its dtype and shape and costs a record of its own. Nested dicts flatten with `/`.
                Anything else is refused for its name with one warning, and the rest is kept.
            step: any integer in any order; without it a counter of this process and context is used.
            time: epoch seconds or a datetime, which is local time where it names no zone; now if None.
            context: a phase, such as `Context.VALIDATION` or `"validation"`.
            subject: what the values are about, such as `model/bert/3`; the run itself if empty.
            source: the library they come from; where omitted, the framework that calls, or the library whose numbers they are, looked at when a name is first met.
                Calls that name one take some 10 times as long: `define_metric(name, source=...)` says it once.

        Example:
            >>> run.log({"loss": 0.31, "lr": 1e-3}, step=10)
        """
        self._rows.log(data, step, time=time, context=context, subject=subject, source=source)

    @untraced
    @_checks.guarded("")
    def alert_on(
        self,
        metric: str,
        condition: Operator | Literal["non_finite"] | Condition,
        threshold: float | None = None,
        *,
        clear: float | None = None,
        for_s: float | str = 0.0,
        cooldown_s: float | str = 0.0,
        name: str = "",
        severity: Severity = "warning",
        text: str = "",
        context: str | enum.Enum | None = None,
        rank: int | None = None,
        channels: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
    ) -> str:
        """Registers an alert rule for this run, on all its ranks, from the next row on; returns the rule's id, the same from every rank that registers it.

        Args:
            metric: a metric's name, or a pattern with `*` and `?`.
            condition: `<`, `<=`, `>`, `>=`, `==` or `!=` with a threshold, `non_finite` for NaN and infinities, or a `Condition` for every other kind.
            threshold: what values are compared with.
            clear: the bound at which it resolves; the threshold if None.
            for_s: how long the condition must hold, in seconds or as a text such as `"30s"`.
            cooldown_s: how long it does not fire again for one series, as `for_s`.
            name: a name for people; made from the rest if empty.
            severity: `info`, `warning` or `critical`.
            text: message template with `{metric}`, `{value}`, `{threshold}`, `{step}`, `{rank}` and others (docs/rules.md).
            context: only values of this phase; any if None.
            rank: only this rank; any if None.
            channels: notifier channels; all if empty.
            labels: names with texts that its alerts carry.

        Example:
            >>> rule_id = run.alert_on("loss", ">", 10.0, severity="critical")
        """
        payload = rule_of(
            self.id,
            metric,
            condition,
            threshold,
            clear=clear,
            for_s=for_s,
            cooldown_s=cooldown_s,
            name=name,
            severity=severity,
            text=text,
            context=context,
            rank=rank,
            channels=channels,
            labels=labels,
            now_ms=_clock.now_ms(),
            report=self._report,
        )
        if payload is None:
            return ""
        if not self._rows.record(fmt.Kind.RULE, payload):
            return ""
        if self._echoes:
            self._echo_rule(payload)
        return payload["rule_id"]

    def _echo_rule(self, rule: Mapping[str, Any]) -> None:
        """Has what is logged from here on held against a rule, if it is of a kind that can be judged here."""
        from runstream._echo import Echo

        echo = self._echo or Echo(self._rows, self.rank, self._report)
        if echo.watch(rule):
            self._echo = echo
            self.__dict__["log"] = echo.log

    # ---- its place among runs ----------------------------------------------------------------------------------------------------------

    def child(self, name: str, *, config: Mapping[str, Any] | None = None, **said: Any) -> Run:
        """Begins a run that is a part of this one, such as a fold or a trial; every rank that asks for the same name joins the same one. Module-level calls stay with the run they had.

        Args:
            name: its name, and with the parent's id what it is known by.
            config: logged as its params.
            said: what else `change` takes, such as `tags` or `notes`.

        Example:
            >>> with run.child("fold-1", config={"fold": 1}) as fold:
            ...     fold.log({"accuracy": 0.9}, step=1)
        """
        from runstream._init import begin_child

        return begin_child(self, self._settings, self._report, name, config, said)

    @property
    def url(self) -> str:
        """The page of the run in the console that setting `console_url` names; empty where none is set."""
        base = self._settings.console_url
        return f"{base.rstrip('/')}/runs/{self.id}" if base else ""

    @property
    def existed(self) -> bool | None:
        """Whether an earlier start of this rank belongs to the run, as far as ClickHouse has heard; None where nobody can be asked (offline, no address, no answer).

        Asks once, when first read, and waits 2 s for an answer at most.
        """
        if self._existed == "unasked":
            identity = None if self._journal is None else self._journal.identity
            self._existed = _existed.ask(self._settings, identity)
        return self._existed

    def start(self) -> Run:
        """Says that work begins, by an event `run_started`, once; returns the run. For those who `register` a run before they start it; `init` needs no start.

        Example:
            >>> run.start() is run
            True
        """
        if not self._started:
            self._started = True
            self.log_event("run_started", source="runstream")
        return self

    def stop(self, timeout: float = TIMEOUT_S) -> Finished:
        """Ends this process's part, as `finish` does."""
        return self.finish(timeout)

    def events(self, name: str | None = None) -> list[StoredEvent]:
        """Events of the run, of all its ranks, as ClickHouse has them by now; of this name, if one is given. Blocks for a query.

        Raises:
            runstream.read.ReadError: no ClickHouse is named or answers.
        """
        from runstream import read

        return read.events(self.id, name=name, url=_existed.address_of(self._settings), database=self._settings.clickhouse_database)

    # ---- as a value of Python's --------------------------------------------------------------------------------------------------------

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self.note(_ends.of_exception(error))
        self.finish()

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process, as a part of a data set or a closure, it becomes that process's own part in the run; a finished one records nothing there."""
        from runstream._init import rejoin

        mode = self._settings.mode if self.alive else "disabled"
        return rejoin, (self.id, self.project, {"mode": mode, "strict": self._settings.strict, "kafka": self._settings.kafka})

    def __copy__(self) -> Run:
        return self

    def __deepcopy__(self, memo: object) -> Run:
        """A model that holds its run may be copied; the run is one in a process all the same."""
        return self
