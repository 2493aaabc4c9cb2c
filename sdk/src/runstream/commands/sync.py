"""Ships journals that no agent ships: of offline runs, and leftovers of jobs whose agent died with them.

runstream sync                 the offline folder of this user, and what an agent that is gone left behind
runstream sync DIR...          journals, folders of journals, or the root of all of them
runstream sync --dry-run       what would be shipped; nothing is changed
runstream sync --watch DIR     also follows writers that still run, and journals that come, until Ctrl-C

It may be interrupted at any moment and called again: it goes on where Kafka's last acknowledgement was. The exit code is 0 when nothing is left that could be shipped, 1 when
a journal could not be read, 2 when Kafka cannot be reached within `sync_timeout` seconds.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import signal
import socket
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from runstream._words import who
from runstream_schemas.settings import Settings, SettingsError, load

if TYPE_CHECKING:
    import argparse

    from runstream_producers.errors import SyncError
    from runstream_producers.sync import Progress, Result
    from runstream_producers.sync_plan import Plan

SUMMARY = "ship offline runs and leftovers to Kafka"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("folders", nargs="*", type=Path, metavar="DIR", help="a writer's journal, a folder of journals, or the journal root")
    parser.add_argument("--watch", action="store_true", help="follow writers that still run, and new journals, until Ctrl-C")
    parser.add_argument("--dry-run", action="store_true", help="say what would be shipped, and change nothing")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end instead of lines")


def run(args: argparse.Namespace) -> int:
    """Ships; see the module's words for the exit code.

    Raises:
        SettingsError: a folder is not there, or Kafka cannot be reached.
    """
    from runstream_producers.errors import ProducersError
    from runstream_producers.sync_plan import plan

    settings = load()
    try:
        todo = plan(args.folders, settings, watch=args.watch)
        return _tell_plan(todo, as_json=args.json) if args.dry_run else _ship(todo, settings, args)
    except ProducersError as error:
        raise SettingsError(str(error)) from error


def _ship(todo: Plan, settings: Settings, args: argparse.Namespace) -> int:
    from runstream_producers import claims
    from runstream_producers.errors import SyncError
    from runstream_producers.kafka import Sender, producer_options
    from runstream_producers.sync import Sync

    # What goes wrong with Kafka is said once at the end, and what becomes of each journal in its line.
    logging.getLogger("runstream_producers").addHandler(logging.NullHandler())
    for base in todo.bases:
        claims.sweep(base)
    if not args.json:
        for skip in todo.skips:
            sys.stderr.write(f"skipped {skip.folder}: {skip.why}\n")
    report = _Report(as_json=args.json)
    failure: SyncError | None = None
    results: list[Result] = []
    interrupted = False
    if todo.journals or args.watch:
        options = producer_options(settings, f"runstream-sync-{socket.gethostname()}")
        work = Sync(todo, settings, Sender(options), watch=args.watch, another=lambda: Sender(options))
        results = work.results

        def stop(_number: int, _frame: object) -> None:
            work.stopping = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            work.run(lambda progress: report.told(progress, results))
        except SyncError as error:
            failure = error
        finally:
            work.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        interrupted = work.stopping
    report.end(results, todo, failure)
    if failure is not None:
        raise failure
    if interrupted and not args.watch:
        return 130
    return int(any(one.outcome == "left" for one in results))


class _Report:
    """What a person sees: a line for each journal that is done, and a bar where standard error is a terminal."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._bar = sys.stderr.isatty() and not as_json
        self._said = 0

    def told(self, progress: Progress, results: list[Result]) -> None:
        """Draws how far it is."""
        if self._as_json:
            return
        self._clear()
        for one in results[self._said :]:
            sys.stdout.write(_line(one) + "\n")
        self._said = len(results)
        sys.stdout.flush()
        if self._bar:
            share = progress.rows_done / progress.rows if progress.rows else 1.0
            width = 30
            full = round(share * width)
            sys.stderr.write(
                f"[{'#' * full}{'.' * (width - full)}] {share:4.0%}  {progress.rows_done:,} of {progress.rows:,} rows, "
                f"{progress.journals_done} of {progress.journals} journals"
            )
            sys.stderr.flush()

    def _clear(self) -> None:
        if self._bar:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def end(self, results: list[Result], todo: Plan, failure: Exception | None) -> None:
        """Says what became of everything."""
        if self._as_json:
            journals = [{**asdict(one), "folder": str(one.folder)} for one in results]
            skipped = [{"folder": str(one.folder), "why": one.why} for one in todo.skips]
            sys.stdout.write(json.dumps({"journals": journals, "skipped": skipped, "failure": None if failure is None else str(failure)}) + "\n")
            return
        self._clear()
        for one in results[self._said :]:
            sys.stdout.write(_line(one) + "\n")
        if not results and failure is None:
            sys.stdout.write("nothing to ship\n")
            return
        shipped = [one for one in results if one.outcome == "shipped"]
        rows, points = sum(one.rows for one in shipped), sum(one.points for one in shipped)
        left = sum(one.outcome == "left" for one in results)
        sys.stdout.write(f"{len(shipped)} journals shipped with {rows:,} rows and {points:,} points, {left} left\n")


def _line(one: Result) -> str:
    who = f"run {one.run_id} rank {one.rank} ({one.state}), {one.rows:,} rows, {one.points:,} points" if one.run_id else str(one.folder)
    return f"{one.outcome} {who}" + (f": {one.note}" if one.note else "")


def _tell_plan(todo: Plan, *, as_json: bool) -> int:
    """Says what would be shipped."""
    from runstream_producers.journal import survey

    found: list[dict[str, object]] = []
    wrong: list[dict[str, object]] = []
    for folder in todo.journals:
        try:
            journal = survey.open_journal(folder)
        except (OSError, ValueError, TypeError) as error:
            wrong.append({"folder": str(folder), "why": f"cannot be read: {error}"})
            continue
        extent, one = survey.extent_of(journal), journal.identity
        found.append(
            {
                "folder": str(folder),
                "run_id": one.run_id,
                "project": one.project,
                "writer": one.writer,
                "kind": one.kind,
                "rank": one.rank,
                "state": journal.state,
                "rows": extent.rows_waiting,
                "points": extent.points - journal.ack.points - journal.ack.points_aside,
                "bytes": extent.bytes_waiting,
                "first": extent.first_s,
                "last": extent.last_s,
            }
        )
    skipped = [{"folder": str(one.folder), "why": one.why} for one in todo.skips]
    if as_json:
        sys.stdout.write(json.dumps({"would_ship": found, "cannot_read": wrong, "skipped": skipped}) + "\n")
        return int(bool(wrong))
    for one in found:
        what = f"run {one['run_id']} ({one['project']}) {who(str(one['kind']), int(str(one['rank'])))}, {one['state']}: {one['rows']:,} rows, {one['points']:,} points"
        sys.stdout.write(f"would ship {what}, {one['bytes']:,} bytes, {_span(one['first'], one['last'])}\n")
    for one in (*wrong, *skipped):
        sys.stdout.write(f"would skip {one['folder']}: {one['why']}\n")
    runs = len({one["run_id"] for one in found})
    totals = {name: sum(int(str(one[name])) for one in found) for name in ("rows", "points", "bytes")}
    sys.stdout.write(f"{runs} runs, {len(found)} writers, {totals['rows']:,} rows, {totals['points']:,} points, {totals['bytes']:,} bytes\n")
    return int(bool(wrong))


def _span(first: object, last: object) -> str:
    def shown(seconds: object) -> str:
        return dt.datetime.fromtimestamp(float(str(seconds)), tz=dt.UTC).strftime("%Y-%m-%d %H:%M:%S") if seconds else "?"

    return f"{shown(first)} to {shown(last)} UTC"
