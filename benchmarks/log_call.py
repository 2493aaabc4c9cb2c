"""What training pays for one `run.log`: its time over that of `json.dumps` of the same dict, which most trackers pay several times.

The run is offline, in a temporary folder: the same journal as online, without a shipper beside it. Every point must be kept, since a call that drops is cheap.
"""

from __future__ import annotations

import json
import os
import random
import tempfile
from typing import TYPE_CHECKING

from benchmarks.figures import Bar, Figure
from benchmarks.timing import by_turns, median_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runstream import Run

# Number of floats, bar of the ratio, calls a block: enough for the clock, few enough to take many turns.
SIZES = ((1, 0.6, 64), (20, 0.25, 16), (1000, 0.12, 4))
_DICTS = 8
_JOURNAL_BYTES_MAX = 96 << 20  # What one size may write: offline journals stay until the end.


def _measure(run: Run, names: int, calls: int, seconds: float) -> tuple[float, float, int]:
    """Median microseconds of `run.log` and of `json.dumps` for dicts of so many floats, and the number of blocks."""
    draw = random.Random(names)
    dicts = [{f"layer_{one}/grad_norm": draw.random() * 10 for one in range(names)} for _ in range(_DICTS)]
    step = 0

    def log() -> None:
        nonlocal step
        for number in range(step, step + calls):
            run.log(dicts[number % _DICTS], step=number)
        step += calls

    def dump() -> None:
        for number in range(calls):
            json.dumps(dicts[number % _DICTS])

    rounds_max = _JOURNAL_BYTES_MAX // (calls * (8 * names + 100))
    ours, theirs = by_turns((log, dump), seconds=seconds, rounds_max=rounds_max)
    return median_us(ours, calls), median_us(theirs, calls), len(ours)


def run(seconds: float) -> Iterator[Figure]:
    """The ratio and the time a call by number of floats, and the share of points that the journal kept."""
    with tempfile.TemporaryDirectory(prefix="runstream-benchmark-") as folder:
        os.environ["RUNSTREAM_HOME"] = os.environ["RUNSTREAM_JOURNAL_DIR"] = folder
        import runstream  # After its settings, though it reads them in `init` alone.

        blocks = 0
        points = 0
        with runstream.init(project="benchmarks", name="log_call", mode="offline") as one:
            times: list[Figure] = []
            for names, bar, calls in SIZES:
                log_us, dumps_us, n = _measure(one, names, calls, seconds / len(SIZES))
                yield Figure(f"ratio_{names}", log_us / dumps_us, "ratio", n, Bar("<=", bar))
                times += [Figure(f"log_{names}", log_us, "µs", n), Figure(f"dumps_{names}", dumps_us, "µs", n)]
                blocks += n
                points += (n + 1) * calls * names  # One round more than was timed.
            yield Figure("kept", one.points_logged / points if not one.points_dropped else 0.0, "share", blocks, Bar("==", 1.0))
            yield from times
