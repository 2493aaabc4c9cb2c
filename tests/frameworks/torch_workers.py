"""Data loaders of torch whose workers log: `python -m tests.frameworks.torch_workers METHOD`, with METHOD how workers are started.

Meanwhile a thread of the parent logs without a pause, so that workers are forked in the middle of its calls.
"""

from __future__ import annotations

import importlib
import sys
import threading
from typing import Any

import runstream

torch: Any = importlib.import_module("torch")
data: Any = importlib.import_module("torch.utils.data")

ITEMS = 8


class Items(data.Dataset):
    """Logs each item that it gives, as a tensor."""

    def __init__(self, run: runstream.Run, epochs: str) -> None:
        self.run = run
        self.name = f"{epochs}-item"

    def __len__(self) -> int:
        return ITEMS

    def __getitem__(self, index: int) -> Any:
        self.run.log({self.name: torch.tensor(float(index))}, step=index)
        return index


def main() -> None:
    """Two epochs with workers that stay, one with workers of its own, one with a pool of torch's multiprocessing."""
    method = sys.argv[1]
    run = runstream.init("frameworks")
    over = threading.Event()

    def log_on() -> None:
        count = 0
        while not over.wait(0.0002):
            run.log({"thread": float(count), "tensor": torch.tensor(1.0)}, step=count)
            count += 1

    thread = threading.Thread(target=log_on)
    thread.start()
    try:
        stay = data.DataLoader(Items(run, "staying"), num_workers=2, multiprocessing_context=method, persistent_workers=True)
        for _ in range(2):
            assert sorted(int(index) for index in stay) == list(range(ITEMS))
        del stay
        once = data.DataLoader(Items(run, "once"), num_workers=2, multiprocessing_context=method, worker_init_fn=begun)
        assert sorted(int(index) for index in once) == list(range(ITEMS))
        pools: Any = importlib.import_module("torch.multiprocessing")
        pool = pools.get_context(method).Pool(2)
        assert sorted(pool.map(pooled, [(run, torch.tensor(float(number))) for number in range(4)], chunksize=1)) == [0.0, 1.0, 2.0, 3.0]
        pool.close()
        pool.join()
    finally:
        over.set()
        thread.join()
    run.finish(5)


def begun(worker: int) -> None:
    """Each worker begins with a row by the module-level call, on the run that came to it with its data set."""
    runstream.log({"begun": float(worker)})


def pooled(task: tuple[runstream.Run, Any]) -> float:
    """Logs a tensor that came through shared memory."""
    run, value = task
    run.log({"pooled": value})
    return float(value)


if __name__ == "__main__":
    main()
