"""Services for the tests: a real broker and a real ClickHouse engine, each started once a session when first asked for.

Tests that use them carry `@pytest.mark.stack`, give topics random prefixes and tables random databases, and so do not meet.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runstream_local.clickhouse.health import is_serving
from runstream_local.kafka import is_healthy
from runstream_local.kafka_jars import ensure_jars
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import start_child, stop_child
from tests.scheduling import pytest_xdist_make_scheduler

__all__ = ["clickhouse_url", "kafka", "pytest_xdist_make_scheduler"]

START_TIMEOUT_S = 60.0

# A shell that starts the tests in the background has SIGINT ignored, and every process below inherits that: Ctrl-C, which some tests send, would mean nothing to them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def wait_until_healthy(child: subprocess.Popen[bytes], log: Path, probe: Callable[[], bool]) -> None:
    """Waits for `probe`; fails the asking test with the service's own words when it ended or the time is up."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while not probe():
        if child.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"{log.stem} did not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of an Apache Kafka broker that lives as long as the test session."""
    ensure_jars()
    folder = tmp_path_factory.mktemp("kafka")
    port = choose_port()
    controller_port = choose_port(avoid=frozenset({port}))
    argv = [sys.executable, "-m", "runstream_local.kafka", "--data", str(folder)]
    argv += ["--port", str(port), "--controller-port", str(controller_port)]
    log = folder / "kafka.log"
    child = start_child(argv, log=log)
    try:
        wait_until_healthy(child, log, lambda: is_healthy(f"{HOST}:{port}"))
        yield f"{HOST}:{port}"
    finally:
        stop_child(child, timeout_s=10)


@pytest.fixture(scope="session")
def clickhouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a ClickHouse engine's HTTP interface that lives as long as the test session."""
    folder = tmp_path_factory.mktemp("clickhouse")
    port = choose_port()
    log = folder / "clickhouse.log"
    child = start_child([sys.executable, "-m", "runstream_local.clickhouse", "--data", str(folder / "data"), "--port", str(port)], log=log)
    try:
        wait_until_healthy(child, log, lambda: is_serving(f"http://{HOST}:{port}"))
        yield f"http://{HOST}:{port}"
    finally:
        stop_child(child, timeout_s=10)
