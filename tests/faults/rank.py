"""One rank of a test: logs known data at a pace, and tells in a ledger the step after the last call that returned, its writer, whether it has said that it stops, which calls found no
room, and its own wall clock around each call. Run as a script.

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

# Of the ledger's numbers. From CALLS on there are three for each step, from the first on: when it was dropped, by the clock that nobody sets, 0 where it was not; and the rank's wall clock
# before and after the call. All in milliseconds.
STEP, WRITER, STOPPED, STOP_BEFORE, STOP_AFTER, CALLS = 0, 1, 2, 3, 4, 5
DROPPED_AT, BEFORE, AFTER = 0, 1, 2
OF_CALL = 3
STEPS_MAX = 1 << 15
NUMBERS = CALLS + OF_CALL * STEPS_MAX


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
    make(args.ledger, NUMBERS)
    ledger = teller(args.ledger)
    longest_s = 0.0
    began = time.perf_counter()
    with runstream.init(project="faults", name="known data") as run:
        init_s = time.perf_counter() - began
        if run._journal is not None:
            ledger[WRITER] = run._journal.identity.writer
        run.alert_on("loss", ">", known.THRESHOLD, name="spike")
        run.alert_on("loss", "non_finite", name="not finite", severity="critical")
        run.log_params(known.params(args.rate, args.first))
        due = time.monotonic()
        step = args.first
        while step < args.until and (step % 16 or not args.stop.exists()):
            row, kept = known.row(run.rank, step), run.points_logged
            call = CALLS + OF_CALL * (step - args.first)
            ledger[call + BEFORE] = _wall_ms()
            began = time.perf_counter()
            run.log(row, step=step, context="training")
            longest_s = max(longest_s, time.perf_counter() - began)
            ledger[call + AFTER] = _wall_ms()
            if run.points_logged == kept:
                ledger[call + DROPPED_AT] = time.monotonic_ns() // 1_000_000
            step += 1
            ledger[STEP] = step
            due += 1.0 / args.rate
            time.sleep(max(0.0, due - time.monotonic()))
        kept_rows = run._rows.rows
        ledger[STOP_BEFORE] = _wall_ms()
        run.log_event("stopped", step=step, metadata={"first": args.first})
        ledger[STOP_AFTER] = _wall_ms()
        ledger[STOPPED] = run._rows.rows > kept_rows  # A full disk has no room for it.
        while args.linger and not args.stop.exists():
            time.sleep(0.05)
        finished = run.finish(timeout=args.finish_timeout)
    told = {"shipped": finished.shipped, "rows_left": finished.rows_left, "longest_ms": longest_s * 1000, "init_ms": init_s * 1000}
    sys.stdout.write(f"{json.dumps(told)}\n")
    return 0 if finished.shipped else 1


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    sys.exit(main())
