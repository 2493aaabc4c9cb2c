"""Runs the demo: the embedded stack, two ranks that train, a live view, and the report at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress
from rich.rule import Rule
from rich.table import Table

from runstream_local.demo import reads, show
from runstream_local.demo.agents import end_agents
from runstream_local.errors import SqlError
from runstream_local.stack import Stack
from runstream_local.stack_file import read_stack
from runstream_schemas.ids import new_uuid
from runstream_schemas.settings import Settings, environment_of, load

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from runstream_local.demo.reads import Ask, Rows, Verdict

WORLD_SIZE = 2
# Rank 0 learns. Rank 1's rate grows until its training diverges, some way through, so that an alert has a true reason to fire.
LEARNING_RATES = (0.1, 2.0)
TRAINING_LIMIT_S = 120.0
SETTLE_LIMIT_S = 30.0  # How long after training everything logged may take to be stored, before the demo calls it lost.
POLL_S = 0.5
AGENTS_END_S = 7.0


@contextmanager
def stack_on(settings: Settings, console: Console) -> Generator[Settings]:
    """The stack that runs on the home folder, or one that lives as long as the demo; gives the settings that reach it.

    Raises:
        LocalError: it could not be started.
    """
    running = read_stack(settings.home_dir)
    if running is not None:
        console.print(f"using the stack that runs on {settings.home_dir}")
        yield _settings_of(settings.home_dir)
        return
    console.print(f"starting Kafka, ClickHouse, a Faust worker, a sink worker and a notifier on {settings.home_dir} ...")
    begun = time.monotonic()
    stack = Stack(data=settings.home_dir)
    for notice in stack.notices:
        console.print(notice)
    try:
        with _download(console) as progress:
            stack.start(progress=progress)
        stack.wait_healthy()
        console.print(f"the stack is up after {time.monotonic() - begun:.1f} s: Kafka at {stack.kafka}, ClickHouse at {stack.clickhouse_url}")
        yield _settings_of(settings.home_dir)
    finally:
        console.print("stopping the stack ...", style="dim")
        # Agents first, while Kafka still answers them.
        end_agents(settings.home_dir / "journals", timeout_s=AGENTS_END_S)
        stack.stop()


def _settings_of(home: Path) -> Settings:
    """Every address as the stack says, and nothing of the user's own Kafka: the demo keeps to this machine."""
    return load({"home": home, "journal_dir": home / "journals"}, environ={})


@contextmanager
def _download(console: Console) -> Generator[Callable[[int, int], None]]:
    """Shows how much of Kafka is here, the first time that it is needed."""
    shown = Progress("fetching Apache Kafka", BarColumn(), DownloadColumn(), console=console, transient=True)
    task = shown.add_task("fetch", total=None, visible=False)
    with shown:
        yield lambda here, total: shown.update(task, completed=here, total=total, visible=True)


def asker(settings: Settings) -> Ask:
    """Asks ClickHouse over its HTTP interface, the way any client would; the questions raise SqlError when there is no answer."""

    def ask(sql: str, parameters: dict[str, str]) -> Rows:
        query = {f"param_{name}": value for name, value in parameters.items()}
        query |= {
            "database": settings.clickhouse_database,
            "default_format": "JSON",
            "output_format_json_quote_64bit_integers": "0",
            "output_format_json_quote_denormals": "1",
        }
        request = urllib.request.Request(f"{settings.clickhouse_url}/?{urllib.parse.urlencode(query)}", data=sql.encode(), method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise SqlError(f"ClickHouse refused a question of the demo: {error.read().decode(errors='replace')[:500]}") from error
        except OSError as error:
            raise SqlError(f"ClickHouse at {settings.clickhouse_url} did not answer: {error}") from error

    return ask


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
        summarised = {rank: int(ask(reads.SUMMARISED, {"run": run_id, "rank": str(rank)})[0]["points"]) for rank in logged}
        judged = reads.verdict(account, progress.alerts, logged, summarised)
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


def say_where_to_go(console: Console, settings: Settings, run_id: str, seconds: float) -> None:
    """The last words: what to try next on what was recorded."""
    # As the user called it: from a checkout the command is not on the path.
    command = sys.argv[0] if os.sep in sys.argv[0] and Path(sys.argv[0]).name == "runstream" else "runstream"
    home = "" if settings.home_dir == Settings().home_dir else f" --data {settings.home_dir}"
    best = f"SELECT name, rank, max(value) FROM metrics WHERE run_id = '{run_id}' GROUP BY name, rank"  # noqa: S608 - it is shown, not run
    console.print()
    console.print(Rule(f"done in {seconds:.0f} s; what to do next", align="left", style="dim"))
    steps = Table(box=None, padding=(0, 3, 0, 2), show_header=False)
    steps.add_row(f"{command} up{home}", "the stack again, with this run in it")
    steps.add_row(f'{command} sql "SELECT …"', "whatever you ask, such as:")
    console.print(steps)
    console.print(f"    {best}", soft_wrap=True, style="dim")
    console.print("  README.md has the lines for a training script of your own, and more SQL.", soft_wrap=True)
