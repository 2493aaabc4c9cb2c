"""Runs processor workers: they decide alerts, keep summaries and notice crashed runs, until they are asked to end.

runstream process                                  one worker
runstream process --workers 4                      four of them, which share the partitions
runstream process --workers 2 --metrics-port 9200  /metrics and /healthz of each at 9200 and 9201

A worker that dies is started again, half a second later and more slowly each time it happens in a row; one that hangs is killed first. Nothing is lost and no alert fires twice
by that: what a worker had not acknowledged is read again, and alerts carry ids. Workers on other machines join the same group and share the work; more workers than partitions
leave some idle. SIGTERM and Ctrl-C let each finish and store what it took, within ten seconds.

Settings come from the environment (RUNSTREAM_KAFKA, RUNSTREAM_TOPIC_PREFIX, RUNSTREAM_CRASHED_AFTER ...) and config.toml; `runstream settings` shows them. The topics must be there.
docs/operations.md says what the figures mean. One worker without this process around it is `python -m runstream_processors worker`.

Exit codes: 0 it was asked to end; 2 wrong settings, or the topics did not come.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    import argparse

SUMMARY = "run processor workers: alerts, summaries, crashed runs"
WORKERS_MAX = 256


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="worker processes on this machine (1)")
    parser.add_argument(
        "--metrics-port",
        type=int,
        metavar="PORT",
        help="port of the first worker's /metrics and /healthz, the next one's is one higher (RUNSTREAM_METRICS_PORT)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs them; see the module's words for the exit code."""
    from runstream_processors import log
    from runstream_processors.crew import Crew

    if not 1 <= args.workers <= WORKERS_MAX:
        raise SettingsError(f"--workers must be from 1 to {WORKERS_MAX}, got {args.workers}")
    settings = load({"metrics_port": args.metrics_port})
    log.set_up()
    return Crew(settings, args.workers).run()
