"""`runstream rules test FILE --run RUN`: a stored run through the rules' core, and what they would have said of it. Writes nothing."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.text import Text

from runstream_processors.alert_tables import moment, series
from runstream_processors.rule_tables import console, severity, table
from runstream_processors.run_store import VIEWS, RunStore
from runstream_rules import pattern
from runstream_rules.rehearsal import Rehearsal, doubts
from runstream_rules.words import condition
from runstream_schemas.clickhouse import SqlError
from runstream_schemas.settings import SettingsError, origin_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from runstream_processors.run_store import Stored, View
    from runstream_schemas.records import Alert, MetricFrame, Rule, Writer
    from runstream_schemas.settings import Settings

_LINE_INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True)
class Trial:
    """What rules would have said of a run. `notes` has by rule id what is to be known of its judgement; `points` is how many were judged."""

    run: Stored
    rules: Sequence[Rule]
    alerts: Sequence[Alert]
    notes: dict[str, str]
    points: int


def try_on_run(rules: Sequence[Rule], named: str, settings: Settings, *, limit: int, as_json: bool) -> int:
    """Judges and prints; returns the exit code. Raises SettingsError where ClickHouse does not answer, or no run or several are meant."""
    try:
        with _progress(quiet=as_json) as told:
            trial = judge(rules, named, RunStore(settings.clickhouse_url, settings.clickhouse_database), int(settings.crashed_after * 1000), told)
    except SqlError as error:
        if error.code == 0 and origin_of("clickhouse_url") == "default":
            raise SettingsError(f"RUNSTREAM_CLICKHOUSE_URL is unset and no stack runs here: set it, or start a stack with `runstream up` ({error})") from error
        raise SettingsError(str(error)) from error
    if as_json:
        sys.stdout.write(json.dumps(_object(trial)) + "\n")
    else:
        _print(trial, limit)
    return 0


def judge(rules: Sequence[Rule], named: str, store: RunStore, crashed_ms: int, told: Callable[[int, int], None]) -> Trial:
    """The rules on a stored run; `told` hears of points judged and of how many there are."""
    run = store.find(named)
    lives = store.lives(run)
    apply = [rule for rule in rules if rule.project in ("", run.project) and rule.run_id in ("", run.run_id)]
    rehearsal = Rehearsal(apply, run.run_id, run.project, int(time.time() * 1000))
    watched: dict[View, list[str]] = {view: _matching(apply, store.names(run, view)) for view in VIEWS}
    extents = [extent for view, names in watched.items() if names for extent in store.extents(run, view, names)]
    points, done = sum(extent.points for extent in extents), 0
    by_writer = {one.writer: one for one in lives}
    told(done, points)

    def counted(frames: Iterator[MetricFrame]) -> Iterator[MetricFrame]:
        nonlocal done
        for frame in frames:
            yield frame
            done += frame.points
            told(done, points)

    for extent in extents:
        rehearsal.writer(counted(store.frames(run, extent, watched[extent.view])), by_writer.get(extent.writer))
    rehearsal.conclude(lives, crashed_ms)
    every = [name for names in watched.values() for name in names]
    notes = {rule.rule_id: note for rule in rules if (note := _note(rule, run, every, lives))}
    notes |= {key[0]: f"broke and was switched off: {type(reason).__name__}: {reason}" for key, reason in rehearsal.failed.items()}
    return Trial(run, rules, rehearsal.alerts, notes, points)


def _matching(rules: Sequence[Rule], names: Sequence[str]) -> list[str]:
    patterns = [pattern(rule.metric) for rule in rules if rule.kind != "run_state"]
    return [name for name in names if any(one.fullmatch(name) for one in patterns)]


def _note(rule: Rule, run: Stored, names: Sequence[str], lives: Sequence[Writer]) -> str:
    if rule.project not in ("", run.project):
        return f"does not watch this run: it is for project {rule.project}, the run is of {run.project}"
    if rule.run_id not in ("", run.run_id):
        return f"does not watch this run: it is for run {rule.run_id}"
    if rule.kind != "run_state" and not any(pattern(rule.metric).fullmatch(name) for name in names):
        return f"found nothing to judge: the run has no metric named {rule.metric}"
    return doubts(rule, lives)


# ---- what is shown ---------------------------------------------------------------------------------------------------------------------


def _object(trial: Trial) -> dict[str, Any]:
    fired = Counter(alert.rule_id for alert in trial.alerts if alert.state == "firing")
    return {
        "run": {"run_id": trial.run.run_id, "project": trial.run.project, "name": trial.run.name},
        "points": trial.points,
        "rules": [
            {"id": rule.rule_id, "name": rule.name, "kind": rule.kind, "fired": fired[rule.rule_id], "note": trial.notes.get(rule.rule_id, "")}
            for rule in trial.rules
        ],
        "transitions": [
            {
                "rule": alert.rule_id,
                "state": alert.state,
                "severity": alert.severity,
                "time_ms": alert.time_ms,
                "step": alert.step,
                "metric": alert.metric,
                "context": alert.context,
                "subject": alert.subject,
                "rank": alert.rank,
                "writer": str(alert.writer),
                "seq": alert.seq,
                "value": alert.value if alert.value - alert.value == 0 else str(alert.value),
                "text": alert.text,
                "alert": alert.alert_id,
            }
            for alert in trial.alerts
        ],
    }


def _print(trial: Trial, limit: int) -> None:
    out = console()
    run = trial.run
    title = f"run {run.run_id} ({run.project}/{run.name})" if run.name else f"run {run.run_id} ({run.project})"
    out.print(Text(f"{title}: {trial.points:,} points judged, nothing was told to anybody", "bold"))
    fired_in_all = 0
    for rule in trial.rules:
        own = [alert for alert in trial.alerts if alert.rule_id == rule.rule_id]
        fired = sum(alert.state == "firing" for alert in own)
        fired_in_all += fired > 0
        out.print()
        times = "would not have fired" if not fired else f"would have fired {fired:,} {'time' if fired == 1 else 'times'}"
        out.print(Text.assemble((rule.name, "bold"), f" ({rule.kind}, {condition(rule)}) ", (times, "red" if fired else "green")))
        if note := trial.notes.get(rule.rule_id):
            out.print(Text(note, "dim"))
        if own:
            _episodes(own, limit)
    out.print()
    out.print(f"{len(trial.rules)} rules, {fired_in_all} would have fired")


def _episodes(alerts: Sequence[Alert], limit: int) -> None:
    out = console()
    made = table("fired", "step", "series", "value", "severity", "resolved", "text")
    ends = {alert.alert_id: alert for alert in alerts if alert.state == "resolved"}
    firing = [alert for alert in alerts if alert.state == "firing"]
    for alert in firing[:limit]:
        end = ends.get(alert.alert_id)
        until = Text("still fires", "red") if end is None else Text(f"{moment(end.time_ms)}, step {end.step}" if alert.metric else moment(end.time_ms))
        step = str(alert.step) if alert.metric else ""
        made.add_row(moment(alert.time_ms), step, Text(series(alert)), f"{alert.value:.6g}", severity(alert.severity), until, Text(alert.text))
    out.print(made)
    if len(firing) > limit:
        out.print(f"... and {len(firing) - limit:,} more: --limit {len(firing)} shows them, --json has all")


@contextmanager
def _progress(*, quiet: bool) -> Generator[Callable[[int, int], None]]:
    """Gives a function that shows progress on standard error: a bar on a terminal, else a line now and then."""
    err = console(stderr=True)
    if quiet:
        yield lambda _done, _all: None
    elif err.is_terminal:
        columns = (TextColumn("rules test"), BarColumn(), TaskProgressColumn(), TextColumn("{task.completed:,.0f} points"), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as bar:
            task = bar.add_task("rules test", total=None)
            yield lambda done, points: bar.update(task, completed=done, total=points or None)
    else:
        due = time.monotonic() + _LINE_INTERVAL_S

        def tell(done: int, points: int) -> None:
            nonlocal due
            if time.monotonic() >= due:
                due = time.monotonic() + _LINE_INTERVAL_S
                err.print(f"rules test: {done:,} of {points:,} points")

        yield tell
