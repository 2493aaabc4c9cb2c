"""`runstream migrate`: makes the database, its tables and views, or brings them up to this version."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "make or upgrade the tables and views in ClickHouse"


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments."""
    parser.add_argument("--clickhouse", dest="clickhouse_url", metavar="URL", help="ClickHouse's HTTP address (RUNSTREAM_CLICKHOUSE_URL)")
    parser.add_argument("--database", dest="clickhouse_database", metavar="NAME", help="database (RUNSTREAM_CLICKHOUSE_DATABASE)")
    parser.add_argument("--wait", type=float, default=0.0, metavar="SECONDS", help="how long to wait for a server that does not answer yet")


def run(args: argparse.Namespace) -> int:
    """Applies what is missing; 0 when the database is up to date, 1 when it cannot be, with the reason on stderr."""
    from runstream_schemas.settings import load
    from runstream_sinks.clickhouse import Server, create_database
    from runstream_sinks.errors import ServerBusy, SinksError
    from runstream_sinks.migrations import migrate

    settings = load({"clickhouse_url": args.clickhouse_url, "clickhouse_database": args.clickhouse_database})
    deadline = time.monotonic() + args.wait
    while True:
        try:
            create_database(settings.clickhouse_url, settings.clickhouse_database)
            server = Server(settings.clickhouse_url, settings.clickhouse_database)
            done = migrate(server)
            server.close()
        except ServerBusy as error:
            if time.monotonic() < deadline:
                time.sleep(0.2)
                continue
            sys.stderr.write(f"runstream migrate: ClickHouse at clickhouse_url cannot be reached now: {error}\n")
            return 1
        except SinksError as error:
            sys.stderr.write(f"runstream migrate: {error}\n")
            return 1
        for one in done:
            sys.stdout.write(f"applied {one.number:04d} {one.name}\n")
        sys.stdout.write(f"database {settings.clickhouse_database} is up to date\n")
        return 0
