"""The whole pipeline under a load: ranks in processes of their own, their agent, Kafka, a processor with rules, a sink and the engine, on the cores of this machine; and what was seen of it.

`run_load` offers a rate for a while. Meanwhile a reader asks for rows of every rank as they become visible, another reads alerts, and the seconds that each part spends on a core
are counted. Ages are those of `freshness` and `alert_latency`: from the time of the `log` call to the answer that first has the row, and to the moment at which the alert's record
can be read.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from confluent_kafka import Consumer, Producer

import runstream
from benchmarks.broker import agent_of, logging_to_a_broker
from benchmarks.data.training_rows import rows
from benchmarks.process_memory import own_mb
from benchmarks.visible import WATCHED, Reader, Stored
from runstream_local.stack_file import read_stack
from runstream_schemas import wire
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import Alert, Rule
from runstream_schemas.settings import load
from runstream_schemas.topics import TOPICS
from runstream_sinks.clickhouse import Server

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from runstream_schemas.settings import Settings

STAGES = ("ranks", "agent", "kafka", "processors", "sinks", "clickhouse")
PARTS = ("clickhouse", "migrate", "sinks", "processors")
_ALARM_ON_S = 1.0
_ALARMS_A_SECOND = 1.0
_ALARMS_MAX = 60
_BURST_S = 0.01  # Between a rank's bursts of calls, which together keep the rate.
_LOOK_S = 0.1  # Between looks at the rows; part of their ages.
_QUIET_S = 30.0  # So long nothing new has come, when rows are given up.
_DRAIN_S = 120.0


@dataclass(frozen=True, slots=True)
class Load:
    """What is offered: so many ranks, each logging so many calls a second of so many names, the names of `sets` key sets in turn; for so long, of which the first seconds do not count."""

    ranks: int
    names: int
    calls_s: float
    seconds: float
    sets: int = 1
    warm_s: float = 6.0

    @property
    def points_s(self) -> float:
        """Points a second that are offered."""
        return self.ranks * self.names * self.calls_s

    @property
    def calls(self) -> int:
        """Calls of each rank, the first seconds included; the values of no two are the same."""
        return math.ceil(self.calls_s * (self.warm_s + self.seconds))

    @property
    def series(self) -> int:
        """Series of the run."""
        return self.ranks * self.names * self.sets

    @property
    def alarms(self) -> int:
        """How many metrics step over their bound, one after the other, each on the next rank."""
        return max(1, min(_ALARMS_MAX, self.names // 2, int(_ALARMS_A_SECOND * (self.seconds - _ALARM_ON_S))))


@dataclass(slots=True)
class Seen:
    """What became of a load.

    `points` were logged in `lasted_s`. Between the warm-up and the end of the load, `counted_s` long, `stored_points` became readable, and the stages spent `on_core_s`. `repeats` is
    how many rows were there twice at its end, which are not among them. `drained_s` is how long after the end of logging all points could be read, or how long that was waited for in vain:
    then `balanced`, whether the account of each rank comes to the same, is false. Ages are in seconds. A part that ended while it was counted
    is among the `restarts`, and its cost is that of the one that came in its place.
    """

    points: int = 0
    lasted_s: float = 0.0
    balanced: bool = False
    row_ages: list[float] = field(default_factory=list[float])
    alert_ages: list[float] = field(default_factory=list[float])
    on_core_s: dict[str, float] = field(default_factory=dict[str, float])
    counted_s: float = 0.0
    counted_points: float = 0.0
    stored_points: int = 0
    repeats: int = 0
    drained_s: float = 0.0
    rss_mb: dict[str, float] = field(default_factory=dict[str, float])
    restarts: int = 0

    @property
    def stored_points_s(self) -> float:
        """Points a second that became readable while it was counted."""
        return self.stored_points / self.counted_s


def names_of(load: Load, one: int) -> list[str]:
    """The names of a key set: those that step over a bound come first in the first one, and the last of each is watched."""
    alarms = load.alarms if one == 0 else 0
    return [*(f"alarm_{number}" if number < alarms else f"set_{one}/metric_{number}" for number in range(load.names - 1)), f"{WATCHED}{one}"]


def _log(load: Load, run_id: str, rank: int) -> None:
    """One rank, in a process of its own: prints points logged, seconds on a core and when its last call was as JSON once all of it is shipped."""
    os.environ |= {"RUNSTREAM_RUN_ID": run_id, "RANK": str(rank), "WORLD_SIZE": str(load.ranks), "LOCAL_RANK": str(rank)}
    # The rest of a rank's start, and none of its calls: what a call adds to logging is to make Python's numbers of its row, as `item()` of a tensor does.
    values = rows(load.names, load.calls, rank, load.alarms)
    sets = [names_of(load, one) for one in range(load.sets)]
    begins = {number: load.warm_s + (load.seconds - _ALARM_ON_S) * number / load.alarms for number in range(rank, load.alarms, load.ranks)}
    with runstream.init(project="benchmarks", name="pipeline") as run:
        begun, call = time.monotonic(), 0
        before = time.process_time()
        while (spent := time.monotonic() - begun) < load.warm_s + load.seconds:
            due = spent * load.calls_s
            while call < due:
                # As a training makes its dict anew for each call, of names that it has had before.
                row: dict[str, float] = dict(zip(sets[call % load.sets], values[call].tolist(), strict=True))
                if call % load.sets == 0:
                    for number, begin in begins.items():
                        if begin <= call / load.calls_s < begin + _ALARM_ON_S:
                            row[f"alarm_{number}"] = 100.0
                run.log(row, step=call)
                call += 1
            time.sleep(_BURST_S)
        on_core_s, lasted_s, ended = time.process_time() - before, time.monotonic() - begun, time.monotonic()
        run.finish(_DRAIN_S)
    print(json.dumps({"points": run.points_logged, "on_core_s": on_core_s, "lasted_s": lasted_s, "ended": ended}))


def _register(settings: Settings, load: Load) -> None:
    """A rule for each metric that steps over its bound, and one that looks at every value of all."""
    producer = Producer({"bootstrap.servers": settings.kafka, "acks": "all", "partitioner": "murmur2_random", "log.connection.close": False})
    rules = [Rule(f"alarm-{number}", 1, 0, f"alarm {number}", "threshold", f"alarm_{number}", operator=">", threshold=50.0) for number in range(load.alarms)]
    rules.append(Rule("finite", 1, 0, "not a number", "non_finite", "*"))
    for rule in rules:
        producer.produce(TOPICS["rule"].full_name(settings.topic_prefix), wire.encode(rule), rule.rule_id.encode())
    if producer.flush(30.0):
        raise TimeoutError("Kafka did not take the rules of the benchmark")


class _Alerts(threading.Thread):
    """Reads alerts of a run, and how old each is, until stopped."""

    def __init__(self, settings: Settings, run_id: str) -> None:
        super().__init__(daemon=True)
        options = {"auto.offset.reset": "earliest", "enable.auto.commit": False, "fetch.wait.max.ms": 10}
        self._consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": f"benchmark-{run_id}", **options})
        self._consumer.subscribe([TOPICS["alert"].full_name(settings.topic_prefix)])
        self._run_id = run_id
        self.ages: list[float] = []
        self.stop = threading.Event()

    def run(self) -> None:
        """Reads."""
        while not self.stop.is_set():
            message = self._consumer.poll(0.05)
            if message is not None and message.error() is None:
                alert = wire.decode(message.value() or b"")
                if isinstance(alert, Alert) and alert.run_id == self._run_id:
                    self.ages.append(time.time() - alert.time_ms / 1000.0)
        self._consumer.close()


class OnCore:
    """Seconds on a core, and resident memory, of the parts that are no ranks."""

    def __init__(self, journals: Path) -> None:
        self._journals = journals
        self.find()

    def find(self) -> None:
        """Finds the parts as they run now; raises psutil.NoSuchProcess where one has just ended."""
        record = read_stack(Path(os.environ["RUNSTREAM_HOME"]))
        assert record is not None
        self._processes = {part.name: psutil.Process(part.pid) for part in record.parts if part.name in STAGES and part.pid is not None}

    def look(self) -> tuple[dict[str, float], dict[str, float]]:
        """By stage."""
        agent = agent_of(self._journals)
        processes = self._processes | ({} if agent is None else {"agent": agent})
        return {name: one.cpu_times().user + one.cpu_times().system for name, one in processes.items()}, {
            name: one.memory_info().rss / 2**20 for name, one in processes.items()
        }

    def own_mb(self) -> dict[str, float]:
        """Memory that each part holds for itself, by stage. Raises OSError where one has ended."""
        agent = agent_of(self._journals)
        processes = self._processes | ({} if agent is None else {"agent": agent})
        return {name: own_mb(one.pid) for name, one in processes.items()}


def _looked(watch: OnCore, seen: Seen) -> tuple[dict[str, float], dict[str, float]]:
    """Looks at the parts; where one has ended, once the next has begun in its place."""
    while True:
        try:
            return watch.look()
        except psutil.NoSuchProcess:
            seen.restarts += 1
        while True:
            time.sleep(_LOOK_S)
            with contextlib.suppress(psutil.NoSuchProcess):
                watch.find()
                break


def _watched(reader: Reader, load: Load, ranks: Sequence[subprocess.Popen[str]], seen: Seen, watch: OnCore) -> list[dict[str, Any]]:
    """Looks for new rows until all are there; counts what is stored, and what the parts spend, between the end of the warm-up and the end of the load. Gives what the ranks said."""
    begun = quiet_since = time.monotonic()
    counts_from_ms = math.inf
    before: tuple[Stored, dict[str, float]] | None = None
    said: list[dict[str, Any]] = []
    stored = Stored(begun, 0, 0)
    while True:
        # First what is stored: whatever that holds, the look that follows sees.
        now_ms = time.time() * 1000.0
        if before is None and now_ms >= counts_from_ms:
            before = (reader.stored(), _looked(watch, seen)[0])
        if before is not None and now_ms >= counts_from_ms + load.seconds * 1000.0:
            stored = reader.stored()
            if not seen.counted_s:
                after, seen.rss_mb = _looked(watch, seen)
                seen.counted_s, seen.stored_points, seen.repeats = stored.at - before[0].at, stored.points - before[0].points, stored.repeats
                seen.on_core_s = {name: spent - (been if (been := before[1].get(name, 0.0)) <= spent else 0.0) for name, spent in after.items()}
        found, now_ms = reader.new_rows(), time.time() * 1000.0
        if found:
            quiet_since = time.monotonic()
            counts_from_ms = min(counts_from_ms, min(found) + load.warm_s * 1000.0)
            seen.row_ages += [(now_ms - logged_ms) / 1000.0 for logged_ms in found if logged_ms >= counts_from_ms]
        if not said and all(one.poll() is not None for one in ranks):
            said = [json.loads(one.communicate(timeout=30)[0]) for one in ranks]
            seen.points = sum(one["points"] for one in said)
        now = time.monotonic()
        if said and (stored.points >= seen.points or now - quiet_since > _QUIET_S):
            # Ranks and this process share the machine's monotonic clock.
            seen.drained_s = max(0.0, (stored.at if stored.points >= seen.points else now) - max(one["ended"] for one in said))
            break
        if now - begun > load.warm_s + load.seconds + 2 * _DRAIN_S:
            raise TimeoutError("the load did not end")
        time.sleep(_LOOK_S)
    if not seen.counted_s:
        raise TimeoutError("the load was over before its parts could be looked at")
    return said


def _balanced(server: Server, run_id: str, ranks: int) -> bool:
    """Whether logged, shipped and stored come to the same for every rank, waiting for the last heartbeats."""
    deadline = time.monotonic() + _DRAIN_S
    while True:
        found = server.query("SELECT balanced, state FROM account WHERE run_id = {run_id:UUID} AND kind = 'rank'", {"run_id": run_id})
        good = len(found) == ranks and all(balanced and state == "finished" for balanced, state in found)
        if good or time.monotonic() > deadline:
            return good
        time.sleep(1.0)  # Heartbeats come every few seconds, and the question reads every point.


def run_load(load_: Load, journals: Path) -> Seen:
    """Offers a load to the pipeline that this process's settings name; raises TimeoutError where it gets stuck."""
    settings = load()
    run_id = new_uuid()
    seen = Seen()
    _register(settings, load_)
    alerts = _Alerts(settings, run_id)
    alerts.start()
    server = Server(settings.clickhouse_url, settings.clickhouse_database, timeout_s=60.0)
    argv = [sys.executable, "-m", "benchmarks.pipeline", json.dumps(asdict(load_)), run_id]
    ranks = [subprocess.Popen([*argv, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(load_.ranks)]
    try:
        said = _watched(Reader(server, run_id, load_.ranks, load_.names), load_, ranks, seen, OnCore(journals))
        seen.balanced = _balanced(server, run_id, load_.ranks)
    finally:
        for one in ranks:
            one.kill()
            one.wait()
        alerts.stop.set()
        alerts.join(10.0)
        with contextlib.suppress(OSError):
            server.close()
    seen.alert_ages = alerts.ages
    seen.lasted_s = max(one["lasted_s"] for one in said)
    share = seen.counted_s / seen.lasted_s
    seen.on_core_s["ranks"] = share * sum(one["on_core_s"] for one in said)
    seen.counted_points = share * seen.points
    return seen


def bytes_a_point(points: int) -> tuple[float, float]:
    """Bytes that a metric point takes in one copy of Kafka's log, and in ClickHouse, as they stand after a load of so many points."""
    settings = load()
    name = TOPICS["metric"].full_name(settings.topic_prefix)
    in_kafka = sum(path.stat().st_size for path in Path(os.environ["RUNSTREAM_HOME"]).rglob(f"{name}-*/*.log"))
    server = Server(settings.clickhouse_url, settings.clickhouse_database)
    try:
        [(size, points_stored)] = server.query(
            "SELECT sum(bytes_on_disk), sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'metric_points' AND active"
        )
    finally:
        server.close()
    return in_kafka / points, size / max(1, points_stored)


@contextlib.contextmanager
def pipeline() -> Generator[Path]:
    """The whole stack, which this process and its children log to; gives the folder of the journals."""
    with logging_to_a_broker(*PARTS) as journals:
        yield journals


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("load")
    parser.add_argument("run_id")
    parser.add_argument("rank", type=int)
    arguments = parser.parse_args()
    _log(Load(**json.loads(arguments.load)), arguments.run_id, arguments.rank)
