"""A notebook's kernel, driven as Jupyter drives it: `python -m tests.frameworks.notebook FOLDER`. What each cell wrote is written down for the tests."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

jupyter: Any = importlib.import_module("jupyter_client.manager")

CELL_S = 60

BEGIN = """
import runstream
run = runstream.init("frameworks", name="cell")
run.log({"cell": 1.0})
print(run.id)
"""

# A thread that goes on logging when its cell has ended.
THREAD = """
import threading
over = threading.Event()

def log_on():
    count = 0
    while not over.wait(0.001):
        run.log({"thread": float(count)}, step=count)
        count += 1

thread = threading.Thread(target=log_on)
thread.start()
"""

# A program that begins a run and leaves it open, as most do.
SCRIPT = """
import sys
import runstream
run = runstream.init("frameworks", name="script")
run.log({"script": 1.0})
print(run.id)
sys.exit(3)
"""

FORK = """
import multiprocessing as mp

def work(number):
    run.log({"forked": float(number)})
    return number

with mp.get_context("fork").Pool(2) as pool:
    print(sum(pool.map(work, range(4), chunksize=1)))
    pool.close()
    pool.join()
"""

ASYNC = """
import asyncio
async def log(name):
    for step in range(5):
        run.log({name: float(step)}, step=step)
        await asyncio.sleep(0)
await asyncio.gather(log("async-a"), log("async-b"))
"""

NAMED = """
import runstream
run = runstream.init("frameworks", id="notebook")
run.log({"named": 1.0})
print(run.id)
"""


class Notebook:
    """A kernel, and what its cells wrote to their outputs and raised."""

    def __init__(self) -> None:
        self.manager, self._client = jupyter.start_new_kernel(kernel_name="python3")
        self.cells: dict[str, dict[str, str]] = {}

    def cell(self, name: str, code: str) -> None:
        """Runs a cell to its end."""
        self._wait(name, self._client.execute(code))

    def interrupted(self, name: str, code: str) -> None:
        """Runs a cell that prints `ready`, and interrupts it then."""
        message_id = self._client.execute(code)
        while self._client.get_iopub_msg(timeout=CELL_S)["content"].get("text", "").strip() != "ready":
            pass
        self.manager.interrupt_kernel()
        self._wait(name, message_id)

    def restart(self, *, now: bool) -> None:
        """Starts the kernel again; `now` gives it no time to end."""
        self.manager.restart_kernel(now=now)
        self._client.wait_for_ready(timeout=CELL_S)

    def end(self) -> None:
        """Ends the kernel as closing a notebook does."""
        self._client.stop_channels()
        self.manager.shutdown_kernel()

    def _wait(self, name: str, message_id: str) -> None:
        out = self.cells[name] = {"stdout": "", "stderr": "", "error": ""}
        while True:
            message = self._client.get_iopub_msg(timeout=CELL_S)
            content = message["content"]
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["msg_type"] == "stream":
                out[content["name"]] += content["text"]
            elif message["msg_type"] == "error":
                out["error"] = content["ename"]
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return


def main() -> None:
    """A session: cells run again, a program, threads, children, an error and an interruption; then the kernel is started again, twice."""
    folder = Path(sys.argv[1])
    (folder / "script.py").write_text(SCRIPT)
    notebook = Notebook()
    try:
        notebook.cell("first", BEGIN)
        notebook.cell("again", BEGIN)
        notebook.cell("error", "run.log({'cell': 2.0})\nraise ValueError('of a cell')")
        notebook.interrupted("interrupted", "import time\nprint('ready', flush=True)\ntime.sleep(60)")
        notebook.cell("exit", "import sys\nsys.exit(4)")
        notebook.cell("thread", THREAD)
        notebook.cell("fork", FORK)
        notebook.cell("async", ASYNC)
        notebook.cell("joined", "over.set()\nthread.join()\nrun.log({'cell': 3.0})")
        notebook.cell("script", f"%run {folder / 'script.py'}")
        notebook.cell("named", NAMED)
        notebook.restart(now=False)
        notebook.cell("restarted", NAMED)
        notebook.restart(now=True)
        notebook.cell("killed", NAMED)
    finally:
        notebook.end()
    (folder / "cells.json").write_text(json.dumps(notebook.cells))


if __name__ == "__main__":
    main()
