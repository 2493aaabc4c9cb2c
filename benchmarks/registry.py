"""The benchmarks there are: name, one line of what they measure, module. A module is imported when its benchmark runs, and has `run(seconds)`, which yields figures; one that lives
through seeds also has `over_seeds(seeds, first)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Protocol, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Figure


class _Module(Protocol):
    def run(self, seconds: float) -> Iterator[Figure]: ...
    def over_seeds(self, seeds: int, first: int) -> Iterator[Figure]: ...


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark: its name on the command line, what it measures, and whether it lives through seeds."""

    name: str
    about: str
    has_seeds: bool = False

    def run(self, seconds: float) -> Iterator[Figure]:
        """Yields its figures; takes about `seconds`."""
        return cast("_Module", import_module(f"benchmarks.{self.name}")).run(seconds)

    def over_seeds(self, seeds: int, first: int) -> Iterator[Figure]:
        """Yields the figures of so many seeds, from the first on; only where it has seeds."""
        return cast("_Module", import_module(f"benchmarks.{self.name}")).over_seeds(seeds, first)


BENCHMARKS = {
    one.name: one
    for one in (
        Benchmark("codec", "packing and unpacking a metric frame of 20 names and 50 rows, to and from numpy, over fastavro's time"),
        Benchmark("log_call", "one call of run.log with 1, 20 and 1,000 floats over json.dumps of the same dict, and its tail beside a checkpoint"),
        Benchmark("training_impact", "a numpy training loop of about 5 ms a step, with 20 metrics logged each step against without"),
        Benchmark("deliver", "journal to acknowledged by Kafka through one agent: points a second, memory, a rank's share of a core"),
        Benchmark("exit", "how long finish takes with everything shipped, and with Kafka away"),
        Benchmark("sink", "Kafka to queryable through one sink worker: points a second, over a bare insert of the same rows, and its memory"),
        Benchmark("freshness", "log() to visible in a SELECT, at 100,000 points a second through agent, Kafka and sink"),
        Benchmark("replay", "a replay of the whole topic over the sink's rate in the same run, and whether tables and topics are equal afterwards"),
        Benchmark("storage", "bytes a point on disk, merged, of a fixed mix of metrics and hardware readings"),
        Benchmark(
            "process", "one processor worker: points a second with 100 rules of mixed kinds, over none, and small frames over an agent that only decodes"
        ),
        Benchmark("hardware", "hardware sampling of a node with 8 simulated GPUs, 8 InfiniBand ports and 8 ranks: its share of a core at an interval of 5 s"),
        Benchmark("artifact", "an artifact of 5 GB up and back: memory, a kill in the middle, logged twice, equal (takes a minute and 10 GB of disk)"),
        Benchmark("read", "a run of 105,000 rows read back into arrays by runstream.read, over HTTP"),
        Benchmark("alert_latency", "log() to the alert record and to a webhook, at 100,000 points a second through agent, Kafka, processor and notifier"),
        Benchmark(
            "recovery", "a processor killed hard: until another has its partitions, until its state is read back, and the memory of a series (takes minutes)"
        ),
        Benchmark("e2e", "the whole pipeline for a minute: sustained points a second, how old rows and alerts are when they can be read, cores by stage"),
        Benchmark(
            "scale", "what a thousand points cost each stage, from 10 thousand to a million points a second and from 10 to a million series (takes minutes)"
        ),
        Benchmark(
            "fleet",
            "1,000 simulated ranks of 1,000 metrics, a hundred million points in one run through the whole pipeline: account and memory (takes minutes)",
        ),
        Benchmark(
            "endurance",
            "the same fleet held to 200,000 points a second for a quarter of an hour: whether the memory of any part grows with time (takes that long)",
        ),
        Benchmark("chart", "curves of a run of 102 million points over HTTP: fresh, merged, just replayed, through a rollup (takes minutes)"),
        Benchmark(
            "faults",
            "parts killed, stopped and cut off while ranks log, and what was lost, doubled or wrong; --seeds N of them (about 20 s each)",
            has_seeds=True,
        ),
    )
}
