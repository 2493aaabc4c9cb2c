"""Puts the tables of another database in the place of the live ones, while the sinks go on writing: nothing is lost, nothing is doubled, and readers never see a table that is not there.

runstream replay --into shadow      fills it from the topics, with tables of this version
runstream verify --from shadow      compares it with the live tables
runstream swap shadow               catches up, verifies, exchanges the tables, and reads again what came in between

It may be killed at any moment and called again: it goes on. The old tables are in the other database afterwards. The exit code is 0 when it is done, 1 when it could not be or the other
database does not hold what the live tables hold, 130 when it was asked to stop.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from runstream_schemas.settings import load
from runstream_sinks.commands.verify import as_text

if TYPE_CHECKING:
    import argparse

    from runstream_sinks.swap import Result

SUMMARY = "put the tables of another database in the place of the live ones"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("database", metavar="DATABASE", help="the database that `runstream replay --into` fills")
    parser.add_argument("--topic", action="append", default=[], dest="topics", metavar="TOPIC", help="only this topic's table; more than once for several")
    parser.add_argument("--unverified", action="store_true", help="swap without a comparison: rows that the other database lacks are gone from view")
    parser.add_argument("--json", action="store_true", help="one JSON object, and no progress")


def run(args: argparse.Namespace) -> int:
    """Swaps; see the module's words for the exit code."""
    from runstream_sinks.errors import SinksError
    from runstream_sinks.fill import Caller
    from runstream_sinks.log import to_stderr
    from runstream_sinks.progress import shown, until_asked
    from runstream_sinks.replay import Stopped
    from runstream_sinks.spans import parse_topics
    from runstream_sinks.swap import Differs, swap

    settings = load()
    names = parse_topics("--topic", args.topics, settings.topic_prefix)
    database = load({"clickhouse_database": args.database}).clickhouse_database
    with until_asked() as asked, shown("swap", quiet=args.json) as told:
        to_stderr(settings.log_format)
        try:
            result = swap(settings, database, names, verified=not args.unverified, caller=Caller(asked, told))
        except Differs as error:
            sys.stderr.write(f"{as_text(error.report)}runstream swap: {error}\n")
            return 1
        except SinksError as error:
            sys.stderr.write(f"runstream swap: {error}\n")
            return 130 if isinstance(error, Stopped) else 1
    sys.stdout.write(_json(result) + "\n" if args.json else _text(result, settings.clickhouse_database))
    return 0


def _json(result: Result) -> str:
    return json.dumps(
        {
            "database": result.database,
            "tables": list(result.tables),
            "rows_read_again": result.rows_after,
            "resumed": result.resumed,
            "verified": result.verified is not None,
            "seconds": round(result.seconds, 3),
        }
    )


def _text(result: Result, live: str) -> str:
    return (
        f"swapped {len(result.tables)} tables: {', '.join(result.tables)}\n"
        f"read again what came in between: {result.rows_after:,} rows\n"
        f"the old tables of {live} are in {result.database}: drop that database when nobody wants them any more\n"
    )
