"""What a worker counts, for Prometheus: the one module that touches prometheus-client. `docs/operations.md` says what each figure means and what to do when it is high.

Counters and histograms grow where things happen; what has a value at a moment (lags, memory, time since the last commit) comes from a reading that the worker's loop
leaves here about once a second, so that a scrape never waits for the loop.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from runstream_schemas.lag import Lag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

    from runstream_sinks.ledger import Place

PREFIX = "runstream_sink"
KIND = CONTENT_TYPE_LATEST  # Of the page.
_ROWS = (1, 10, 100, 1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_000_000)
_BYTES = tuple(1 << shift for shift in range(10, 29, 2))
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


def _no_lags() -> Mapping[Place, Lag]:
    return {}


def _no_waits() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Reading:
    """What holds at a moment. `since_commit_s` is None before the first commit; `waiting` counts partitions by what they wait for."""

    partitions: int = 0
    lags: Mapping[Place, Lag] = field(default_factory=_no_lags)
    since_commit_s: float | None = None
    pending_bytes: int = 0
    in_flight: int = 0
    waiting: Mapping[str, int] = field(default_factory=_no_waits)


class Metrics(Collector):
    """The figures of one worker. Counting may be done from any thread."""

    def __init__(self) -> None:
        self.reading = Reading()
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(self)
        self.records = self._counter("records", "records read from Kafka, by topic", "topic")
        self.rows = self._counter("rows", "rows that ClickHouse acknowledged, by table", "table")
        self.insert_rows = self._histogram("insert_rows", "rows of an insert, by table", _ROWS, "table")
        self.insert_bytes = self._histogram("insert_bytes", "bytes of an insert's columns in memory, by table", _BYTES, "table")
        self.insert_seconds = self._histogram(
            "insert_seconds", "seconds from sending an insert to its acknowledgement, tries that failed left out, by table", _SECONDS, "table"
        )
        self.retries = self._counter("insert_retries", "inserts tried again, by ClickHouse's error code (connection where nobody answered)", "code")
        self.dead_letters = self._counter("dead_letters", "records set aside, by topic", "topic")
        self.rebalances = self._counter("rebalances", "rebalances that gave this worker partitions (assigned) or took some (revoked, lost)", "kind")
        self.commits = self._counter("commits", "commits of offsets, by result (sent, refused)", "result")

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", about, labels, buckets=buckets, registry=self._registry)

    def page(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """The gauges of the last reading; prometheus-client calls this."""
        now = self.reading
        yield _gauge("partitions", "partitions that this worker has", now.partitions)
        yield _gauge("pending_bytes", "memory of rows that wait for ClickHouse", now.pending_bytes)
        yield _gauge("inserts_in_flight", "chunks handed to the inserters and not acknowledged yet", now.in_flight)
        if now.since_commit_s is not None:
            yield _gauge("seconds_since_commit", "seconds since offsets were last committed; grows while nothing comes", now.since_commit_s)
        waiting = GaugeMetricFamily(f"{PREFIX}_waiting_partitions", "partitions that are not fetched from, by what they wait for", labels=["reason"])
        for reason, partitions in now.waiting.items():
            waiting.add_metric([reason], partitions)
        yield waiting
        records = GaugeMetricFamily(f"{PREFIX}_lag_records", "records in Kafka that are not stored yet", labels=["topic", "partition"])
        seconds = GaugeMetricFamily(f"{PREFIX}_lag_seconds", "how old the oldest record may be that is not stored yet", labels=["topic", "partition"])
        for place, lag in now.lags.items():
            records.add_metric([place.topic, str(place.partition)], lag.records)
            seconds.add_metric([place.topic, str(place.partition)], lag.seconds)
        yield records
        yield seconds


def _gauge(name: str, about: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}_{name}", about, value=value)
