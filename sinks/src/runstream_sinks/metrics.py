"""What sinks and archive workers count, for Prometheus: the one module that touches prometheus-client. `docs/operations.md` says what each figure means and what to do when it is high.

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

    from runstream_feed.records import Place

PREFIX = "runstream_sink"
ARCHIVE_PREFIX = "runstream_archive"
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


class Figures(Collector):
    """The figures of one worker, all of one prefix. Counting may be done from any thread; a worker says in `collect` what holds at a moment."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._registry.register(self)

    def page(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self._registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{self._prefix}_{name}", about, labels, registry=self._registry)

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"{self._prefix}_{name}", about, labels, buckets=buckets, registry=self._registry)

    def _gauge(self, name: str, about: str, value: float) -> Metric:
        return GaugeMetricFamily(f"{self._prefix}_{name}", about, value=value)

    def _commits_and_lags(self, since_commit_s: float | None, lags: Mapping[Place, Lag], where: str) -> Iterable[Metric]:
        """What every worker has of Kafka; `where` says what becomes of records."""
        if since_commit_s is not None:
            yield self._gauge("seconds_since_commit", "seconds since offsets were last committed; grows while nothing comes", since_commit_s)
        records = GaugeMetricFamily(f"{self._prefix}_lag_records", f"records in Kafka that are not {where} yet", labels=["topic", "partition"])
        seconds = GaugeMetricFamily(f"{self._prefix}_lag_seconds", f"how old the oldest record may be that is not {where} yet", labels=["topic", "partition"])
        for place, lag in lags.items():
            records.add_metric([place.topic, str(place.partition)], lag.records)
            seconds.add_metric([place.topic, str(place.partition)], lag.seconds)
        yield records
        yield seconds


class Metrics(Figures):
    """The figures of one sink worker."""

    def __init__(self) -> None:
        self.reading = Reading()
        super().__init__(PREFIX)
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

    def collect(self) -> Iterable[Metric]:
        """The gauges of the last reading; prometheus-client calls this."""
        now = self.reading
        yield self._gauge("partitions", "partitions that this worker has", now.partitions)
        yield self._gauge("pending_bytes", "memory of rows that wait for ClickHouse", now.pending_bytes)
        yield self._gauge("inserts_in_flight", "chunks handed to the inserters and not acknowledged yet", now.in_flight)
        waiting = GaugeMetricFamily(f"{PREFIX}_waiting_partitions", "partitions that are not fetched from, by what they wait for", labels=["reason"])
        for reason, partitions in now.waiting.items():
            waiting.add_metric([reason], partitions)
        yield waiting
        yield from self._commits_and_lags(now.since_commit_s, now.lags, "stored")


@dataclass(frozen=True, slots=True)
class ArchiveReading:
    """What holds at a moment in an archive's worker. `since_commit_s` is None before the first commit."""

    partitions: int = 0
    lags: Mapping[Place, Lag] = field(default_factory=_no_lags)
    since_commit_s: float | None = None
    pending_bytes: int = 0
    waiting_files: int = 0


class ArchiveMetrics(Figures):
    """The figures of one archive's worker."""

    def __init__(self) -> None:
        self.reading = ArchiveReading()
        super().__init__(ARCHIVE_PREFIX)
        self.records = self._counter("records", "records that are in files, by topic", "topic")
        self.files = self._counter("files", "files written, by topic", "topic")
        self.write_seconds = self._histogram("write_seconds", "seconds from beginning a file until it is there, tries that failed included", _SECONDS)
        self.retries = self._counter("write_retries", "files that the storage did not take and that were tried again")
        self.rebalances = self._counter("rebalances", "rebalances that gave this worker partitions (assigned) or took some (revoked, lost)", "kind")
        self.commits = self._counter("commits", "commits of names and offsets, by result (sent, refused)", "result")

    def collect(self) -> Iterable[Metric]:
        """The gauges of the last reading; prometheus-client calls this."""
        now = self.reading
        yield self._gauge("partitions", "partitions that this worker has", now.partitions)
        yield self._gauge("pending_bytes", "memory of records that are not in a file yet", now.pending_bytes)
        yield self._gauge("waiting_files", "files that are cut and not written yet", now.waiting_files)
        yield from self._commits_and_lags(now.since_commit_s, now.lags, "archived")
