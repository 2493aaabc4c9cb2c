"""Reads topics again and stores what is in them: into the live tables, where rows collapse with what is there, or into another database.

runstream replay --topic metric --from 2h              the metrics of the last two hours, again
runstream replay --topic metric --from 120000 --to 130000
runstream replay --run RUN                             everything that the topics hold of a run
runstream replay --into shadow                         all topics into another database; again to catch up
runstream replay --into shadow --follow                ... and go on with what comes, until Ctrl-C
runstream replay --from-archive s3://bucket/folder     what `runstream archive` has kept, for history older than Kafka keeps

It may be killed at any moment and called again with the same arguments: it goes on where everything was stored. Once it is done, the same command begins anew. The exit code is 0 when all
is stored, 1 when it could not be, with the reason, 130 when it was asked to stop before. Malformed records are counted; the sinks set them aside when they came (`runstream dlq`).

At the end it waits (--settle, 60 s at most) until ClickHouse has merged what was stored: until then the rows of a replay stand beside those that were there, and charts of their runs take
twice as long. Nothing depends on it: Ctrl-C ends the wait, and all is stored.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import uuid
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_schemas.settings import Settings
    from runstream_sinks.replay import Result
    from runstream_sinks.replay_plan import Request
    from runstream_sinks.settle import Settled

SETTLE_S = 60.0
SUMMARY = "store again what topics hold"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "--topic", action="append", default=[], dest="topics", metavar="TOPIC", help="metric, event ..., more than once for several; all unless given"
    )
    parser.add_argument("--from", dest="since", metavar="TIME|OFFSET", help="first record: a time (2026-11-05T14:30, 2h, @1762351800), an offset, or beginning")
    parser.add_argument("--to", dest="until", metavar="TIME|OFFSET", help="the record after the last; what is there now unless given")
    parser.add_argument("--run", action="append", default=[], dest="runs", metavar="RUN", help="only this run's records; more than once for several")
    parser.add_argument("--into", metavar="DATABASE", help="another database, whose tables are made where they are missing; the live one unless given")
    parser.add_argument("--from-archive", metavar="URL", help="read the files of an archive instead of Kafka")
    parser.add_argument("--rate", type=_positive, metavar="N", help="store at most N rows a second")
    parser.add_argument("--group", metavar="NAME", help="consumer group that keeps how far it got; made of the arguments unless given")
    parser.add_argument("--follow", action="store_true", help="with --into: go on with what comes, until asked to stop")
    parser.add_argument(
        "--settle",
        type=_seconds,
        default=SETTLE_S,
        metavar="SECONDS",
        help="at the end wait so long at most until ClickHouse has merged the rows; 0: do not (default: %(default)g)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object at the end, and no progress")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text}")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be 0 or more seconds, got {text}")
    return value


def request_of(args: argparse.Namespace, prefix: str, now: float) -> Request:
    """What the arguments ask for. Raises SettingsError."""
    from runstream_sinks.replay_plan import Request
    from runstream_sinks.spans import BEGINNING, parse_bound, parse_topics

    if args.follow and (args.into is None or args.until is not None):
        raise SettingsError("--follow goes with --into and without --to: the sinks follow the live tables already")
    if args.from_archive is not None and (args.follow or args.group is not None):
        raise SettingsError("--from-archive goes without --follow and --group: an archive is read to its end, and how far is kept in a file")
    return Request(
        topics=parse_topics("--topic", args.topics, prefix),
        since=BEGINNING if args.since is None else parse_bound("--from", args.since, now),
        until=None if args.until is None else parse_bound("--to", args.until, now),
        said=(args.since or "", args.until or ""),
        runs=frozenset(run_id(one) for one in args.runs),
        into=args.into,
        group=args.group,
        rows_s=args.rate,
        follow=args.follow,
    )


def run_id(text: str) -> str:
    """A run's id as records carry it. Raises SettingsError."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise SettingsError(f"--run must be the UUID of a run, got {text!r}: `runstream runs` lists them") from None


def run(args: argparse.Namespace) -> int:
    """Replays; see the module's words for the exit code."""
    from runstream_sinks.archive_replay import replay_archive
    from runstream_sinks.errors import SinksError
    from runstream_sinks.fill import Caller
    from runstream_sinks.log import to_stderr
    from runstream_sinks.progress import shown, until_asked
    from runstream_sinks.replay import replay

    settings = load()
    request = request_of(args, settings.topic_prefix, time.time())
    if request.into is not None and load({"clickhouse_database": request.into}).clickhouse_database == settings.clickhouse_database:
        raise SettingsError(f"--into {request.into} is the live database: leave it away to store into the live tables")
    settled = None
    with until_asked() as asked:
        to_stderr(settings.log_format)
        try:
            with shown("replay", quiet=args.json) as told:
                caller = Caller(asked, told)
                result = replay(settings, request, caller) if args.from_archive is None else replay_archive(settings, request, args.from_archive, caller)
        except SinksError as error:
            sys.stderr.write(f"runstream replay: {error}\n")
            return 1
        if result.complete and sum(result.rows.values()) and args.settle:
            settled = _settle(settings, result, args.settle, asked, quiet=args.json)
    sys.stdout.write(_json(result, settled) + "\n" if args.json else _text(result, settled))
    return 0 if result.complete or request.follow else 130


def _settle(settings: Settings, result: Result, most_s: float, asked: Callable[[], bool], *, quiet: bool) -> Settled | None:
    """Waits until ClickHouse has caught up; None, and a line, where that cannot be seen: all is stored all the same."""
    from runstream_sinks.errors import SinksError
    from runstream_sinks.progress import waiting
    from runstream_sinks.settle import settle

    with waiting("all is stored; waiting until ClickHouse has merged it", quiet=quiet) as tell:
        try:
            return settle(
                settings,
                result.database,
                most_s=most_s,
                asked=asked,
                told=lambda one: tell(f"{one.merges:,} long merges, {one.parts:,} parts; Ctrl-C ends the wait"),
            )
        except SinksError as error:
            sys.stderr.write(f"runstream replay: all is stored; whether ClickHouse has merged it cannot be seen: {error}\n")
            return None


def _json(result: Result, settled: Settled | None) -> str:
    topics = {
        name: {"records": result.records[name], "rows": result.rows.get(name, 0), "malformed": result.malformed.get(name, 0)} for name in sorted(result.records)
    }
    return json.dumps(
        {
            "complete": result.complete,
            "resumed": result.resumed,
            "database": result.database,
            "kept_in": result.kept_in,
            "records": sum(result.records.values()),
            "rows": sum(result.rows.values()),
            "malformed": sum(result.malformed.values()),
            "seconds": round(result.seconds, 3),
            "rows_s": round(sum(result.rows.values()) / max(result.seconds, 1e-9)),
            "settled": None if settled is None else {"calm": settled.calm, "seconds": round(settled.seconds, 3), "parts": settled.last.parts},
            "topics": topics,
            "malformed_examples": [{"topic": one.topic, "partition": one.partition, "offset": one.offset, "reason": one.reason} for one in result.examples],
            "notes": list(result.notes),
        }
    )


def _text(result: Result, settled: Settled | None) -> str:
    lines: list[str] = list(result.notes)
    for name in sorted(result.records):
        malformed = f", {result.malformed[name]:,} malformed" if result.malformed.get(name) else ""
        lines.append(f"{name}: {result.records[name]:,} records, {result.rows.get(name, 0):,} rows{malformed}")
    lines += [f"malformed: {one.topic}/{one.partition}/{one.offset}: {one.reason}" for one in result.examples]
    rows = sum(result.rows.values())
    rate = rows / max(result.seconds, 1e-9)
    began = "went on with one that was begun; " if result.resumed else ""
    ended = "all is stored" if result.complete else "stopped, the same command goes on"
    lines.append(f"{began}{rows:,} rows into {result.database} in {result.seconds:.1f} s, {rate:,.0f} a second: {ended}")
    if settled is not None and not settled.calm:
        lines.append(
            f"ClickHouse still merges what was stored ({settled.last.parts:,} parts after {settled.seconds:.0f} s): until it has, charts of these runs take longer"
        )
    return "".join(f"{line}\n" for line in _limited(lines))


def _limited(lines: Sequence[str], most: int = 40) -> list[str]:
    return [*lines] if len(lines) <= most else [*lines[: most - 1], f"... and {len(lines) - most} more lines", lines[-1]]
