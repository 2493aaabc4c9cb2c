"""A rank with eight simulated GPUs and packages of its own, whose console is recorded: `python -m tests.integration.surroundings_rank SITE`."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time

import runstream
from benchmarks.simulated_nvml import Gpu, Library, all_fields, installed

PROJECT, NAME, EXTERNAL = "surroundings", "whole", "job-10"
ROUNDS = 3


def main(site: str) -> None:
    """Logs everything, and ends once there are some rounds of readings."""
    library = Library([Gpu(f"GPU-{number}", fields=all_fields(), processes=[(os.getpid(), 1 << 30)]) for number in range(8)])
    library.gpus[5].lost = True  # From the second round on it is read all the same, and is a gap.
    library.failing["nvmlDeviceGetPowerUsage", 2] = 999
    with installed(library):
        run = runstream.init(PROJECT, NAME, external_id=EXTERNAL, mode="inline", console=True, hardware_interval_s=1)
        stdlib = [path for path in sys.path if path.startswith(sysconfig.get_path("stdlib"))]
        before, sys.path[:] = sys.path[:], [site, *[path for path in stdlib if "site-packages" not in path]]
        run.log_packages()
        sys.path[:] = before
        sys.stdout.write("epoch 1: grün, password=hunter2\n")
        subprocess.run(["sh", "-c", "echo from a child >&2"], check=True)
        sys.stdout.write("10%\r100%\n")
        sys.stdout.flush()
        until = time.monotonic() + 30
        while sum(name == "nvmlDeviceGetTemperature" and place == 0 for name, place in library.calls) < ROUNDS and time.monotonic() < until:
            for gpu in library.gpus:
                gpu.fields.update(all_fields(gpu.fields[83] + 1000))
            time.sleep(0.2)
        time.sleep(0.3)
        finished = run.finish()
    sys.stdout.write(f"{finished.shipped}\n")


if __name__ == "__main__":
    main(sys.argv[1])
