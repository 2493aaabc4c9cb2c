"""A rank under torchrun: `torchrun ... -m tests.frameworks.torchrun_rank WHAT`.

`log` logs and ends; `die` lets rank 1 end with code 3 in its first start; `train` trains a model with DistributedDataParallel over gloo and logs what ranks hold in common and alone.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import runstream


def train(run: runstream.Run) -> None:
    """A few steps of DDP, with its reduced loss, and distributed tensors as values."""
    torch: Any = importlib.import_module("torch")
    distributed: Any = importlib.import_module("torch.distributed")
    tensor: Any = importlib.import_module("torch.distributed.tensor")
    distributed.init_process_group("gloo")
    rank = distributed.get_rank()
    torch.manual_seed(0)
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step in range(5):
        optimizer.zero_grad()
        loss = (model(torch.full((2, 4), float(rank + 1))) ** 2).mean()
        loss.backward()
        optimizer.step()
        mean = loss.detach().clone()
        work = distributed.all_reduce(mean, async_op=True)
        run.log({"loss": loss, "norm": torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)}, step=step)
        work.wait()
        run.log({"mean": mean / 2}, step=step)
    mesh = tensor.init_device_mesh("cpu", (2,))
    spread = tensor.distribute_tensor(torch.arange(4.0), mesh, [tensor.Shard(0)])
    whole = tensor.distribute_tensor(torch.tensor(2.5), mesh, [tensor.Replicate()])
    run.log({"replicated": whole, "summed": spread.sum().full_tensor(), "part": spread.sum()}, step=100)
    distributed.barrier()
    distributed.destroy_process_group()


def main() -> None:
    """Logs, then does what it was told to."""
    run = runstream.init("frameworks", config={"what": sys.argv[1]})
    run.log({"rank": run.rank, "restarts": int(os.environ["TORCHELASTIC_RESTART_COUNT"])})
    if sys.argv[1] == "train":
        train(run)
    elif sys.argv[1] == "die" and run.rank == 1 and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        sys.exit(3)
    run.finish(5)


if __name__ == "__main__":
    main()
