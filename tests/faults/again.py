"""Asks once more, when a stage ends, of all runs that it has served: what was right when a run was judged must be so still, and nothing else may have come. Counts and checksums are kept."""

from __future__ import annotations

import time
from dataclasses import dataclass

from tests.answers import Answers
from tests.faults import known
from tests.faults.findings import Findings

# Before it, so that the last run has had a while in which something might still come.
QUIET_S = 2.0
# By view what of its rows stays for ever. Latencies do not belong to it, nor rows that may come behind a judgement: readings' summaries, events of others.
_ROWS = {
    "metrics": ("*", ""),
    "hardware": ("*", ""),
    "events": ("*", "AND name = 'stopped'"),
    "params_history": ("*", ""),
    "rules": ("*", ""),
    "alerts": ("alert_id, rule_id, rule, state, severity, writer, seq, step, value, threshold, text, fired, resolved, resolved_step, resolved_value", ""),
    "summaries": ("*", f"AND name IN {known.METRICS}"),
    "writers": ("writer, kind, rank, state, rows_logged, points_logged, points_dropped, points_shipped", ""),
    "runs": ("project, name, state, points", ""),
}
_STRANGE = ("metrics", "events", "params_history", "alerts", "summaries", "writers")


@dataclass(frozen=True, slots=True)
class Kept:
    """What the views said of a run when it was judged: rows and checksum."""

    run_id: str
    said: dict[str, tuple[int, int]]


def keep(answers: Answers, run_id: str) -> Kept:
    """What the views say of a run now."""
    return Kept(run_id, {view: _ask(answers, view, run_id) for view in _ROWS})


def judge_again(answers: Answers, kept: Kept) -> Findings:
    """What has changed of a run since."""
    found = Findings()
    for view, (count, checksum) in kept.said.items():
        now, is_now = _ask(answers, view, kept.run_id)
        more = found.blame(max(0, now - count), f"{view} had {count} rows of the run when it was judged, and has {now} at the end of the stage")
        if view == "alerts":
            found.alerts_twice += more
        else:
            found.doubled += more
        found.lost += found.blame(max(0, count - now), f"{view} had {count} rows of the run when it was judged, and has {now} at the end of the stage")
        if now == count:
            found.wrong += found.blame(int(is_now != checksum), f"{view} has other rows of the run at the end of the stage than when it was judged")
    return found


def judge_strangers(answers: Answers, known_runs: list[str]) -> Findings:
    """What is there of runs that nobody began."""
    found = Findings()
    for view in _STRANGE:
        row = answers.rows(f"SELECT count() AS n FROM {view} WHERE toString(run_id) NOT IN {{runs:Array(String)}}", runs=known_runs)[0]
        found.invented += found.blame(row["n"], f"{view} has {row['n']} rows of runs that nobody began")
    return found


def quiet() -> None:
    """Waits a while, since what must not come would come without a sign."""
    time.sleep(QUIET_S)


def _ask(answers: Answers, view: str, run_id: str) -> tuple[int, int]:
    columns, more = _ROWS[view]
    # The text of a row, since a checksum of columns is null where one of them is.
    row = answers.rows(
        f"SELECT count() AS n, sum(cityHash64(toString(tuple({columns})))) AS c FROM {view} WHERE toString(run_id) = {{run:String}} {more}"
        if view == "rules"
        else f"SELECT count() AS n, sum(cityHash64({'*' if view == 'metrics' else f'toString(tuple({columns}))'})) AS c FROM {view} WHERE run_id = {{run:UUID}} {more}",
        run=run_id,
    )[0]
    return int(row["n"]), int(row["c"])
