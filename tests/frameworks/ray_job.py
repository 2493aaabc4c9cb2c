"""A job of Ray: `python -m tests.frameworks.ray_job FOLDER`. Its actors join one run by an id, its tasks are sent the run of the driver, and Ray Train starts its workers again once."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import runstream

ray: Any = importlib.import_module("ray")
train: Any = importlib.import_module("ray.train")
trainers: Any = importlib.import_module("ray.train.v2.api.data_parallel_trainer")


class Actor:
    """Joins the run that its environment names."""

    def work(self, number: int) -> str:
        """Logs, and ends this process's part."""
        with runstream.init("frameworks") as run:
            run.log({"actor": float(number)})
            return run.id


def task(run: runstream.Run, number: int) -> str:
    """Logs on the run that it was sent, and ends this process's part."""
    run.log({"task": float(number)})
    run.finish(5)
    return run.id


def loop(config: dict[str, str]) -> None:
    """What Ray Train runs in each worker; rank 1 fails the first time, once rank 0 has logged, since the workers are then started again."""
    rank = train.get_context().get_world_rank()
    logged, failed = Path(config["folder"]) / "logged", Path(config["folder"]) / "failed"
    with runstream.init("frameworks") as run:
        run.log({"trained": float(rank)})
        if rank == 0:
            logged.touch()
        elif not failed.exists():
            deadline = time.monotonic() + 60
            while not logged.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            failed.touch()
            raise ValueError("once")


def main() -> None:
    """Starts Ray, does all three, and writes down which runs there were."""
    folder = Path(sys.argv[1])
    # Sockets lie in this folder, whose path has to be short.
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as short:
        ray.init(num_cpus=2, include_dashboard=False, configure_logging=False, object_store_memory=80 << 20, _temp_dir=short)
        try:
            with runstream.init("frameworks") as run:
                run.log({"driver": 1.0})
                joined = {"env_vars": {"RUNSTREAM_RUN_ID": "all-actors"}}
                actors = [ray.remote(Actor).options(num_cpus=1, runtime_env=joined).remote() for _ in range(2)]
                ids = {"actors": ray.get([actor.work.remote(number) for number, actor in enumerate(actors)])}
                del actors
                ids["tasks"] = ray.get([ray.remote(task).remote(run, number) for number in range(3)])
                ids["driver"] = [run.id]
            scaling = train.ScalingConfig(num_workers=2, resources_per_worker={"CPU": 0.5})
            again = importlib.import_module("ray.train.v2.api.config")
            config = again.RunConfig(storage_path=str(folder / "ray"), failure_config=again.FailureConfig(max_failures=1))
            trainers.DataParallelTrainer(loop, train_loop_config={"folder": str(folder)}, scaling_config=scaling, run_config=config).fit()
        finally:
            ray.shutdown()
    (folder / "ids.json").write_text(json.dumps(ids))


if __name__ == "__main__":
    main()
