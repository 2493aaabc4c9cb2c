"""What a worker shows: the page of figures, the page of health, and its log in both forms."""

from __future__ import annotations

import io
import json
import logging
import re
import urllib.request
from typing import TYPE_CHECKING
from urllib.error import HTTPError

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runstream_feed.records import Place
from runstream_local.ports import HOST, choose_port
from runstream_schemas.endpoint import Endpoint
from runstream_schemas.lag import Lag
from runstream_schemas.settings import SettingsError
from runstream_sinks.log import log, logger, to_stderr
from runstream_sinks.metrics import Metrics, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runstream_sinks.log import Form


def figures(page: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    """Each sample of a page by its name and the values of its labels, sorted."""
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
        if sample.name.startswith("runstream_")
    }


def get(url: str) -> tuple[int, str]:
    """Status and body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_figures_are_counted_and_the_last_reading_is_shown() -> None:
    """Counters grow by label; gauges are those of the last reading; a time that is not known is left out."""
    metrics = Metrics()
    metrics.rows.labels("metric_points").inc(500)
    metrics.retries.labels("252").inc()
    metrics.insert_seconds.labels("metric_points").observe(0.2)
    assert "runstream_sink_seconds_since_commit" not in metrics.page().decode()
    metrics.reading = Reading(
        partitions=3, lags={Place("t.metric", 1): Lag(7, 2.5, 0.0)}, since_commit_s=1.5, pending_bytes=88, in_flight=2, waiting={"schema": 1}
    )
    found = figures(metrics.page())
    assert found["runstream_sink_rows_total", ("metric_points",)] == 500
    assert found["runstream_sink_insert_retries_total", ("252",)] == 1
    assert found["runstream_sink_insert_seconds_count", ("metric_points",)] == 1
    assert found["runstream_sink_lag_records", ("1", "t.metric")] == 7
    assert found["runstream_sink_lag_seconds", ("1", "t.metric")] == 2.5
    assert found["runstream_sink_seconds_since_commit", ()] == 1.5
    assert found["runstream_sink_waiting_partitions", ("schema",)] == 1
    assert found["runstream_sink_pending_bytes", ()] == 88


def test_the_page_answers_and_health_follows_the_trouble() -> None:
    """200 and ok while all is well, 503 and a sentence otherwise; a page that is not there is told."""
    port, trouble = choose_port(), ""
    endpoint = Endpoint(HOST, port, page=lambda: b"figures 1\n", kind="text/plain", trouble=lambda: trouble)
    try:
        assert get(f"http://{HOST}:{port}/metrics?x=1") == (200, "figures 1\n")
        assert get(f"http://{HOST}:{port}/healthz") == (200, "ok\n")
        trouble = "offsets stand still"
        assert get(f"http://{HOST}:{port}/healthz") == (503, "offsets stand still\n")
        assert get(f"http://{HOST}:{port}/")[0] == 404
        with pytest.raises(SettingsError, match=r"metrics_port.*must name a port that is free"):
            Endpoint(HOST, port, page=lambda: b"", kind="text/plain", trouble=lambda: "")
    finally:
        endpoint.close()


@pytest.fixture
def said() -> Iterator[io.StringIO]:
    """Where the log goes, and as it was before afterwards."""
    before = logger.handlers[:], logger.level, logger.propagate
    out = io.StringIO()
    yield out
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def to(out: io.StringIO, form: Form) -> None:
    """Sends the log there."""
    to_stderr(form)
    handler = logger.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(out)  # pyright: ignore[reportUnknownMemberType]  # the handler's type parameter is open


def test_text_is_one_line_with_facts(said: io.StringIO) -> None:
    """Time, level, logger, message, then key=value with quotes only where they are needed; lines of libraries look the same."""
    to(said, "text")
    log.warning("a constant message", rows=3, seconds=0.123456, reason='two words "quoted"', nothing=None)
    logging.getLogger("runstream.sinks").error("librdkafka says %s", "no")
    first, second = said.getvalue().splitlines()
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning runstream\.sinks a constant message rows=3 seconds=0\.1235 reason="two words \\"quoted\\"" nothing=None',
        first,
    )
    assert second.endswith("Z error runstream.sinks librdkafka says no")


def test_json_is_one_object_a_line(said: io.StringIO) -> None:
    """Facts keep their types; an exception is a field, so that it stays one line."""
    to(said, "json")
    log.info("a constant message", rows=3, place=Place("t", 1))
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("it broke")
    first, second = map(json.loads, said.getvalue().splitlines())
    assert list(first)[:4] == ["time", "level", "logger", "event"]
    assert (first["event"], first["rows"], first["level"]) == ("a constant message", 3, "info")
    assert "ValueError: why" in second["exception"]
