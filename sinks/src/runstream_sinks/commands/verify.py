"""Compares the tables with what the topics hold, or with another database: counts and checksums of every run, then row by row where those differ.

runstream verify                          all tables against all topics
runstream verify --topic metric --run RUN
runstream verify --from shadow            the live tables against a database that `replay --into shadow` fills

The topics are read into a scratch database beside the live one, which needs about the room of what they hold and is removed at the end. It is right while writes go on: what
the sinks have not stored yet is not compared. Rows that are older than what the topics still hold are counted as not covered. The exit code is 0 when nothing differs, 1 when something
does or the comparison could not be made, 130 when it was asked to stop.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from runstream_schemas.settings import load
from runstream_sinks.commands.replay import run_id

if TYPE_CHECKING:
    import argparse

    from runstream_sinks.verify import Report, RunDifference, TableReport

SUMMARY = "compare the tables with what topics hold"
RUNS_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--from", dest="against", default="topics", metavar="topics|DATABASE", help="what to compare with; topics unless given")
    parser.add_argument("--topic", action="append", default=[], dest="topics", metavar="TOPIC", help="only this topic's table; more than once for several")
    parser.add_argument("--run", action="append", default=[], dest="runs", metavar="RUN", help="only this run; more than once for several")
    parser.add_argument("--json", action="store_true", help="one JSON object, and no progress")


def run(args: argparse.Namespace) -> int:
    """Verifies; see the module's words for the exit code."""
    from runstream_sinks.errors import SinksError
    from runstream_sinks.fill import Caller
    from runstream_sinks.log import to_stderr
    from runstream_sinks.progress import shown, until_asked
    from runstream_sinks.replay import Stopped
    from runstream_sinks.spans import parse_topics
    from runstream_sinks.verify import verify

    settings = load()
    names = parse_topics("--topic", args.topics, settings.topic_prefix)
    runs = frozenset(run_id(one) for one in args.runs)
    against = None if args.against == "topics" else load({"clickhouse_database": args.against}).clickhouse_database
    with until_asked() as asked, shown("verify", quiet=args.json) as told:
        to_stderr(settings.log_format)
        try:
            report = verify(settings, names, runs, against, Caller(asked, told))
        except SinksError as error:
            sys.stderr.write(f"runstream verify: {error}\n")
            return 130 if isinstance(error, Stopped) else 1
    sys.stdout.write(as_json(report) + "\n" if args.json else as_text(report))
    return 0 if report.equal else 1


def as_json(report: Report) -> str:
    """The report as one object."""
    return json.dumps(
        {
            "equal": report.equal,
            "from": report.there,
            "behind": report.behind,
            "malformed": report.malformed,
            "seconds": round(report.seconds, 3),
            "tables": [{"equal": one.equal, **asdict(one)} for one in report.tables],
        }
    )


def as_text(report: Report) -> str:
    """The report for people: a line a table, and a few lines for what differs."""
    lines: list[str] = []
    for table in report.tables:
        lines += _table(table, report.there)
    if report.behind:
        lines.append(f"the sinks have {report.behind:,} records still to store, which were not compared")
    if report.malformed:
        lines.append(f"{report.malformed:,} malformed records have no rows: runstream dlq ls")
    lines.append("equal" if report.equal else "not equal")
    return "".join(f"{line}\n" for line in lines)


def _table(table: TableReport, there: str) -> list[str]:
    old = f", {table.not_covered:,} older rows not covered" if table.not_covered else ""
    lines = [f"{table.table}: {table.rows:,} rows, {table.rows_there:,} from {there}, {table.runs:,} runs, {len(table.differing):,} differ{old}"]
    for one in table.differing[:RUNS_SHOWN]:
        lines += _run(one, table)
    if len(table.differing) > RUNS_SHOWN:
        lines.append(f"  ... and {len(table.differing) - RUNS_SHOWN:,} more runs: --json has them all")
    return lines


def _run(one: RunDifference, table: TableReport) -> list[str]:
    name = f"run {one.run}" if one.run else "rows of no run"
    lines = [f"  {name}: {one.rows:,} rows here, {one.rows_there:,} there; {one.missing:,} missing here, {one.extra:,} that only the table has"]
    columns = ", ".join(table.key)
    lines += [f"    missing ({columns}) = {key}" for key in one.missing_keys]
    lines += [f"    only here ({columns}) = {key}" for key in one.extra_keys]
    return lines
