"""The local echo of alert rules: offline, where no processor sees a row before it is old, what this process logs is held against its own rules, and a warning says what fires.

Rules of kinds `threshold` and `non_finite` are echoed; the others look at windows, other ranks or the silence of a run, and are judged once the journals are synced, as these are, too.
An echo is no alert: it has no id, is not stored, and goes by rows in the order of their logging.
"""

from __future__ import annotations

import math
import operator
import time as clock
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runstream_producers.journal import values as val
from runstream_producers.journal.compilers import untraced
from runstream_producers.journal.devices import reader_of
from runstream_schemas.patterns import pattern

if TYPE_CHECKING:
    import enum
    from collections.abc import Callable, Mapping

    from runstream._rows import Reporter, Rows

KINDS = ("threshold", "non_finite")
_RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(slots=True)
class _Episode:
    """What is known of one series under one rule."""

    since_s: float | None = None  # When the condition began to hold.
    firing: bool = False


@dataclass(slots=True)
class Watch:
    """One rule, held against the values of this process."""

    rule: Mapping[str, Any]
    _matching: dict[str, bool] = field(default_factory=dict[str, bool])
    _episodes: dict[tuple[str, str, str], _Episode] = field(default_factory=dict[tuple[str, str, str], _Episode])

    def looks_at(self, name: str) -> bool:
        """Whether the rule is about a metric of this name."""
        if name not in self._matching:
            self._matching[name] = pattern(self.rule["metric"]).fullmatch(name) is not None
        return self._matching[name]

    def take(self, series: tuple[str, str, str], value: float, now_s: float) -> str:
        """What a value means for a series: `firing`, `resolved`, or nothing new, which is empty."""
        rule, before = self.rule, self._episodes.setdefault(series, _Episode())
        if rule["kind"] == "non_finite":
            holds = stays = not math.isfinite(value)
        elif math.isnan(value):
            return ""  # It stands in no relation.
        else:
            relation, clear = _RELATIONS[rule["operator"]], rule.get("clear")
            holds = relation(value, rule["threshold"])
            stays = holds or (clear is not None and relation(value, clear))
        if before.firing:
            if stays:
                return ""
            self._episodes[series] = _Episode()
            return "resolved"
        if not stays:
            before.since_s = None
        elif holds and before.since_s is None:
            before.since_s = now_s
        if before.since_s is None or now_s - before.since_s < rule.get("for_s", 0.0):
            return ""
        before.firing = True
        return "firing"


class Echo:
    """Logs as the rows do, and then holds what was logged against the rules."""

    def __init__(self, rows: Rows, rank: int, report: Reporter) -> None:
        self._rows = rows
        self._rank = rank
        self._report = report
        self._watches: dict[str, Watch] = {}
        self._told = 0

    def watch(self, rule: Mapping[str, Any]) -> bool:
        """Takes a rule; whether it is one that is echoed here."""
        if rule["kind"] not in KINDS or rule.get("rank", self._rank) != self._rank:
            return False
        self._watches.setdefault(rule["rule_id"], Watch(rule))
        return True

    @untraced
    def log(self, data: Mapping[str, Any], step: int | None = None, *, context: str | enum.Enum | None = None, subject: str = "", **others: Any) -> None:
        """`Run.log`, and what its values come to."""
        self._rows.log(data, step, context=context, subject=subject, **others)
        try:
            self._hold(data, step, val.context_of(context), val.text_of(subject))
        except Exception as error:
            # The mapping is the user's and may raise anything; the row is in the journal, and an echo is no reason to end a training.
            if val.from_signal(error):
                raise

    def _hold(self, data: Mapping[str, Any], step: int | None, context: str, subject: str) -> None:
        numbers, _, waiting, _, _ = val.flatten(data, reader_of)
        now_s = clock.monotonic()
        for name, value in numbers.items():
            if name in waiting:
                continue  # A tensor on a device is not waited for.
            for watch in self._watches.values():
                if watch.rule.get("context", "") in ("", context) and watch.looks_at(name) and (said := watch.take((name, context, subject), value, now_s)):
                    self._tell(watch.rule, said, name, value, step)

    def _tell(self, rule: Mapping[str, Any], said: str, name: str, value: float, step: int | None) -> None:
        self._told += 1
        at = "" if step is None else f" at step {step}"
        severity = rule.get("severity", "warning")
        self._report(
            f"echo:{self._told}", f"{severity} alert {said}: {rule['name']} ({name} is {value:g}{at}); judged here, since this run is offline", always=True
        )
