"""What training pays for one `run.log`, with an agent beside it that ships what is logged to a real Kafka, and with every check that ships.

`ratio_N`: its median for N floats over that of `json.dumps` of the same dict, which most trackers pay several times; both as fast as they go, by turns.

The tail is that of each single call with 20 floats, in a loop that does nothing in between. No call is left out. Beside the agent alone it logs 20,000 rows a second, a hundred times
what training logs, so that there are calls enough and segments rotate meanwhile; it is less than one agent ships, and a segment lasts some seconds, so that the next one is there when it
is needed. Beside a checkpoint it logs 2,000 a second: every moment inside of a call is one in which somebody else may be given the core. A call that follows a step of training finds
caches that hold something else: `training_impact` measures that one.

- `p99_us_20`: beside the agent alone.
- `p999_us_20`, `max_ms_20`: while a process writes a checkpoint of 2 GB to the disk that holds the journal, flushes and removes it.
- `p999_us_20_shm`, `max_ms_20_shm`: the same with the journal in shared memory (RUNSTREAM_JOURNAL_DIR below /dev/shm), the checkpoint on the disk.
- `dumps_p99_us_20`, `dumps_max_ms_20`, `dumps_max_ms_20_shm`: those of `json.dumps` of the same dict in the same loops. It writes nothing, so they are what the machine does to
  any piece of Python: the agent, Kafka and the process with the checkpoint want the cores, too, and whoever waits for one waits in milliseconds.

With less than 6 seconds the checkpoint is smaller in proportion; `checkpoint_gb` says what was written.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import TYPE_CHECKING

import runstream
from benchmarks import checkpoint
from benchmarks.broker import journals_in, logging_to_a_broker, temporary_folder
from benchmarks.figures import Bar, Figure
from benchmarks.timing import ROUNDS_MIN, by_turns, median_us, quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runstream import Run

# Number of floats, bar of the ratio, calls a block: enough for the clock, few enough to take many turns.
SIZES = ((1, 0.6, 64), (20, 0.25, 16), (1000, 0.12, 4))
_DICTS = 8
_JOURNAL_BYTES_MAX = 96 << 20  # What one size may write, so that the agent has done with it soon.
_ROWS_S, _ROWS_S_BESIDE = 20_000, 2_000
_CHECKPOINT_BYTES = 2_000_000_000
_CHECKPOINT_S = 120.0  # What a slow disk is given for it.
_SHIP_S = 60.0
_MEMORY = Path("/dev/shm")


def _dicts(names: int) -> list[dict[str, float]]:
    draw = random.Random(names)
    return [{f"layer_{one}/grad_norm": draw.random() * 10 for one in range(names)} for _ in range(_DICTS)]


def _median(run: Run, names: int, calls: int, seconds: float) -> tuple[float, float, int]:
    """Median microseconds of `run.log` and of `json.dumps` for dicts of so many floats, and the number of blocks."""
    dicts = _dicts(names)
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


def _each_call(run: Run, rows_s: int, going: Callable[[], bool]) -> tuple[list[int], list[int]]:
    """Nanoseconds of each call of `run.log`, and of `json.dumps` half-way between them, in a loop of so many rounds a second. A round that was held up does not hurry the next ones."""
    dicts = _dicts(20)
    half_ns = 500_000_000 // rows_s
    clock, log, dumps = time.perf_counter_ns, run.log, json.dumps
    ours: list[int] = []
    theirs: list[int] = []
    begin = clock()
    step = 0
    while going() or step < ROUNDS_MIN:
        for _ in range(64):
            data = dicts[step % _DICTS]
            begin = max(begin + half_ns, clock())
            while clock() < begin:
                pass
            before = clock()
            log(data, step=step)
            ours.append(clock() - before)
            begin = max(begin + half_ns, clock())
            while clock() < begin:
                pass
            before = clock()
            dumps(data)
            theirs.append(clock() - before)
            step += 1
    return ours, theirs


def _beside_a_checkpoint(run: Run, folder: Path, size: int) -> tuple[list[int], list[int], float]:
    """Nanoseconds of each call while a checkpoint is written into a folder, and how long that took."""
    begun = time.perf_counter()
    with checkpoint.being_written(folder, size) as process:
        ours, theirs = _each_call(run, _ROWS_S_BESIDE, lambda: process.poll() is None and time.perf_counter() - begun < _CHECKPOINT_S)
        if process.returncode:
            raise OSError(f"the checkpoint of {size:,} bytes could not be written into {folder}")
    return ours, theirs, time.perf_counter() - begun


def _figures_of(run: Run, points: int, rows: int) -> Iterator[Figure]:
    """Whether all is there of what was logged: in the journal, and in Kafka within a minute."""
    kept = run.points_logged / points if not run.points_dropped else 0.0
    finished = run.finish(timeout=_SHIP_S)
    yield Figure("kept", kept, "share", rows, Bar("==", 1.0))
    yield Figure("shipped", run.points_shipped / points, "share", rows, None if finished.trouble else Bar("==", 1.0))


def _on_disk(folder: Path, seconds: float, size: int) -> Iterator[Figure]:
    times: list[Figure] = []
    rows = points = 0
    with runstream.init(project="benchmarks", name="log_call") as run:
        for names, bar, calls in SIZES:
            log_us, dumps_us, n = _median(run, names, calls, seconds / len(SIZES))
            yield Figure(f"ratio_{names}", log_us / dumps_us, "ratio", n, Bar("<=", bar))
            times += [Figure(f"log_{names}", log_us, "µs", n), Figure(f"dumps_{names}", dumps_us, "µs", n)]
            rows += (n + 1) * calls  # One round more than was timed.
            points += (n + 1) * calls * names
        end = time.perf_counter() + seconds
        ours, theirs = _each_call(run, _ROWS_S, lambda: time.perf_counter() < end)
        yield Figure("p99_us_20", quantile(ours, 0.99) / 1e3, "µs", len(ours), Bar("<=", 20.0))
        yield Figure("dumps_p99_us_20", quantile(theirs, 0.99) / 1e3, "µs", len(theirs))
        beside, dumps_beside, took_s = _beside_a_checkpoint(run, folder, size)
        yield from _tail(beside, dumps_beside, "")
        yield Figure("checkpoint_gb", size / 1e9, "GB", len(beside))
        yield Figure("checkpoint_s", took_s, "s", len(beside))
        rows += len(ours) + len(beside)
        yield from _figures_of(run, points + 20 * (len(ours) + len(beside)), rows)
    yield from times


def _tail(ours: list[int], theirs: list[int], where: str, bar: Bar | None = None) -> Iterator[Figure]:
    yield Figure(f"p999_us_20{where}", quantile(ours, 0.999) / 1e3, "µs", len(ours))
    yield Figure(f"max_ms_20{where}", max(ours) / 1e6, "ms", len(ours), bar)
    yield Figure(f"dumps_max_ms_20{where}", max(theirs) / 1e6, "ms", len(theirs))


def run(seconds: float) -> Iterator[Figure]:
    """The ratios by number of floats, the tail of 20 on the disk and in shared memory, and the shares of points that journal and Kafka have in the end."""
    size = int(min(1.0, seconds / 6.0) * _CHECKPOINT_BYTES)
    with logging_to_a_broker() as journals:
        yield from _on_disk(journals.parent, seconds, size)
        if not _MEMORY.is_dir():
            return
        with (
            temporary_folder(_MEMORY) as name,
            journals_in(Path(name)),
            runstream.init(project="benchmarks", name="log_call in memory") as run,
        ):
            ours, theirs, _ = _beside_a_checkpoint(run, journals.parent, size)
            yield from _tail(ours, theirs, "_shm", Bar("<=", 10.0))
            if run.points_dropped:
                raise OSError(f"the journal in {_MEMORY} had no room: {dict(run.points_dropped)}")
