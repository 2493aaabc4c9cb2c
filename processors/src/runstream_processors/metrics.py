"""What a worker counts, for Prometheus; docs/operations.md says what each figure means and what to do when it is high.

Engines count for themselves, in plain counters, and know nothing of this. About once a second the worker's loop leaves a reading of all of it here, so that a scrape never waits for the
loop. The registry is the caller's where other figures are to stand on the same page, such as the notifier's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

    from runstream_processors.engine import Place
    from runstream_schemas.lag import Lag

PREFIX = "runstream_processor"
KIND = CONTENT_TYPE_LATEST  # Of the page.
# By the names under which they are counted. What is counted under another name is not shown.
COUNTERS = {
    "records": "records taken from Kafka, by source",
    "points": "points of them that were not taken before, and those that were",
    "rows_repeated": "rows that had been taken before: repeats are usual after a restart, a rebalance or a replay",
    "gaps": "ranges of seqs that never came",
    "frames_refused": "frames that belong to another run than their writer's",
    "series_refused": "series that found no room: a writer has more than is followed",
    "figures_refused": "figures of ranks for rules across ranks that found no room: a run has more series under them than is followed",
    "rules_evaluated": "rules applied to the rows of a block of series",
    "alerts": "alerts decided, firing and resolved; those decided again after a crash count again",
    "alerts_late": "of these, alerts on rows so old that nobody is told",
    "rules_refused": "rules that do not fit, set aside as dead letters",
    "rules_broken": "rules that broke while they were applied, switched off and set aside as dead letters",
    "writers_crashed": "writers taken for crashed, since nothing was heard of them",
    "digests": "digests of ranks taken by the second stage",
    "stores": "times that what changed was stored and its records acknowledged",
    "rebalances": "rebalances, by whether partitions were assigned or revoked",
}


def _nothing() -> Mapping[str, int]:
    return {}


def _no_counts() -> Mapping[tuple[str, str], int]:
    return {}


def _no_lags() -> Mapping[Place, Lag]:
    return {}


@dataclass(frozen=True, slots=True)
class Reading:
    """What holds at a moment: `counts` by name and source, bytes of state and of records that are taken and not acknowledged yet by source.

    `since_commit_s` is None before the first commit.
    """

    partitions: int = 0
    rules: int = 0
    counts: Mapping[tuple[str, str], int] = field(default_factory=_no_counts)
    lags: Mapping[Place, Lag] = field(default_factory=_no_lags)
    state_bytes: Mapping[str, int] = field(default_factory=_nothing)
    pending_bytes: Mapping[str, int] = field(default_factory=_nothing)
    since_commit_s: float | None = None


class Metrics(Collector):
    """The figures of one worker."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers with `registry`, or with one of its own that shows the process, too."""
        self.reading = Reading()
        if registry is None:
            registry = CollectorRegistry()
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=registry)
        self._registry = registry
        registry.register(self)

    def page(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The figures of the last reading; prometheus-client calls this."""
        now = self.reading
        for name, about in COUNTERS.items():
            family = CounterMetricFamily(f"{PREFIX}_{name}", about, labels=["kind" if name == "rebalances" else "source"])
            for (counted, source), count in now.counts.items():
                if counted == name:
                    family.add_metric([source], count)
            yield family
        yield GaugeMetricFamily(f"{PREFIX}_partitions", "partitions of its sources that this worker has", value=now.partitions)
        yield GaugeMetricFamily(f"{PREFIX}_rules", "rules that hold", value=now.rules)
        if now.since_commit_s is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}_seconds_since_commit", "seconds since offsets were last committed; grows while nothing comes", value=now.since_commit_s
            )
        yield _by_source("state_bytes", "bytes of state in this worker's tables, by source", now.state_bytes)
        yield _by_source("pending_bytes", "bytes of records that are taken and not acknowledged yet, by source", now.pending_bytes)
        records = GaugeMetricFamily(f"{PREFIX}_lag_records", "records in Kafka that are not acknowledged yet", labels=["topic", "partition"])
        seconds = GaugeMetricFamily(f"{PREFIX}_lag_seconds", "how old the oldest record may be that is not acknowledged yet", labels=["topic", "partition"])
        for place, lag in now.lags.items():
            records.add_metric([place.topic, str(place.partition)], lag.records)
            seconds.add_metric([place.topic, str(place.partition)], lag.seconds)
        yield records
        yield seconds


def _by_source(name: str, about: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", about, labels=["source"])
    for source, value in values.items():
        family.add_metric([source], value)
    return family
