"""Simulates a fleet in training: its ranks log through real journals and a real agent into the stack that the settings name."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runstream_local.simulate.signals import Troubles

SUMMARY = "simulate a training fleet that logs into the stack, hours of it in minutes"

DETAILS = """Each rank is a writer of its own; one agent ships them all. The signals are those of a training: a loss that falls, norms, throughputs, a straggler, one value that is not a
number, a node that is lost, and a restart from the last checkpoint. The same seed gives the same values. Times of rows are simulated, and end now: an hour of training takes as
long as its points take to ship. Nothing is dropped; the simulation waits for the shipper instead. Ctrl-C ends the ranks as killed, and what they have logged is shipped all the
same. Needs a stack: `runstream up` starts one here.

  runstream simulate --ranks 16 --metrics 50 --hours 1
  runstream simulate --ranks 1000 --metrics 1000 --rate 0.01 --hours 3 --points-s 500000
"""

_CALLS_MAX = 1_000_000_000
_HOURS_MAX = 87_600.0  # Ten years: times of rows stay after 2000.


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.description = DETAILS
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--ranks", type=_count, default=16, metavar="N", help="ranks of the run, eight a node (16)")
    parser.add_argument("--metrics", type=_count, default=50, metavar="N", help="metrics that each rank logs (50)")
    parser.add_argument("--rate", type=_above_0, default=1.0, metavar="N", help="log calls a second of a rank, in simulated time (1)")
    parser.add_argument("--hours", type=_hours, default=1.0, metavar="H", help="hours of training (1)")
    parser.add_argument(
        "--points-s", type=_above_0, metavar="N", help="hold it to so many points a second, in real time; as many as can be shipped unless given"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the values (0)")
    parser.add_argument("--project", default="simulated", metavar="NAME", help="project of the run (simulated)")
    parser.add_argument("--json", action="store_true", help="one JSON object at the end, and no progress")
    parser.add_argument("--data", metavar="DIR", help="data folder of the stack (RUNSTREAM_HOME, else ~/.runstream)")


def _count(text: str) -> int:
    return int(_number(text, whole=True, least=1, most=100_000))


def _seed(text: str) -> int:
    return int(_number(text, whole=True, least=0, most=2**63 - 1))


def _hours(text: str) -> float:
    return _number(text, most=_HOURS_MAX)


def _above_0(text: str) -> float:
    return _number(text)


def _number(text: str, *, whole: bool = False, least: float = 0.0, most: float = math.inf) -> float:
    """A number from `least` (whole ones) or above it (others) to `most`; argparse says what was expected."""
    expected = f"a whole number from {least:,} to {most:,}" if whole else "a number above 0" + (f", at most {most:,.0f}" if most < math.inf else "")
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not (least <= value if whole else 0 < value < math.inf) or value > most:
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
    return value


def run(args: argparse.Namespace) -> int:
    """Simulates; 0 when Kafka holds everything that was logged, 1 when not, 2 when it cannot begin, 130 after Ctrl-C."""
    from runstream_local.outside import require_kafka
    from runstream_local.simulate.machine import make_room
    from runstream_local.simulate.session import simulate
    from runstream_local.simulate.signals import Fleet
    from runstream_producers.paths import journal_root
    from runstream_schemas.settings import SettingsError, load

    if args.data:
        os.environ["RUNSTREAM_HOME"] = args.data
    settings = load()
    if settings.mode != "online":
        raise SettingsError(f"a fleet is simulated in mode online, and the mode is {settings.mode} (RUNSTREAM_MODE, `runstream mode`)")
    steps = round(min(args.hours * 3600.0 * args.rate, 2.0 * _CALLS_MAX))
    if not 1 <= steps <= _CALLS_MAX:
        raise SettingsError(
            f"--hours and --rate must come to 1 to {_CALLS_MAX:,} log calls of a rank, got {args.hours:g} hours of {args.rate:g} calls a second"
        )
    make_room(args.ranks, args.metrics, journal_root(settings))
    require_kafka(settings.kafka, settings.kafka_options)
    fleet = Fleet(args.ranks, args.metrics, steps, 1.0 / args.rate, args.seed)
    config = {"ranks": args.ranks, "metrics": args.metrics, "rate": args.rate, "hours": args.hours, "seed": args.seed}
    begun = time.monotonic()
    done = simulate(fleet, settings, project=args.project, config=config, points_s=args.points_s or 0.0, quiet=args.json)
    said = {
        "run_id": done.run_id,
        "points": done.progress.points,
        "series": args.ranks * args.metrics,
        "writers": done.progress.writers,
        "dropped": done.progress.dropped,
        "shipped": done.shipped,
        "stopped": done.stopped,
        "seconds": round(time.monotonic() - begun, 3),
        "points_s": round(done.progress.points / max(done.logged_s, 1e-3)),
        "simulated_hours": round(done.progress.simulated_s / 3600.0, 3),
        "troubles": asdict(fleet.troubles()),
    }
    sys.stderr.writelines(f"{line}\n" for line in (*done.progress.reports.values(), done.trouble) if line)
    sys.stdout.write(json.dumps(said) + "\n" if args.json else _words(said, fleet.troubles()))
    return 130 if done.stopped else 0 if done.shipped and not done.progress.dropped and not done.trouble else 1


def _words(said: Mapping[str, Any], troubles: Troubles) -> str:
    """What happened, and where to look at it."""
    run_id = said["run_id"]
    happened = (
        f"{said['points']:,} points of {said['series']:,} series by {said['writers']:,} writers in {said['seconds']:,.1f} s, {said['points_s']:,} a second"
    )
    # Texts to read, of an id that is a UUID.
    of_run = f"WHERE run_id = '{run_id}'"
    asked = {"the curve": f"SELECT step, avg(value), max(value) FROM metrics {of_run} AND name = 'train/loss' GROUP BY step ORDER BY step"}  # noqa: S608
    if not said["stopped"]:
        asked |= _of_troubles(troubles, of_run)
    where = [f"  the account of each rank\n    runstream account {run_id}", *(f'  {what}\n    runstream sql "{sql}"' for what, sql in asked.items())]
    return "\n".join([f"{happened}; run {run_id}", *where, ""])


def _of_troubles(troubles: Troubles, of_run: str) -> dict[str, str]:
    """Questions that show what befell the fleet."""
    rank, step = troubles.nan
    asked = {f"rank {rank} has a loss that is not a number at step {step}": f"SELECT rank, step, name FROM metrics {of_run} AND isNaN(value)"}  # noqa: S608
    if troubles.straggler is not None:
        rank, slow_from, slow_until = troubles.straggler
        slow = f"{of_run} AND name = 'perf/step_time_s' AND step >= {slow_from} AND step < {slow_until}"
        asked[f"rank {rank} is slow from step {slow_from} to {slow_until - 1}"] = (
            f"SELECT rank, avg(value) AS seconds FROM metrics {slow} GROUP BY rank ORDER BY seconds DESC LIMIT 5"  # noqa: S608
        )
    if troubles.lost is not None:
        node, at, again = troubles.lost
        asked[f"node-{node:04d} is lost at step {at}, and the job starts again at step {again}"] = (
            f"SELECT attempt, state, count() AS ranks, arraySort(groupUniqArray(3)(node)) AS nodes FROM writers {of_run} AND kind = 'rank' GROUP BY attempt, state ORDER BY attempt, state"  # noqa: S608
        )
    return asked
