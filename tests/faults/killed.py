"""Processes that log until they are killed: `python -m tests.faults.killed FOLDER FIRST COUNT TOGETHER` runs the seeds from FIRST on, and ends when all are dead.

They are forked from this process, which has everything loaded and no thread, so that one costs milliseconds; so many at a time log into one journal folder.
What they tell stands in FOLDER/SEED: the writer once `init` has returned, then for each thread how many of its calls have.
"""

from __future__ import annotations

import heapq
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

import runstream
from runstream_producers import agent, shipper
from runstream_producers.journal import writer
from tests.faults.calls import CONFIG, PROJECT, Plan, call, plan_of, run_name
from tests.told import make, teller

# Loaded before the first fork, in whose children they would have to be loaded otherwise.
LOADED = (agent, shipper, writer)


def main() -> int:
    """Forks and kills."""
    folder = Path(sys.argv[1])
    first, count, together = map(int, sys.argv[2:5])
    waiting = list(range(first, first + count))[::-1]
    living: list[tuple[float, int, int]] = []
    code = 0
    while waiting or living:
        while waiting and len(living) < together:
            seed = waiting.pop()
            plan = plan_of(seed)
            make(folder / str(seed), 1 + plan.threads)
            began = time.monotonic()
            pid = os.fork()
            if pid == 0:
                log_until_killed(plan, folder / str(seed), began)
            heapq.heappush(living, (began + plan.life_s, pid, seed))
        at, pid, seed = heapq.heappop(living)
        time.sleep(max(0.0, at - time.monotonic()))
        os.kill(pid, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status != -signal.SIGKILL:
            sys.stderr.write(f"seed {seed} ended by itself: {status}\n")
            code = 1
    return code


def log_until_killed(plan: Plan, told: Path, began: float) -> None:
    """What a child does; never returns."""
    try:
        sys.setswitchinterval(plan.switch_s)
        os.environ["RUNSTREAM_SEGMENT_BYTES"] = str(plan.segment_bytes)
        numbers = teller(told)
        run = runstream.init(PROJECT, id=run_name(plan.seed), config=CONFIG)
        assert run._journal is not None
        numbers[0] = run._journal.identity.writer
        for thread in range(1, plan.threads):
            threading.Thread(target=log, args=(run, plan, thread, numbers, began), daemon=True).start()
        log(run, plan, 0, numbers, began)
    except BaseException:  # noqa: BLE001 - whatever it is, the child must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(3)


def log(run: runstream.Run, plan: Plan, thread: int, numbers: memoryview[int], began: float) -> None:
    """The calls of one thread, for ever. A machine that is busy may kill late, so that the spurt has an end."""
    spurt_at = began + plan.life_s - plan.spurt_s
    number = spurt = 0
    while True:
        call(run, plan.seed, thread, number)
        number += 1
        numbers[1 + thread] = number
        now = time.monotonic()
        if now < spurt_at:
            if number % plan.burst == 0:
                time.sleep(min(plan.pause_s, spurt_at - now))
        else:
            spurt += 1
            if spurt > 3000:
                time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
