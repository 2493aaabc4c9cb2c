"""Trains a small network on the whole pipeline of this machine, live, and shows what was recorded.

Starts the embedded stack (or uses the one that runs on the data folder), trains two ranks on scikit-learn's handwritten digits, one of which diverges, and prints from ClickHouse:
the learning curve, each metric's summary, the alerts with how long they took, hardware by process, and the account. The exit code is 0 only if that account balances
and the alert fired. The data stays in the data folder for `runstream up` and `runstream sql`.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

SUMMARY = "train two ranks on the embedded stack and show what was recorded"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--data", type=Path, help="data folder of the stack; RUNSTREAM_HOME or ~/.runstream unless given")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training images (60)")
    parser.add_argument("--json", action="store_true", help="one JSON object with the verdict instead of the report")


def run(args: argparse.Namespace) -> int:
    """Runs the demo; 0 if the account balances and the alert fired, 1 if not, 2 if the stack could not be started."""
    from rich.console import Console

    from runstream_local.demo import session
    from runstream_local.errors import LocalError
    from runstream_schemas.settings import load

    # Where there is no terminal, nobody says how wide the page is: wide enough for every table.
    console = Console(stderr=args.json, highlight=False, width=None if (sys.stderr if args.json else sys.stdout).isatty() else 120)
    settings = load({"home": args.data})
    begun = time.monotonic()
    try:
        with session.stack_on(settings, console) as reached:
            run_id, judged, report = session.train_and_watch(reached, session.asker(reached), epochs=args.epochs, console=console)
            if args.json:
                sys.stdout.write(
                    json.dumps({"run_id": run_id, "balanced": judged.balanced, "alerted": judged.alerted, "holds": judged.holds, "reasons": judged.reasons})
                    + "\n"
                )
            else:
                report()
                session.say_where_to_go(console, settings, run_id, time.monotonic() - begun)
    except LocalError as error:
        sys.stderr.write(f"runstream demo: {error}\n")
        return 2
    return 0 if judged.holds else 1
