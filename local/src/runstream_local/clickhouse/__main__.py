"""The command line of the embedded ClickHouse engine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from runstream_local.clickhouse.failures import QueryError
from runstream_local.clickhouse.server import serve
from runstream_local.clickhouse.users import ANALYST, Users


def main() -> int:
    """Serves until a signal; 2 when the folder or the port cannot be had."""
    parser = argparse.ArgumentParser(prog="python -m runstream_local.clickhouse", description="Serve the ClickHouse engine on loopback.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the engine's data")
    parser.add_argument("--port", type=int, required=True, help="port of the HTTP interface")
    parser.add_argument(
        "--analyst", default=ANALYST, metavar="NAME", help="name of the user who may only read; RUNSTREAM_ANALYST_PASSWORD has the password, if any"
    )
    parser.add_argument("--config", type=Path, help="configuration file of ClickHouse, such as one that describes a cluster")
    arguments = parser.parse_args()
    try:
        users = Users(arguments.analyst, os.environ.get("RUNSTREAM_ANALYST_PASSWORD", ""))
        return serve(arguments.data.absolute(), arguments.port, arguments.config and arguments.config.absolute(), users)
    except (OSError, QueryError) as error:
        sys.stderr.write(f"cannot serve {arguments.data} on port {arguments.port}: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())
