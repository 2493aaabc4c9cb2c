"""Runs one SQL statement on the running stack's ClickHouse, or on the one that RUNSTREAM_CLICKHOUSE_URL names, and prints the answer.

runstream sql "SELECT name, count() FROM metrics GROUP BY name"
runstream sql --format arrow "SELECT * FROM metrics" > metrics.arrow
runstream sql - < report.sql

json writes NaN and infinities as the texts "nan", "inf" and "-inf", and a missing value as null; csv writes nan, inf, -inf and \\N.
Bytes that are no UTF-8 are in csv and json what they are in the table: read them with errors="surrogateescape", or ask for hex(column).
"""

from __future__ import annotations

import argparse
import shutil
import sys

from runstream_local.errors import SqlError
from runstream_schemas.settings import SettingsError, load

SUMMARY = "run a SQL statement and print its answer"

# JSON has no word for NaN and infinities, which are values here: they come as strings and not as null.
_JSON = {"output_format_json_quote_64bit_integers": "0", "output_format_json_quote_denormals": "1"}
_NONE: dict[str, str] = {}
_FORMATS = {
    "table": ("PrettyCompactMonoBlock", {"output_format_pretty_row_numbers": "0"}),
    "csv": ("CSVWithNames", _NONE),
    "json": ("JSONEachRow", _JSON),
    "arrow": ("ArrowStream", _NONE),
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("statement", metavar="SQL", help="the statement, or - to read it from standard input")
    parser.add_argument("--format", choices=sorted(_FORMATS), default="table", help="table (the default), csv, json (an object a line), or arrow (a stream)")
    parser.add_argument("--database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE, else runstream)")
    parser.add_argument("--data", metavar="DIR", help="data folder of the stack (RUNSTREAM_HOME, else ~/.runstream)")


def run(args: argparse.Namespace) -> int:
    """Prints the answer; 1 when ClickHouse refuses the statement, with its message on stderr; 2 when there is no statement."""
    statement = sys.stdin.read() if args.statement == "-" else str(args.statement)
    if not statement.strip(" \t\r\n;"):
        where = "standard input" if args.statement == "-" else "the argument"
        sys.stderr.write(f"runstream sql: expected a SQL statement, but {where} holds none\n")
        return 2
    return print_answer(statement, answer=args.format, database=args.database, data=args.data)


def print_answer(statement: str, *, answer: str, database: str | None, data: str | None) -> int:
    """Runs the statement and copies its answer to standard output.

    Raises:
        SettingsError: no ClickHouse answers.
    """
    from runstream_local.sql import open_answer

    settings = load({"home": data, "clickhouse_database": database})
    format_name, options = _FORMATS[answer]
    if answer == "table":
        options = {**options, "output_format_pretty_color": str(int(sys.stdout.isatty()))}
        if "utf" not in (sys.stdout.encoding or "").lower():
            options["output_format_pretty_grid_charset"] = "ASCII"
    try:
        with open_answer(settings.clickhouse_url, statement, database=settings.clickhouse_database, answer_format=format_name, settings=options) as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer, 1 << 20)
            sys.stdout.buffer.flush()
    except SqlError as error:
        if error.code == 0:
            hint = "`runstream up` starts one, RUNSTREAM_CLICKHOUSE_URL names another"
            raise SettingsError(f"{error}; {hint}") from error
        sys.stderr.write(f"{error}\n")
        return 1
    return 0
