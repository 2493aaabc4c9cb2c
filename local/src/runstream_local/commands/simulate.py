"""Simulates a fleet in training: its ranks log through real journals and a real agent into the stack that the settings name."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUMMARY = "simulate a training fleet that logs into the stack, hours of it in minutes"

DETAILS = """Each rank is a writer of its own; one agent ships them all. The signals are those of a training: a loss that falls, norms, throughputs, a straggler, one value that is not a
number, a node that is lost, and a restart from the last checkpoint. The same seed gives the same values. Times of rows are simulated: an hour of training takes as long as its
points take to ship. Nothing is dropped; the simulation waits for the shipper instead. Needs a stack: `runstream up` starts one here.

  runstream simulate --ranks 16 --metrics 50 --hours 1
  runstream simulate --ranks 1000 --metrics 1000 --rate 0.01 --hours 3 --points-s 500000
"""

_SHIP_S = 600.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = DETAILS
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--ranks", type=_count, default=16, metavar="N", help="ranks of the run, eight a node (16)")
    parser.add_argument("--metrics", type=_count, default=50, metavar="N", help="metrics that each rank logs (50)")
    parser.add_argument("--rate", type=_above_0, default=1.0, metavar="N", help="log calls a second of a rank, in simulated time (1)")
    parser.add_argument("--hours", type=_above_0, default=1.0, metavar="H", help="hours of training (1)")
    parser.add_argument(
        "--points-s", type=_above_0, metavar="N", help="hold it to so many points a second, in real time; as many as can be shipped unless given"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the values (0)")
    parser.add_argument("--project", default="simulated", metavar="NAME", help="project of the run (simulated)")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end, and no progress")
    parser.add_argument("--data", metavar="DIR", help="data folder of the stack (RUNSTREAM_HOME, else ~/.runstream)")


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError(f"expected 1 to 100,000, got {text}")
    return value


def _above_0(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Simulates; 0 when Kafka holds everything that was logged, 1 when not, 2 when it cannot begin."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    import runstream
    from runstream_local.simulate.fleet import Simulation, wait_until_shipped
    from runstream_local.simulate.signals import Fleet
    from runstream_schemas.settings import load

    if args.data:
        os.environ["RUNSTREAM_HOME"] = args.data
    settings = load()
    if settings.mode != "online":
        sys.stderr.write(f"a fleet is simulated in mode online, and the mode is {settings.mode} (RUNSTREAM_MODE, `runstream mode`)\n")
        return 2
    steps = max(1, round(args.hours * 3600.0 * args.rate))
    fleet = Fleet(args.ranks, args.metrics, steps, 1.0 / args.rate, args.seed)
    total = sum(one.end - one.first for one in fleet.attempts()) * args.ranks * args.metrics
    begun = time.monotonic()
    config = {"ranks": args.ranks, "metrics": args.metrics, "rate": args.rate, "hours": args.hours, "seed": args.seed}
    with runstream.init(args.project, f"{args.ranks} simulated ranks", config=config, tags=["simulated"], task="simulation") as one:
        simulation = Simulation(fleet, one, settings, points_s=args.points_s or 0.0, started_s=time.time() - args.hours * 3600.0)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} points"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=Console(stderr=True), disable=args.json) as bar:
            task = bar.add_task(f"{args.ranks} ranks", total=total)
            try:
                for progress in simulation.steps():
                    bar.update(task, completed=progress.points, description=f"{args.ranks} ranks, hour {progress.simulated_s / 3600.0:.2f}")
            except OSError as error:
                sys.stderr.write(f"{error}\n")
                return 2
            logged_s = time.monotonic() - begun
            shipped = wait_until_shipped(simulation, _SHIP_S, lambda left: bar.update(task, description=f"shipping what is left of {left} writers"))
    done = simulation.progress
    said = {
        "run_id": one.id,
        "points": done.points,
        "series": args.ranks * args.metrics,
        "writers": done.writers,
        "dropped": done.dropped,
        "shipped": shipped,
        "seconds": round(time.monotonic() - begun, 3),
        "points_s": round(done.points / logged_s),
        "simulated_hours": round(done.simulated_s / 3600.0, 3),
    }
    sys.stdout.write(json.dumps(said) + "\n" if args.json else _words(said, done.reports.values()))
    return 0 if shipped and not done.dropped else 1


def _words(said: Mapping[str, Any], told: Iterable[str]) -> str:
    """What happened, and where to look at it."""
    run_id = said["run_id"]
    happened = (
        f"{said['points']:,} points of {said['series']:,} series by {said['writers']:,} writers in {said['seconds']:,.1f} s, {said['points_s']:,} a second"
    )
    curve = f"SELECT step, avg(value), max(value) FROM metrics WHERE run_id = '{run_id}' AND name = 'train/loss' GROUP BY step ORDER BY step"  # noqa: S608  # a text to read
    return "\n".join([f"{happened}; run {run_id}", *(f"  {one}" for one in told), f"  runstream account {run_id}", f'  runstream sql "{curve}"', ""])
