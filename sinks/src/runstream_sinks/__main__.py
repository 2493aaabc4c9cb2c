"""`python -m runstream_sinks worker` and `python -m runstream_sinks migrate`."""

from __future__ import annotations

import argparse
import sys

from runstream_schemas.clocks import end_where_set_back
from runstream_schemas.settings import SettingsError, load
from runstream_sinks.commands import migrate
from runstream_sinks.log import clock_was_set_back, to_stderr


def main(argv: list[str] | None = None) -> int:
    """Runs a subcommand; 2 when the arguments or settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m runstream_sinks")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("worker", help="move records from Kafka into ClickHouse until SIGTERM")
    migrate.configure(commands.add_parser("migrate", help=migrate.SUMMARY))
    args = parser.parse_args(argv)
    try:
        if args.command == "migrate":
            return migrate.run(args)
        settings = load()
        from runstream_sinks import worker

        to_stderr(settings.log_format)
        end_where_set_back(clock_was_set_back)
        return worker.main(settings)
    except SettingsError as error:
        sys.stderr.write(f"runstream_sinks: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
