"""`python -m benchmarks.peers`: the same logging work through each client, in a process of its own, and what came of it as JSON and as docs/peers.md.

`make peers` makes the environment that has the other clients; ours runs in the one that runs this.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.peers.page import page
from benchmarks.pipeline import pipeline
from benchmarks.results import measured_here
from runstream_schemas.ids import new_uuid

ROOT = Path(__file__).resolve().parents[2]
WORK = Path(__file__).with_name("work.py")
RESULTS = Path(__file__).with_name("results.json")
PAGE = ROOT / "docs" / "peers.md"
# As users know them, their package, and what is said of them where a reader would wonder.
CLIENTS = {
    "runstream": "Runstream's journal",
    "pipeline": "Runstream, whole pipeline",
    "tensorboardX": "TensorBoard (tensorboardX)",
    "wandb": "W&B offline",
    "mlflow": "MLflow, file store",
    "trackio": "Trackio",
    "aim": "Aim",
}
OURS = ("runstream", "pipeline")
PACKAGES = {"mlflow": "mlflow-skinny"}
AFTER_KILL_S = 3.0  # For helper processes of a client to write what they have got.
TASK_S = 120


def _task(python: Path, name: str, task: str, folder: Path, run_id: str) -> dict[str, Any]:
    """What a task printed last; raises RuntimeError with its last words where it printed nothing. In the pipeline its run has an id of its own."""
    environ = os.environ | {"PYTHONWARNINGS": "ignore", "HOME": str(folder), "NO_COLOR": "1"} | ({"RUNSTREAM_RUN_ID": run_id} if name == "pipeline" else {})
    ended = subprocess.run(
        [python, WORK, name, task, folder], capture_output=True, text=True, errors="replace", timeout=TASK_S, check=False, env=environ, cwd=folder
    )
    found = [line for line in ended.stdout.splitlines() if line.startswith("{")]
    if not found:
        raise RuntimeError(f"{name} {task} ended with {ended.returncode}: {ended.stderr[-1000:]}")
    return json.loads(found[-1])


def measured(python: Path, name: str) -> dict[str, Any]:
    """All figures of one client."""
    out: dict[str, Any] = {"client": CLIENTS[name], "package": name}
    with tempfile.TemporaryDirectory(prefix="runstream-peers-", ignore_cleanup_errors=True) as base:
        for task in ("calls", "durable", "kill", "odd"):
            folder = Path(base) / task
            folder.mkdir()
            run_id = new_uuid()
            done = _task(python, name, task, folder, run_id)
            if task == "kill":
                time.sleep(AFTER_KILL_S)
                out |= {"killed_logged": done["logged"], "killed_left": _task(python, name, "read", folder, run_id)["points"]}
            elif task == "odd":
                out["odd_same"] = _task(python, name, "read", folder, run_id)["same"]
            else:
                out |= done
                if task == "durable":
                    out["durable_left"] = _task(python, name, "read", folder, run_id)["points"]
    return out


def _version(python: Path, name: str) -> str:
    if name in OURS:
        return version("runstream")
    script = f"from importlib.metadata import version; print(version({PACKAGES.get(name, name)!r}))"
    return subprocess.run([python, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def machine() -> dict[str, Any]:
    """What it runs on, and how many processes wanted a core in the last minute."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), platform.machine()
    )
    load = round(os.getloadavg()[0], 1)
    return {"cpu": model, "cores": os.cpu_count(), "load": load, "python": platform.python_version(), "system": f"{platform.system()} {platform.release()}"}


def main() -> int:
    """Measures, or with --page makes the page of what was measured before."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--python", type=Path, default=ROOT / ".venv-peers" / "bin" / "python", help="the Python that has the other clients")
    parser.add_argument("--page", action="store_true", help="write docs/peers.md from the results that are there, and measure nothing")
    asked = parser.parse_args()
    if not asked.page:
        if not asked.python.exists():
            sys.stderr.write(f"there is no {asked.python}: `make peers` makes it\n")
            return 2
        found: list[dict[str, Any]] = []
        ran_on = machine()
        for name in CLIENTS:
            python = Path(sys.executable) if name in OURS else asked.python
            # What is behind the log call runs beside that row alone.
            with pipeline() if name == "pipeline" else contextlib.nullcontext():
                found.append({"version": _version(python, name)} | measured(python, name))
            sys.stdout.write(json.dumps(found[-1]) + "\n")
            sys.stdout.flush()
        here = measured_here("peers", [])
        RESULTS.write_text(json.dumps({"measured": here.measured, "commit": here.commit, "machine": ran_on, "clients": found}, indent=1) + "\n")
    PAGE.write_text(page(json.loads(RESULTS.read_text())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
