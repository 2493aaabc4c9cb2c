"""The capacity model: what a fleet needs, from what was measured; pure. `docs/capacity.md` is its page, made from the stored results.

A stage's cores grow with the rate as a line: what it takes at rest, and what each point adds; the line through the rates of `scale` says both. What records cost beside their points
comes from the sink's rates with frames of 1,000 and of 20 points.
"""

# ruff: noqa: E501 - the page is written here as it stands
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.pipeline import STAGES
from benchmarks.results import ROOT
from benchmarks.scale import RATES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.results import Result

PAGE = ROOT / "docs" / "capacity.md"
NEEDS = ("scale", "e2e", "sink", "storage", "deliver", "process", "recovery")

GPUS, METRICS_S = 10_000, 1_000
GPUS_A_NODE = 8
_BUSY = 0.5  # What of a core, a link or a disk is planned with.
_KAFKA_COPIES, _CLICKHOUSE_COPIES = 3, 2
_BROKER_CORES, _SHARD_CORES = 16, 32
_LINK_BYTES_S = 25e9 / 8
_KEPT_DAYS_KAFKA = 7
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Line:
    """Cores of a stage: at rest, and for each point a second."""

    rest: float
    point: float


def line(values: Mapping[str, float], stage: str) -> Line:
    """The line through what `scale` measured; a stage takes no less than nothing at rest."""
    cores = [values[f"us_{stage}.rate_{rate}"] * values[f"points_s.rate_{rate}"] / 1e9 for rate in RATES]
    slope, rest = (float(one) for one in np.polyfit([values[f"points_s.rate_{rate}"] for rate in RATES], cores, 1))
    return Line(max(0.0, rest), slope)


def frame_cost(points_s_1000: float, points_s_20: float) -> tuple[float, float]:
    """Seconds that a frame takes by itself, and each of its points, from the rates with frames of 1,000 and of 20 points."""
    long_s, short_s = 1000.0 / points_s_1000, 20.0 / points_s_20
    point_s = (long_s - short_s) / 980.0
    return short_s - 20.0 * point_s, point_s


def render(results: Sequence[Result]) -> str:
    """The page; it names what has not been measured yet, where something has not."""
    values = {one.benchmark: {figure["figure"]: float(figure["value"]) for figure in one.figures} for one in results}
    missing = [name for name in NEEDS if name not in values]
    if missing:
        return f"{_HEAD}Not measured yet: {', '.join(missing)}. `make bench` does.\n"
    said = "".join(tell(values[name]) for name, tell in (("fleet", fleet), ("endurance", endurance)) if name in values)
    return _HEAD + _costs(values) + said + _needs(values) + _LIMITS


def _costs(values: Mapping[str, Mapping[str, float]]) -> str:
    rows = "".join(f"| {stage} | {one.rest:.3f} | {1e6 * one.point:.3f} |\n" for stage, one in ((stage, line(values["scale"], stage)) for stage in STAGES))
    frame_s, point_s = frame_cost(values["sink"]["points_s_1000"], values["sink"]["points_s_20"])
    e2e, storage = values["e2e"], values["storage"]
    return f"""## What was measured

Cores at rest and for a million points a second, by the line through six rates from 10,000 to 1,000,000 points a second (`scale`, frames of 1,000 names, every value judged by a rule):

| stage | cores at rest | cores for 1 million points/s |
| --- | ---: | ---: |
{rows}
- A frame costs the way from Kafka into ClickHouse {1e6 * frame_s:.0f} µs by itself and {1e6 * point_s:.2f} µs for each point (`sink`, two cores, all of broker, worker and engine counted): frames of twenty points take
  {(frame_s / 20 + point_s) / (frame_s / 1000 + point_s):.1f} times as long a point as those of a thousand. `batch_interval` is what makes frames longer.
- A point takes {e2e["bytes_point_kafka"]:.1f} bytes in a copy of Kafka's log, with the rows of `e2e`: float32 readings around curves, and schedules, none of which repeats; and {storage["bytes_point"]:.2f} in ClickHouse, merged, for the mix of
  real signals of `storage`.
- A series takes {values["recovery"]["bytes_series"]:.0f} bytes of a processor's memory (`recovery`).
- A processor worker with 100 rules of mixed kinds takes {values["process"]["points_s"]:,.0f} points a second on one core (`process`).
- An agent ships {values["deliver"]["points_s_1000"]:,.0f} points a second (`deliver`); a rank with 1,000 points a second, in 50 calls, costs its node {100 * values["deliver"]["core_share_1000"]:.1f} % of a core, its own calls included.

"""


def fleet(values: Mapping[str, float]) -> str:
    """What the simulated fleet took, as the page has it."""
    rows = "".join(
        f"| {stage} | {values[f'core_s_{stage}']:,.0f} | {1e6 * values[f'core_s_{stage}'] / values['points']:.2f} | {values[f'peak_mb_{stage}']:,.0f} |\n"
        for stage in STAGES
    )
    return f"""## A fleet in one run

`runstream simulate` logged {values["points"] / 1e6:,.0f} million points of {values["series"] / 1e6:,.0f} million series through all of it (`fleet`): 1,000 ranks with 1,000 metrics each, of which a node was lost and all started again. All parts together took
{values["core_s"]:,.0f} seconds on a core, until every point and every summary was in ClickHouse. Memory is the most that was seen:

| part | s on a core | µs a point | memory, MiB |
| --- | ---: | ---: | ---: |
{rows}
![Memory of each part while the points pass](plots/fleet-memory.svg)

A million series cost more than points do: processors and sinks hold names, states and rows of each, and each rank's frame has one row of its own. The account of such a run reads every point, which took {values["accounted_s"]:,.0f} s.

"""


def endurance(values: Mapping[str, float]) -> str:
    """What became of memory over a long run, as the page has it."""
    rows = "".join(
        f"| {stage} | {values[f'peak_mb_{stage}']:,.0f} | {values[f'late_mb_{stage}']:,.0f} | {values[f'growth_{stage}']:.2f} |\n" for stage in STAGES
    )
    return f"""### Over time

The same fleet held to {values["shipped_points_s"]:,.0f} points a second for {values["lasted_s"] / 60.0:.0f} minutes ({values["points"] / 1e6:,.0f} million points, `endurance`). Growth is the memory of the last quarter of the time in which ranks log over that of the second quarter, by when all series are known:

| part | most, MiB | last quarter, MiB | growth |
| --- | ---: | ---: | ---: |
{rows}
![Memory of each part over time](plots/endurance-memory.svg)

Kafka's broker is a Java process: its heap grows towards its bound, here 512 MB (`-Xmx512m`), before all of it is collected.

"""


@dataclass(frozen=True, slots=True)
class Case:
    """What a fleet's points cost by one way of measuring: seconds on a core of each stage for a point, and bytes in a copy of Kafka's log."""

    core_s: Mapping[str, float]
    bytes_kafka: float


def needs(case: Case, *, rest: float, bytes_series: float, bytes_stored: float) -> dict[str, str]:
    """What the fleet needs in that case, by what it is needed for. `rest` is the agent's cores without a point, the others are bytes of a series and of a point in ClickHouse."""
    rate, node = GPUS * METRICS_S, GPUS_A_NODE * METRICS_S
    cores = {stage: rate * spent_s / _BUSY for stage, spent_s in case.core_s.items()}
    sinks, processors, shards = (max(1, math.ceil(one)) for one in (cores["sinks"], cores["processors"], cores["clickhouse"] / _SHARD_CORES))
    in_bytes = rate * case.bytes_kafka
    out_bytes = 2 * in_bytes  # Sinks and processors read everything once.
    link_bytes = in_bytes * _KAFKA_COPIES + out_bytes
    kafka_cores = _KAFKA_COPIES * cores["kafka"]
    brokers = max(_KAFKA_COPIES, math.ceil(kafka_cores / _BROKER_CORES), math.ceil(link_bytes / (_BUSY * _LINK_BYTES_S)))
    day_bytes = rate * _DAY_S * bytes_stored
    return {
        f"each training node ({GPUS_A_NODE} GPUs)": f"{rest + node * case.core_s['agent']:.2f} cores for the agent, {node * case.bytes_kafka / 1e6:.2f} MB/s out",
        "Kafka, in": f"{in_bytes / 1e6:,.0f} MB/s, {in_bytes * _KAFKA_COPIES / 1e6:,.0f} MB/s with {_KAFKA_COPIES} copies; {out_bytes / 1e6:,.0f} MB/s out",
        "Kafka, brokers": f"{brokers}, of {_BROKER_CORES} cores and 25 Gbit/s each ({kafka_cores:,.0f} cores in all)",
        "Kafka, disk": f"{in_bytes * _DAY_S * _KAFKA_COPIES * _KEPT_DAYS_KAFKA / 1e12:,.0f} TB for {_KEPT_DAYS_KAFKA} days, {_KAFKA_COPIES} copies; the archive keeps what is older",
        "partitions of the metric topic": f"{2 * max(sinks, processors)}: twice the workers of the larger group",
        "sink workers": f"{sinks} of one core",
        "processor workers": f"{processors} of one core, {rate * bytes_series / processors / 2**20:,.0f} MiB of series each",
        "ClickHouse, shards": f"{shards} of {_SHARD_CORES} cores, {_CLICKHOUSE_COPIES} replicas each ({cores['clickhouse']:,.0f} cores a copy)",
        "ClickHouse, disk": f"{day_bytes / 1e12:,.1f} TB a day and copy, {day_bytes * _CLICKHOUSE_COPIES * 30 / 1e12:,.0f} TB for 30 days on {_CLICKHOUSE_COPIES} replicas",
    }


def _needs(values: Mapping[str, Mapping[str, float]]) -> str:
    rate = GPUS * METRICS_S
    lines = {stage: line(values["scale"], stage) for stage in STAGES}
    dense = Case({stage: one.point for stage, one in lines.items()} | {"processors": 1.0 / values["process"]["points_s"]}, values["e2e"]["bytes_point_kafka"])
    cases = {"many rows a frame, few series (`scale`, `process`)": dense}
    if "fleet" in values:
        fleets = values["fleet"]
        cases["**one row a frame, a million series (`fleet`): plan with these**"] = Case(
            {stage: fleets[f"core_s_{stage}"] / fleets["points"] for stage in STAGES}, fleets["bytes_point_kafka"]
        )
    shared = {"rest": lines["agent"].rest, "bytes_series": values["recovery"]["bytes_series"], "bytes_stored": values["storage"]["bytes_point"]}
    columns = [needs(case, **shared) for case in cases.values()]
    table = "".join(f"| {' | '.join([what, *(column[what] for column in columns)])} |\n" for what in columns[0])
    return f"""## What {GPUS:,} GPUs with {METRICS_S:,} metrics a second need

That is {rate / 1e6:,.0f} million points a second, {rate * _DAY_S / 1e9:,.0f} billion a day, and {rate / 1e6:,.0f} million series. Planned with every core, link and disk half busy, on cores like those it was measured on:

| what | {" | ".join(cases)} |
| --- |{" --- |" * len(cases)}
{table}
{_WHICH if "fleet" in values else ""}Half of ClickHouse's cores are for merges that fall behind, and for questions. This is arithmetic on measured costs, not a measurement: no fleet of this size was at hand. Lines are drawn through one machine with two cores,
where stages fight for caches; brokers that replicate, and shards that merge tables of many terabytes, do more than was seen here. Plan with twice the disk's bandwidth that the inserts alone take: a row is written
by each of the three or four merges that it lives through.

"""


_WHICH = """Plan with the last column: ranks that log a thousand metrics once a second send frames of one row, and ten thousand of them have ten million series. That is how `fleet` logged its million, and a point cost more there; how much
of that belongs to series, and how much to frames, was not told apart. The column before it is for few ranks that log often: it is by the lines above, of four thousand series and up to 25 rows a frame, and by the `process` worker.
Disk in ClickHouse is of merged rows, which are the same whatever frames they came in.

"""

_HEAD = """# Capacity

Made by `make bench` from `benchmarks/results/` and `benchmarks/capacity.py`; do not edit. What a point and a record cost each stage, what a large fleet needs by that, and where the design stops.

"""

_LIMITS = """## Where it stops, and what would be done

- **One node.** An agent is one process. At some ten million points a second of one node it is full; then ranks ship by themselves (`mode="inline"`), which is one shipper a rank.
- **One writer.** A writer's frames stand in one partition, in order. A rank that logs more than one partition's leader takes, or than one sink worker inserts (over a million points a second), needs more writers: processes.
- **Names.** Each segment tells each key set once. A rank with a million names costs ten times as much a point as one with a thousand, since each frame carries them; names that hold steps or batch numbers are the usual reason.
  The processors keep some hundred bytes for each series: ten million of them want gigabytes over all workers, and a takeover reads them back.
- **One run in one partition of time.** ClickHouse shards by run, so that one run's chart is one shard's work. A single run of ten thousand ranks is one shard: at its rate here that shard needs all of its cores. Sharding by run and
  rank would spread it, and make each chart over ranks a distributed question; it is a change of the Distributed tables' key, and of where sinks send rows.
- **Merging.** Inserts are cheap, merges are not: what two cores insert at two million points a second they cannot also merge (`docs/decisions`, 0016). Fewer, larger inserts help first (`sink_rows`), then shards.
- **FINAL.** Questions read every point of a series. Up to a few million points that is a fraction of a second; past it rollups (`runstream rollup`) answer.
- **Heartbeats and summaries** grow with ranks and series, not with points: a rank's heartbeat every five seconds is 2,000 records a second for ten thousand ranks, which is little; a summary of ten million series is ten million rows each
  time it is written whole, which is why only what changed is sent.
"""
