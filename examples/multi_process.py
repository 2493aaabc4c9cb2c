"""Several processes in one run: spawned workers join the run of the process that starts them, each as a writer of its own.

Under a launcher (torchrun, srun, mpirun, Ray) nothing of this is needed: every rank calls `init` alike, and they meet.

python examples/multi_process.py
"""

from __future__ import annotations

import multiprocessing as mp
import random

import runstream

WORKERS = 3
STEPS = 50


def work(number: int) -> None:
    """Logs as another writer of the run above, with what it is about as the subject."""
    with runstream.attach() as run:
        chance = random.Random(number)
        value = 1.0
        for step in range(STEPS):
            value *= 0.9 + 0.15 * chance.random()
            run.log({"worker/value": value}, step=step, subject=f"worker/{number}")
        run.log_event("worker_done", source="pool", subject=f"worker/{number}", metadata={"value": value})


def main() -> None:
    """Starts the workers and waits for them."""
    with runstream.init(project="examples", name="multi-process", config={"workers": WORKERS, "steps": STEPS}) as run:
        context = mp.get_context("spawn")
        workers = [context.Process(target=work, args=(number,)) for number in range(WORKERS)]
        for one in workers:
            one.start()
        for one in workers:
            one.join()
        run.log({"workers/failed": sum(one.exitcode != 0 for one in workers)})
        if any(one.exitcode for one in workers):
            run.alert("a worker failed", f"exit codes {[one.exitcode for one in workers]}", "critical")
    print(f"run {run.id}: {WORKERS} workers")  # noqa: T201


if __name__ == "__main__":
    main()
