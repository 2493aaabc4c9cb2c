"""What is done with each client, in a process of its own: `python work.py CLIENT TASK FOLDER`, with the Python that has the client. Uses the standard library and that client alone.

Tasks: `calls` and `durable` measure, `kill` dies right after its last call, `odd` logs what is no usual number, `read` reads back what the store in the folder holds.
"""

# What the methods of each client do, `Client` says once.
# ruff: noqa: D102

from __future__ import annotations

import importlib
import json
import math
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS_S = 6.0  # For both numbers of values together; a slow client makes fewer calls.
CALLS_WARM, CALLS_MIN, CALLS_MAX = 100, 200, 5_100  # Of each; the warm ones are among them, and do not count.
CALLS_A_TURN = 50
DURABLE_CALLS, DURABLE_S = 5_000, 15.0
KILL_CALLS, KILL_S = 500, 10.0
ODD = {"nan": math.nan, "inf": math.inf, "minus_inf": -math.inf, "smallest": 5e-324, "last_digit": 0.1 + 0.2}
PIPELINE_S = 60.0  # For all of a run to be readable at the end of the pipeline.
PIPELINE_QUIET_S = 5.0  # So long nothing more has come of a run that was killed.
PIPELINE_LOOK_S = 0.05
Points = list[tuple[str, float]]


class Client(Protocol):
    """One client: `begin`s a run in a folder, `log`s a row, `end`s the run; and `read`s back all points of a folder."""

    module: str

    def begin(self, folder: Path) -> None: ...
    def log(self, values: dict[str, float], step: int) -> None: ...
    def end(self) -> None: ...
    def read(self, folder: Path) -> Points: ...


class Runstream:
    """Ours: the journal alone, without Kafka and what is behind it."""

    module = "runstream"

    def begin(self, folder: Path) -> None:
        os.environ |= {"RUNSTREAM_HOME": str(folder), "RUNSTREAM_JOURNAL_DIR": str(folder / "journals"), "RUNSTREAM_CAPTURE": "none"}
        self._run: Any = importlib.import_module("runstream").init("peers", mode="offline")

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def end(self) -> None:
        self._run.finish()

    def read(self, folder: Path) -> Points:
        survey, export = (importlib.import_module(f"runstream_producers.journal.{name}") for name in ("survey", "export"))
        paths = sorted({path.parent for path in folder.rglob("writer.json")})
        rows = [row for path in paths for row in export.rows_of(survey.open_journal(path))]
        return [point for row in rows if row.kind == "metrics" for point in row.values.items()]


class Pipeline:
    """Ours with all that is behind it, which runs already and which the environment names: the run has ended once its points can be read from the view `metrics`."""

    module = "pipeline"

    def begin(self, folder: Path) -> None:
        os.environ["RUNSTREAM_CAPTURE"] = "none"
        folder.mkdir(exist_ok=True)
        self._run: Any = importlib.import_module("runstream").init("peers")

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def end(self) -> None:
        self._run.finish(PIPELINE_S)
        until = time.monotonic() + PIPELINE_S
        while (stored := self._stored()) < self._run.points_logged:
            if time.monotonic() > until:
                raise TimeoutError(f"{stored} of {self._run.points_logged} points could be read after {PIPELINE_S:g} s")
            time.sleep(PIPELINE_LOOK_S)

    def read(self, folder: Path) -> Points:
        # Of a run that was killed, too, for which the agent goes on.
        folder.mkdir(exist_ok=True)
        until, stored, quiet_since = time.monotonic() + PIPELINE_S, -1, time.monotonic()
        while time.monotonic() < min(until, quiet_since + PIPELINE_QUIET_S):
            if (now := self._stored()) != stored:
                stored, quiet_since = now, time.monotonic()
            time.sleep(PIPELINE_LOOK_S)
        return [(str(name), float(value)) for name, value in self._ask("name, value")]

    def _stored(self) -> int:
        return int(self._ask("count()")[0][0])

    def _ask(self, columns: str) -> Any:
        settings = importlib.import_module("runstream_schemas.settings").load()
        server: Any = importlib.import_module("runstream_sinks.clickhouse").Server(settings.clickhouse_url, settings.clickhouse_database)
        try:
            return server.query(f"SELECT {columns} FROM metrics WHERE run_id = {{run_id:UUID}}", {"run_id": os.environ["RUNSTREAM_RUN_ID"]})
        finally:
            server.close()


class TensorBoard:
    """Event files, as tensorboardX writes them."""

    module = "tensorboardX"

    def begin(self, folder: Path) -> None:
        self._writer: Any = importlib.import_module("tensorboardX").SummaryWriter(str(folder / "events"))

    def log(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def end(self) -> None:
        self._writer.close()

    def read(self, folder: Path) -> Points:
        events: Any = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
        found = events.EventAccumulator(str(folder / "events"), size_guidance={"scalars": 0})
        found.Reload()
        return [(name, one.value) for name in found.Tags()["scalars"] for one in found.Scalars(name)]


class Wandb:
    """W&B offline."""

    module = "wandb"

    def begin(self, folder: Path) -> None:
        os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_DIR": str(folder), "WANDB_CONSOLE": "off"}
        self._run: Any = importlib.import_module("wandb").init(project="peers", dir=str(folder))

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step)

    def end(self) -> None:
        self._run.finish()

    def read(self, folder: Path) -> Points:
        records: Any = importlib.import_module("wandb.proto.wandb_internal_pb2")
        out: Points = []
        for path in folder.rglob("*.wandb"):
            for data in _leveldb_records(path.read_bytes()):
                record = records.Record()
                record.ParseFromString(data)
                for item in record.history.item:
                    name = item.key or ".".join(item.nested_key)
                    value = json.loads(item.value_json)
                    if not name.startswith("_") and isinstance(value, int | float | str):
                        out.append((name, float(value)))
        return out


def _leveldb_records(data: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes it, behind W&B's seven bytes: blocks of 32 KiB with pieces that have checksum, length and kind before them. Stops where a piece is not whole."""
    block, lead, first, last = 1 << 15, 7, (1, 2), (1, 4)
    at, whole = 7, b""
    while at + lead <= len(data):
        if block - at % block < lead:
            at += block - at % block
            continue
        size, kind = int.from_bytes(data[at + 4 : at + 6], "little"), data[at + 6]
        if not 1 <= kind <= 4 or at + lead + size > len(data):
            return
        whole = (b"" if kind in first else whole) + data[at + lead : at + lead + size]
        at += lead + size
        if kind in last:
            yield whole


class Mlflow:
    """MLflow's file store."""

    module = "mlflow"

    def begin(self, folder: Path) -> None:
        # Releases of late ask before they use the file store.
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        self._mlflow: Any = importlib.import_module("mlflow")
        self._mlflow.set_tracking_uri(f"file://{folder}/mlruns")
        self._mlflow.start_run()

    def log(self, values: dict[str, float], step: int) -> None:
        self._mlflow.log_metrics(values, step=step)

    def end(self) -> None:
        self._mlflow.end_run()

    def read(self, folder: Path) -> Points:
        # One file a metric, one line a point: moment, value, step.
        out: Points = []
        for base in (folder / "mlruns").rglob("metrics"):
            for path in (path for path in base.rglob("*") if path.is_file()):
                out += [(str(path.relative_to(base)), float(line.split()[1])) for line in path.read_text().splitlines() if len(line.split()) >= 3]
        return out


class Trackio:
    """Trackio's SQLite file."""

    module = "trackio"

    def begin(self, folder: Path) -> None:
        os.environ["TRACKIO_DIR"] = str(folder)
        self._trackio: Any = importlib.import_module("trackio")
        self._trackio.init(project="peers")

    def log(self, values: dict[str, float], step: int) -> None:
        self._trackio.log(values, step=step)

    def end(self) -> None:
        self._trackio.finish()

    def read(self, folder: Path) -> Points:
        sqlite: Any = importlib.import_module("sqlite3")
        out: Points = []
        for path in folder.rglob("*.db"):
            with sqlite.connect(path) as base:
                tables = [name for (name,) in base.execute("select name from sqlite_master where type = 'table' and name = 'metrics'")]
                for text in (text for name in tables for (text,) in base.execute(f"select metrics from {name}")):
                    values = json.loads(text)
                    out += [(name, _number(value)) for name, value in values.items()]
        return out


class Aim:
    """Aim's RocksDB files."""

    module = "aim"

    def begin(self, folder: Path) -> None:
        self._run: Any = importlib.import_module("aim").Run(repo=str(folder), capture_terminal_logs=False)

    def log(self, values: dict[str, float], step: int) -> None:
        self._run.track(values, step=step)

    def end(self) -> None:
        self._run.close()

    def read(self, folder: Path) -> Points:
        aim, index = (importlib.import_module(name) for name in ("aim", "aim.sdk.index_manager"))
        repo: Any = aim.Repo(str(folder))
        # Runs are read through an index, which Aim's server makes of their files as they come.
        manager = index.RepoIndexManager(repo)
        for run in repo.list_all_runs():
            manager.index(run)
        repo.container_pool.clear()
        metrics = [metric for run in repo.list_all_runs() for metric in aim.Run(run, repo=repo, read_only=True).metrics()]
        return [(metric.name, float(value)) for metric in metrics for value in metric.values.sparse_numpy()[1]]


def _number(value: Any) -> float:
    names = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return names.get(value, math.nan) if isinstance(value, str) else float(value)


CLIENTS: dict[str, type[Any]] = {one.module: one for one in (Runstream, Pipeline, TensorBoard, Wandb, Mlflow, Trackio, Aim)}


def _values(names: int, step: int) -> dict[str, float]:
    return {f"layer_{one}/grad_norm": step + one / 7 for one in range(names)}


def calls(client: Client, folder: Path) -> dict[str, Any]:
    """Median and 99th percentile of one call with 1 and with 20 values, in microseconds, by turns of 50 calls, so that what the client does beside them falls on both.

    The first 100 of each do not count.
    """
    client.begin(folder)
    took: dict[int, list[int]] = {1: [], 20: []}
    step = 0
    until = time.monotonic() + CALLS_S
    while len(took[20]) < CALLS_MIN or (len(took[20]) < CALLS_MAX and time.monotonic() < until):
        for names, times in took.items():
            for _ in range(CALLS_A_TURN):
                values = _values(names, step)
                begun = time.perf_counter_ns()
                client.log(values, step)
                times.append(time.perf_counter_ns() - begun)
                step += 1
    client.end()
    out: dict[str, Any] = {}
    for names, times in took.items():
        counted = sorted(times[CALLS_WARM:])
        out |= {
            f"call_us_{names}": counted[len(counted) // 2] / 1e3,
            f"call_p99_us_{names}": counted[len(counted) * 99 // 100] / 1e3,
            f"calls_{names}": len(counted),
        }
    return out


def durable(client: Client, folder: Path) -> dict[str, Any]:
    """Points a second, from the first call to the return of the call that ends the run."""
    client.begin(folder)
    begun = time.monotonic()
    step = 0
    while step < DURABLE_CALLS and time.monotonic() - begun < DURABLE_S:
        client.log(_values(20, step), step)
        step += 1
    client.end()
    return {"durable_points": 20 * step, "durable_s": time.monotonic() - begun}


def kill(client: Client, folder: Path) -> None:
    """Dies right after the last call has returned."""
    client.begin(folder)
    until = time.monotonic() + KILL_S
    step = 0
    while step < KILL_CALLS and time.monotonic() < until:
        client.log(_values(20, step), step)
        step += 1
    os.write(1, json.dumps({"logged": 20 * step}).encode() + b"\n")
    os.kill(os.getpid(), signal.SIGKILL)


def odd(client: Client, folder: Path) -> dict[str, Any]:
    """Logs what is no usual number."""
    client.begin(folder)
    client.log(ODD, 0)
    client.end()
    return {}


def read(client: Client, folder: Path) -> dict[str, Any]:
    """How many points a folder holds, and which of the odd ones came back as they were."""
    points = client.read(folder)
    found = dict(points)
    same = [name for name, value in ODD.items() if name in found and (found[name] == value or (math.isnan(value) and math.isnan(found[name])))]
    return {"points": sum(name.startswith("layer_") for name, _ in points), "same": same}


def main() -> None:
    """Does one task with one client and prints what it found as one line of JSON."""
    name, task, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    done = {"calls": calls, "durable": durable, "kill": kill, "odd": odd, "read": read}[task](CLIENTS[name](), folder)
    sys.stdout.write("\n" + json.dumps(done) + "\n")


if __name__ == "__main__":
    main()
