"""Stops the running stack: its parts in reverse order, each within a bound; data and logs stay."""

from __future__ import annotations

import argparse
import sys

from runstream_schemas.settings import load

SUMMARY = "stop the running stack"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--data", metavar="DIR", help="data folder of the stack (RUNSTREAM_HOME, else ~/.runstream)")


def run(args: argparse.Namespace) -> int:
    """Stops the stack and returns 0 once nothing of it is left; also when there was none."""
    from runstream_local.errors import LocalError
    from runstream_local.stack import stop_stack

    data = load({"home": args.data}).home_dir.absolute()
    try:
        stopped = stop_stack(data)
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"the stack on {data} has stopped\n" if stopped else f"no stack runs on {data}\n")
    return 0
