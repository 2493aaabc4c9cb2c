"""A simulated fleet through the whole pipeline of this machine: 1,000 ranks with 1,000 metrics each, a million series and 100 million points in one run.

`runstream simulate` logs as fast as everything ships, the restart after a lost node included. Every second the memory that each part holds for itself is looked at, until all rows and
summaries are in ClickHouse: `mb_….part_NN` is the median over a twelfth of the time, `peak_mb_…` the most that was seen. For most of that time a backlog is worked off, so that this
says what memory is bounded by, and nothing of what it does over time: `endurance` does. Journals, which ranks and agent map, are the kernel's pages and not counted.
Then the views are asked: `balanced` is the account of each of the 2,000 writers, `summarised` whether the summaries have every point once, `accounted_s` how long the account takes, which
reads all of them. `core_s_…` is what each part has spent on a core until the summaries are there: half of their sum is what it takes on two cores that do nothing else. Whether
they had something else to do, `load` says, the machine's load average. How far it is stands on the standard error every ten seconds.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.figures import Bar, Figure
from benchmarks.pipeline import STAGES, OnCore, bytes_a_point, pipeline
from benchmarks.process_memory import own_mb
from runstream_schemas.settings import load
from runstream_sinks.clickhouse import Server

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_RANKS, _METRICS = 1_000, 1_000
POINTS = 100_000_000
PARTS_OF_TIME = 12
_RATE = 0.01
_LOOK_S = 1.0  # Between looks at memory and counts, which nothing tells of by itself.
_TELL_S = 10.0
_SPARE_S = 1_800.0
_GROWTH = 1.25
_PEAK_MB = {"agent": 1_000.0, "kafka": 1_000.0, "processors": 1_500.0, "sinks": 1_000.0, "clickhouse": 2_000.0, "ranks": 1_000.0}
_ROWS = "SELECT sum(rows) FROM system.parts WHERE database = currentDatabase() AND table = 'metric_points' AND active"
# Writers that are not at their end yet, and those whose summaries do not know of all their rows. Asked of few columns, since it is asked again and again.
_OPEN = "SELECT count() FROM writers WHERE run_id = {run_id:UUID} AND kind = 'rank' AND (state = 'running' OR points_logged > points_shipped)"
_UNSUMMARISED = """
    SELECT count() FROM writers
    LEFT JOIN (SELECT writer, max(next_seq) AS seen FROM summary_series WHERE run_id = {run_id:UUID} GROUP BY writer) AS summarised USING writer
    WHERE run_id = {run_id:UUID} AND kind = 'rank' AND points_logged > 0 AND seen < rows_logged
"""
_SUMMARISED = "SELECT sum(count) FROM summaries WHERE run_id = {run_id:UUID}"
_ACCOUNT = "SELECT countIf(NOT balanced), count(), sum(points_stored) FROM account WHERE run_id = {run_id:UUID} AND kind = 'rank'"
_SERIES = "SELECT uniqExact(name, rank) FROM metric_points WHERE run_id = {run_id:UUID}"  # Repeats change nothing here.


@dataclass(slots=True)
class Watch:
    """Looks at memory and rows once a second, keeps what it saw, and tells of it now and then."""

    journals: Path
    server: Server
    limit_s: float
    restarts: int = 0
    begun: float = field(default_factory=time.monotonic)
    told: float = 0.0
    looks: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    on_core_s: dict[str, float] = field(default_factory=dict[str, float])
    loads: list[float] = field(default_factory=list[float])
    on_core: OnCore = field(init=False)

    def __post_init__(self) -> None:
        """Finds the parts."""
        self.on_core = OnCore(self.journals)

    def look(self, ranks: psutil.Process | None = None) -> int:
        """One look, and the pause after it; rows in ClickHouse, repeats included. Raises TimeoutError as `tell` does."""
        try:
            (on_core_s, _), mb = self.on_core.look(), self.on_core.own_mb()
        except (psutil.NoSuchProcess, OSError) as ended:
            self.restarts += 1
            self.tell(f"a part has ended, and is started again: {ended}")
            self.on_core = OnCore(self.journals)
            on_core_s, mb = {}, {}
        if ranks is not None:
            with ranks.oneshot():
                if ranks.status() != psutil.STATUS_ZOMBIE:
                    mb["ranks"] = own_mb(ranks.pid)
                    on_core_s["ranks"] = ranks.cpu_times().user + ranks.cpu_times().system
        self.on_core_s |= on_core_s
        [(rows,)] = self.server.query(_ROWS)
        self.looks.append(mb)
        self.loads.append(os.getloadavg()[0])
        now = self.passed_s()
        if now - self.told >= _TELL_S:
            self.told = now
            memory = ", ".join(f"{stage} {mb[stage]:.0f}" for stage in STAGES if stage in mb)
            self.tell(f"{rows / 1e6:.1f} million rows; MiB: {memory}")
        time.sleep(_LOOK_S)  # Memory is looked at so often, and tells of no change by itself.
        return rows

    def tell(self, words: str) -> None:
        """Says how far it is. Raises TimeoutError once the fleet has had its time."""
        now = self.passed_s()
        print(f"{now:5.0f} s: {words}", file=sys.stderr, flush=True)
        if now > self.limit_s:
            raise TimeoutError(f"the fleet was not through after {self.limit_s:g} s")

    def passed_s(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun


def memory_figures(looks: Sequence[Mapping[str, float]]) -> Iterator[Figure]:
    """What looks at memory come to: the most of each part, and its course."""
    for stage, most in _PEAK_MB.items():
        values = [one[stage] for one in looks if stage in one]
        yield Figure(f"peak_mb_{stage}", max(values), "MiB", len(values), Bar("<=", most))
    for part in range(PARTS_OF_TIME):
        span = looks[part * len(looks) // PARTS_OF_TIME : (part + 1) * len(looks) // PARTS_OF_TIME]
        for stage in _PEAK_MB:
            if values := [one[stage] for one in span if stage in one]:
                yield Figure(f"mb_{stage}.part_{part + 1:02d}", statistics.median(values), "MiB", len(values))


def growth_figures(looks: Sequence[Mapping[str, float]]) -> Iterator[Figure]:
    """How the memory of each part grew while ranks were logging: the median over the last quarter of that time over the one over the second quarter, by when all series are known."""
    logging = [one for one in looks if "ranks" in one]
    for stage in _PEAK_MB:
        values = [one[stage] for one in logging if stage in one]
        early, late = (statistics.median(part) for part in (values[len(values) // 4 : len(values) // 2], values[3 * len(values) // 4 :]))
        yield Figure(f"growth_{stage}", late / early, "ratio", len(values), Bar("<=", _GROWTH))
        yield Figure(f"late_mb_{stage}", late, "MiB", len(values))


def run(seconds: float) -> Iterator[Figure]:  # noqa: ARG001 - it takes what a hundred million points take
    """Rate, account and memory."""
    yield from measure(POINTS)


def measure(points: int, points_s: int | None = None) -> Iterator[Figure]:
    """What becomes of a fleet that logs so many points: as fast as they ship, or so many a second. Raises TimeoutError where it takes half an hour longer than it should."""
    # A lost node takes up to a checkpoint's interval again: a twentieth.
    steps = points // (_RANKS * _METRICS)
    argv = ["--ranks", str(_RANKS), "--metrics", str(_METRICS), "--rate", str(_RATE), "--hours", str(steps / _RATE / 3600.0), "--json"]
    limit_s = _SPARE_S
    if points_s is not None:
        argv += ["--points-s", str(points_s)]
        limit_s += points / points_s
    with pipeline() as journals:
        server = Server(load().clickhouse_url, load().clickhouse_database, timeout_s=600.0)
        watch = Watch(journals, server, limit_s)
        ranks = subprocess.Popen([Path(sys.executable).with_name("runstream"), "simulate", *argv], stdout=subprocess.PIPE, text=True)
        try:
            process = psutil.Process(ranks.pid)
            while ranks.poll() is None:
                watch.look(process)
            logged_s = watch.passed_s()
            assert ranks.stdout is not None
            said: dict[str, Any] = json.loads(ranks.stdout.read())
            while watch.look() < said["points"]:
                pass
            stored_s = watch.passed_s()
            asked = {"run_id": said["run_id"]}
            while left := server.query(_OPEN, asked)[0][0] + server.query(_UNSUMMARISED, asked)[0][0]:
                watch.tell(f"{left} writers are not at their end, or not summarised yet")
                for _ in range(round(_TELL_S / _LOOK_S)):
                    watch.look()
            summarised_s = watch.passed_s()
            [(summarised,)] = server.query(_SUMMARISED, asked)
            watch.tell("all is stored and summarised; the account of each writer reads every point")
            [(bad, writers, stored)] = server.query(_ACCOUNT, asked)
            accounted_s = watch.passed_s() - summarised_s
            [(series,)] = server.query(_SERIES, asked)
            watch.tell(f"{bad} of {writers} writers do not balance")
            bytes_kafka, _ = bytes_a_point(said["points"])
        finally:
            ranks.kill()
            ranks.wait()
            server.close()
    yield Figure("points", stored, "points", 1, Bar(">=", points))
    yield Figure("series", series, "series", 1, Bar(">=", _RANKS * _METRICS))
    yield Figure("writers", writers, "writers", 1)
    yield Figure("lasted_s", summarised_s, "s", 1)
    yield Figure("shipped_points_s", said["points"] / logged_s, "points/s", 1)
    yield Figure("stored_points_s", stored / stored_s, "points/s", 1)
    yield Figure("dropped", said["dropped"], "points", 1, Bar("==", 0))
    # The process that simulates is a writer of the run, too.
    yield Figure("balanced", float(bad == 0 and stored == said["points"] and writers == said["writers"] + 1), "share", writers, Bar("==", 1))
    yield Figure("summarised", float(summarised == said["points"]), "share", writers, Bar("==", 1))
    yield Figure("accounted_s", accounted_s, "s", 1)
    for stage, spent_s in watch.on_core_s.items():
        yield Figure(f"core_s_{stage}", spent_s, "s", 1)
    yield Figure("core_s", sum(watch.on_core_s.values()), "s", 1)
    yield Figure("bytes_point_kafka", bytes_kafka, "bytes", said["points"])
    yield Figure("restarts", watch.restarts, "restarts", 1, Bar("==", 0))
    yield Figure("load", statistics.median(watch.loads), "processes", len(watch.loads))
    yield from memory_figures(watch.looks)
    if points_s is not None:
        yield from growth_figures(watch.looks)
