"""One rank of a test: logs known data at a pace, and tells in a ledger the step after the last call that returned, its writer, whether it has said that it stops, and which calls found no
room. Run as a script.

At its end it prints, as JSON, what `finish` said and how long the longest of its calls took.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import runstream
from tests.faults import known
from tests.told import make, teller

# Of the ledger's numbers: what follows is 1 for each step, from the first on, that was dropped.
STEP, WRITER, STOPPED, DROPPED = 0, 1, 2, 3
STEPS_MAX = 1 << 15


def main() -> int:
    """Logs the steps [first, until), or until the stop file appears, `rate` rows a second; with `--linger` the run goes on until the stop file in any case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--until", type=int, default=1 << 40)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--linger", action="store_true")
    parser.add_argument("--finish-timeout", type=float, default=60.0)
    args = parser.parse_args()
    make(args.ledger, DROPPED + STEPS_MAX)
    ledger = teller(args.ledger)
    longest_s = 0.0
    began = time.perf_counter()
    with runstream.init(project="faults", name="known data") as run:
        init_s = time.perf_counter() - began
        if run._journal is not None:
            ledger[WRITER] = run._journal.identity.writer
        run.alert_on("loss", ">", known.THRESHOLD, name="spike")
        run.alert_on("loss", "non_finite", name="not finite", severity="critical")
        run.log_params({"rate": args.rate, "first": args.first})
        due = time.monotonic()
        step = args.first
        while step < args.until and (step % 16 or not args.stop.exists()):
            row, kept = known.row(run.rank, step), run.points_logged
            began = time.perf_counter()
            run.log(row, step=step, context="training")
            longest_s = max(longest_s, time.perf_counter() - began)
            if run.points_logged == kept:
                ledger[DROPPED + step - args.first] = 1
            step += 1
            ledger[STEP] = step
            due += 1.0 / args.rate
            time.sleep(max(0.0, due - time.monotonic()))
        kept_rows = run._rows.rows
        run.log_event("stopped", step=step, metadata={"first": args.first})
        ledger[STOPPED] = run._rows.rows > kept_rows  # A full disk has no room for it.
        while args.linger and not args.stop.exists():
            time.sleep(0.05)
        finished = run.finish(timeout=args.finish_timeout)
    told = {"shipped": finished.shipped, "rows_left": finished.rows_left, "longest_ms": longest_s * 1000, "init_ms": init_s * 1000}
    sys.stdout.write(f"{json.dumps(told)}\n")
    return 0 if finished.shipped else 1


if __name__ == "__main__":
    sys.exit(main())
