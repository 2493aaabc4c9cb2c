"""What the notifier counts, for Prometheus; docs/notify.md says what each figure means. Counting may be done from any thread.

The registry is the caller's, so that whoever serves a page decides what is on it.
"""

from __future__ import annotations

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

PREFIX = "runstream_notifier"
KIND = CONTENT_TYPE_LATEST  # Of the page.
_SECONDS = (0.1, 0.25, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Figures:
    """The figures of one notifier."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        """Registers with `registry`, or with one of its own, where the process's own figures stand as well."""
        self.registry = CollectorRegistry() if registry is None else registry
        if registry is None:
            for collector in (ProcessCollector, PlatformCollector, GCCollector):
                collector(registry=self.registry)
        self.deliveries = self._counter(
            "deliveries", "alerts by channel and what became of them: delivered, failed, late, silenced, unrouted", "channel", "outcome"
        )
        self.messages = self._counter("messages", "messages by channel and outcome: delivered or failed", "channel", "outcome")
        self.tries = self._counter("tries", "tries to send by channel and result: accepted, again or refused", "channel", "result")
        self.repeats = self._counter("repeats", "alerts that came again and told nobody")
        self.unlogged = self._counter("unlogged", "deliveries that the delivery topic did not take")
        self.pending = Gauge(f"{PREFIX}_pending", "alerts that wait or are on their way, by channel", ["channel"], registry=self.registry)
        self.seconds = Histogram(
            f"{PREFIX}_seconds", "seconds from reading an alert to its delivery, by channel", ["channel"], buckets=_SECONDS, registry=self.registry
        )

    def page(self) -> bytes:
        """The figures in Prometheus' text format."""
        return generate_latest(self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", about, labels, registry=self.registry)
