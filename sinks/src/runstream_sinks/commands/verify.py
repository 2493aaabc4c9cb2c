"""Compares the tables with what the topics hold, or with another database: counts and checksums of every run, then row by row where those differ.

runstream verify                          all tables against all topics
runstream verify --topic metric --run RUN
runstream verify --from shadow            the live tables against a database that `replay --into shadow` fills
runstream verify --summaries [--run RUN]  the summaries of series against the points in the tables

The topics are read into a scratch database beside the live one, which needs about the room of what they hold and is removed at the end. It is right while writes go on: what
the sinks have not stored yet is not compared. Rows that are older than what the topics still hold are counted as not covered. The exit code is 0 when nothing differs, 1 when something
does or the comparison could not be made, 130 when it was asked to stop.

--summaries reads no topics. Every summary is computed anew from the points: count, non-finite count, least and greatest with their steps, mean, variance, sum, first and last with
their steps and times. Sum, mean and variance may differ by 1e-9 of the greatest value's size (a sum: of that times the count), since a database sums in another order; all else must be
equal. A series of which the processors have not summed up the newest points yet is told as behind and not compared; the exit code is 1 where that is true of all of them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load
from runstream_sinks.commands.replay import run_id

if TYPE_CHECKING:
    import argparse

    from runstream_schemas.settings import Settings
    from runstream_sinks.verify import Report, RunDifference, TableReport
    from runstream_sinks.verify_summaries import RunSummaries, SummaryReport

SUMMARY = "compare the tables with what topics hold"
RUNS_SHOWN = 10


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--from", dest="against", default="topics", metavar="topics|DATABASE", help="what to compare with; topics unless given")
    parser.add_argument("--topic", action="append", default=[], dest="topics", metavar="TOPIC", help="only this topic's table; more than once for several")
    parser.add_argument("--run", action="append", default=[], dest="runs", metavar="RUN", help="only this run; more than once for several")
    parser.add_argument("--summaries", action="store_true", help="compare the summaries with the stored points, within 1e-9 where values are summed up")
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
    if args.summaries:
        return _summaries(args, settings)
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


def _summaries(args: argparse.Namespace, settings: Settings) -> int:
    from runstream_sinks.clickhouse import Server
    from runstream_sinks.errors import SinksError
    from runstream_sinks.log import to_stderr
    from runstream_sinks.progress import until_asked
    from runstream_sinks.replay import Stopped
    from runstream_sinks.verify import QUERY_TIMEOUT_S
    from runstream_sinks.verify_summaries import verify_summaries

    if args.topics or args.against != "topics":
        raise SettingsError("--summaries compares with the points of the live tables: expected it without --topic and --from")
    runs = frozenset(run_id(one) for one in args.runs)
    server = Server(settings.clickhouse_url, settings.clickhouse_database, timeout_s=QUERY_TIMEOUT_S)
    with until_asked() as asked:
        to_stderr(settings.log_format)
        try:
            report = verify_summaries(server, runs, stopped=asked)
        except SinksError as error:
            sys.stderr.write(f"runstream verify: {error}\n")
            return 130 if isinstance(error, Stopped) else 1
        finally:
            server.close()
    sys.stdout.write(json.dumps(report.as_object()) + "\n" if args.json else summaries_text(report))
    return 0 if report.equal else 1


def summaries_text(report: SummaryReport) -> str:
    """What was found of summaries, for people: what differs or could not be compared by run, and the whole in a line."""
    lines = [line for one in report.runs for line in _run_summaries(one)]
    series, compared = sum(one.series for one in report.runs), sum(one.compared for one in report.runs)
    lines.append(f"{len(report.runs):,} runs, {series:,} series, {compared:,} compared, {sum(one.differing for one in report.runs):,} differ")
    if series and not compared:
        lines.append("no summary could be compared: do processors run?")
    lines.append("equal" if report.equal else "not equal")
    return "".join(f"{line}\n" for line in lines)


def _run_summaries(one: RunSummaries) -> list[str]:
    lines: list[str] = []
    if one.behind:
        lines.append(f"run {one.run}: the processors have not caught up with {one.behind:,} of {one.series:,} series, which were not compared")
    if one.without_points:
        lines.append(f"run {one.run}: {one.without_points:,} summaries have no points any more")
    for difference in one.differences[:RUNS_SHOWN]:
        at = difference.series
        of = f"{at.name} ({at.context})" if at.context else at.name
        told = "; ".join(f"{name} is {value}, points give {difference.computed[name]}" for name, value in difference.stored.items())
        lines.append(f"run {one.run}: {of}{f' of {at.subject}' if at.subject else ''}, rank {at.rank}, writer {at.writer}: {told or 'has no summary'}")
    if one.differing > RUNS_SHOWN:
        lines.append(f"run {one.run}: ... and {one.differing - min(RUNS_SHOWN, len(one.differences)):,} more: --json has {len(one.differences):,}")
    return lines


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
