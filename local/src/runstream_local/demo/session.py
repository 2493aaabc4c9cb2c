"""Runs the demo: the embedded stack, two ranks that train, a live view, and the report at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.rule import Rule

from runstream_local.demo import reads, show
from runstream_schemas.ids import new_uuid
from runstream_schemas.settings import Settings, environment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from runstream_local.demo.reads import Ask, Rows, Verdict

WORLD_SIZE = 2
# Rank 0 learns. Rank 1's rate grows until its training diverges, some way through, so that an alert has a true reason to fire.
LEARNING_RATES = (0.1, 1.5)
TRAINING_LIMIT_S = 120.0
SETTLE_LIMIT_S = 30.0  # How long after training everything logged may take to be stored, before the demo calls it lost.
POLL_S = 0.5


class Rank:
    """One training process, and what it told last."""

    def __init__(self, rank: int, environment: dict[str, str], folder: Path, epochs: int, progress: show.Progress) -> None:
        self.rank = rank
        self._progress = progress
        self.errors = folder / f"rank{rank}.err"
        command = [sys.executable, "-m", "runstream_local.demo.train", "--epochs", str(epochs)]
        command += ["--learning-rate", str(LEARNING_RATES[rank]), "--checkpoints", str(folder)]
        # One thread a rank: two ranks share this machine with the whole pipeline.
        place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, env=environment | place, text=True)
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            self._progress.ranks[self.rank] = json.loads(line)

    def end(self) -> None:
        """Ends the process if it still runs, and takes in what it said last."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(timeout=5)
        assert self.process.stdout is not None
        self.process.stdout.close()


def train_and_watch(settings: Settings, ask: Ask, *, epochs: int, console: Console) -> tuple[str, Verdict, Callable[[], None]]:
    """Trains two ranks against a stack that runs, showing them live; returns the run, the verdict, and how to print the report."""
    run_id = new_uuid()
    progress = show.Progress(epochs)
    own = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
    environment = own | environment_of(settings.model_copy(update={"run_id": run_id, "hardware_interval": 1.0, "agent_idle_timeout": 5.0}))
    with tempfile.TemporaryDirectory(prefix="runstream-demo-") as name, ExitStack() as stack:
        ranks = [Rank(rank, environment, Path(name), epochs, progress) for rank in range(WORLD_SIZE)]
        for rank in ranks:
            stack.callback(rank.end)
        begun = time.monotonic()
        with _view(console, progress, begun) as refresh:
            while any(rank.process.poll() is None for rank in ranks) and time.monotonic() - begun < TRAINING_LIMIT_S:
                _look(progress, ask, run_id)
                refresh()
                time.sleep(POLL_S)
            for rank in ranks:
                rank.end()
            failed = [
                f"rank {rank.rank} ended with exit code {rank.process.returncode}: {rank.errors.read_text()[-800:]}"
                for rank in ranks
                if rank.process.returncode
            ]
            account, alerts, judged = _settle(progress, ask, run_id, refresh)
    judged = reads.Verdict(judged.balanced, judged.alerted and not failed, (*failed, *judged.reasons))

    def report() -> None:
        _report(console, ask, run_id, account, alerts, judged)

    return run_id, judged, report


def _look(progress: show.Progress, ask: Ask, run_id: str) -> None:
    stored = ask(reads.STORED, {"run": run_id})[0]
    progress.stored, progress.hardware = int(stored["metrics"]), int(stored["hardware"])
    progress.alerts = ask(reads.ALERTS, {"run": run_id})


def _settle(progress: show.Progress, ask: Ask, run_id: str, refresh: Callable[[], None]) -> tuple[Rows, Rows, Verdict]:
    """Waits, bounded, until everything logged is stored."""
    deadline = time.monotonic() + SETTLE_LIMIT_S
    while True:
        _look(progress, ask, run_id)
        account = ask(reads.ACCOUNT, {"run": run_id})
        logged = {rank: int(told["logged"]) for rank, told in progress.ranks.items()}
        judged = reads.verdict(account, progress.alerts, logged)
        refresh()
        if judged.holds or time.monotonic() > deadline:
            return account, progress.alerts, judged
        time.sleep(POLL_S)


@contextmanager
def _view(console: Console, progress: show.Progress, begun: float) -> Generator[Callable[[], None]]:
    """The live view on a terminal; plain lines, every other second, where there is none."""
    if console.is_terminal:
        with Live(show.live(progress, 0.0), console=console, auto_refresh=False, transient=True) as shown:
            yield lambda: shown.update(show.live(progress, time.monotonic() - begun), refresh=True)
        return
    told_at = [-2.0]

    def plain() -> None:
        elapsed = time.monotonic() - begun
        if elapsed - told_at[0] >= 2.0:
            told_at[0] = elapsed
            console.print(progress.line(elapsed), soft_wrap=True, highlight=False)

    yield plain
    told_at[0] = -2.0
    plain()


def _report(console: Console, ask: Ask, run_id: str, account: Rows, alerts: Rows, judged: Verdict) -> None:
    parameters = {"run": run_id}

    def part(title: str, body: Any) -> None:
        console.print()
        console.print(Rule(title, align="left", style="dim"))
        console.print(body)

    part("Learning curve: training loss by epoch", show.curve(ask(reads.CURVE, parameters), console.width))
    part("Summary of each metric", show.summaries(ask(reads.SUMMARIES, parameters)))
    part("Alerts, and how long they took from log() to firing", show.alerts(alerts))
    part("Checkpoints", show.checkpoints(ask(reads.CHECKPOINTS, parameters)))
    part("Hardware by process", show.hardware(ask(reads.HARDWARE, parameters)))
    part("Account of the run", show.account(account, judged))
