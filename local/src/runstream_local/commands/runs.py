"""Lists the runs that were recorded, newest first."""

from __future__ import annotations

import argparse

SUMMARY = "list the recorded runs"

_COLUMNS = "run_id, project, name, state, started, writers, points"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (50)")
    parser.add_argument("--database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE, else runstream)")
    parser.add_argument("--data", metavar="DIR", help="data folder of the stack (RUNSTREAM_HOME, else ~/.runstream)")


def run(args: argparse.Namespace) -> int:
    """Prints the runs; 1 when ClickHouse cannot say, with its message on stderr."""
    from runstream_local.commands.sql import print_answer

    statement = f"SELECT {_COLUMNS} FROM runs ORDER BY started DESC LIMIT {int(args.limit)}"  # noqa: S608  # a number
    return print_answer(statement, answer="json" if args.json else "table", database=args.database, data=args.data)
