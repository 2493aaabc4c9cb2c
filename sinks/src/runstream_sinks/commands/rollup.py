"""Computes the rollups of metrics that are stale, so that the view `rollups` reads curves of a hundred million points in a fraction of a second.

runstream rollup                    one pass over all that is stale
runstream rollup --every 60         a pass a minute, until it is asked to stop: the way to run it as a service
runstream rollup --run 0193a1f0-…   one run
runstream rollup --again            every block, stale or not

Nothing depends on it but speed: where a block was not rolled up, or rows came since, the view reads the points themselves. It may be killed at any time, and several may run at once.

The exit code is 0, or 1 when ClickHouse did not let it finish; with --every it waits and goes on.
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    import argparse

    from runstream_sinks.rollup import Pass

SUMMARY = "compute the rollups of long metrics"

_TIMEOUT_S = 600.0
_LOOK_S = 0.2


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--run", metavar="ID", help="only this run")
    parser.add_argument("--again", action="store_true", help="every block, not only those that are stale")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="a pass every so many seconds until SIGTERM")
    parser.add_argument("--json", action="store_true", help="one JSON object a pass")


def run(args: argparse.Namespace) -> int:
    """Makes one pass, or passes until it is asked to stop; see the module's words for the exit code.

    Raises:
        SettingsError: an argument or setting does not fit.
    """
    from runstream_sinks.clickhouse import Server
    from runstream_sinks.errors import ServerBusy, SinksError
    from runstream_sinks.log import log, to_stderr
    from runstream_sinks.progress import until_asked
    from runstream_sinks.rollup import roll_up

    if args.every is not None and args.every <= 0:
        raise SettingsError(f"--every: expected seconds above 0, got {args.every:g}")
    settings = load()
    run_id = _run_id(args.run)
    to_stderr(settings.log_format)
    server = Server(settings.clickhouse_url, settings.clickhouse_database, timeout_s=_TIMEOUT_S)
    with until_asked() as asked:
        while True:
            try:
                _tell(roll_up(server, run_id=run_id, again=args.again, stopped=asked), as_json=args.json)
            except SinksError as error:
                if args.every is None or not isinstance(error, ServerBusy):
                    sys.stderr.write(f"runstream rollup: {error}\n")
                    return 1
                log.warning("clickhouse is busy or away, trying again", error=str(error))
            if args.every is None:
                return 0
            until = time.monotonic() + args.every
            while not asked() and time.monotonic() < until:
                time.sleep(min(_LOOK_S, args.every))
            if asked():
                server.close()
                return 0


def _run_id(text: str | None) -> str | None:
    try:
        return str(uuid.UUID(text)) if text else None
    except ValueError:
        raise SettingsError(f"--run: expected the id of a run, a UUID, got {text!r}") from None


def _tell(done: Pass, *, as_json: bool) -> None:
    text = json.dumps(asdict(done)) if as_json else f"rolled up {done.blocks:,} blocks of {done.runs:,} runs from {done.rows:,} rows in {done.seconds:.1f} s"
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
