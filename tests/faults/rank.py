"""One rank of a test: logs known data at a pace and keeps a ledger of the calls that returned. Run as a script.

The ledger is 8 bytes in a mapped file, written after each call: they outlive the process as the journal does.
"""

from __future__ import annotations

import argparse
import mmap
import os
import struct
import sys
import time
from pathlib import Path

import runstream
from tests.faults import known


def main() -> int:
    """Logs the steps [first, until), or until the stop file appears, `rate` rows a second."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ledger", type=Path, required=True)
    parser.add_argument("--stop", type=Path, required=True)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--until", type=int, default=1 << 40)
    parser.add_argument("--rate", type=float, default=100.0)
    args = parser.parse_args()
    args.ledger.write_bytes(bytes(8))
    descriptor = os.open(args.ledger, os.O_RDWR)
    ledger = mmap.mmap(descriptor, 8)
    with runstream.init(project="faults", name="known data") as run:
        run.alert_on("loss", ">", known.THRESHOLD, name="spike")
        run.alert_on("loss", "non_finite", name="not finite", severity="critical")
        run.log_params({"rate": args.rate, "first": args.first})
        due = time.monotonic()
        step = args.first
        while step < args.until and (step % 16 or not args.stop.exists()):
            run.log(known.row(run.rank, step), step=step, context="training")
            step += 1
            struct.pack_into("<q", ledger, 0, step)
            due += 1.0 / args.rate
            time.sleep(max(0.0, due - time.monotonic()))
        run.log_event("stopped", step=step, metadata={"first": args.first})
        finished = run.finish(timeout=60)
    sys.stdout.write(f"{'shipped' if finished.shipped else 'left'}\n")
    return 0 if finished.shipped else 1


if __name__ == "__main__":
    sys.exit(main())
