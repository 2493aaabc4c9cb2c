"""`log()` to the alert record, and to a webhook, at 100,000 points a second: a rank in its own process, its agent, Kafka, one processor worker and the notifier, all on the same cores.

Each row carries the time of its `log` call. Some of its metrics step over a bound, one after the other, and back; each is watched by a rule of its own, since the notifier groups what one
rule says. An alert is as old as the moment at which a reader of its topic has it, or the webhook's server its request.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from confluent_kafka import Consumer, Producer

import runstream
from benchmarks.broker import logging_to_a_broker, temporary_folder
from benchmarks.figures import Bar, Figure
from benchmarks.timing import quantile
from runstream_local.ports import HOST
from runstream_schemas import wire
from runstream_schemas.ids import new_uuid
from runstream_schemas.records import Alert, Rule
from runstream_schemas.settings import load
from runstream_schemas.topics import TOPICS

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from runstream_schemas.settings import Settings

_NAMES = 100
_ROWS_S = 1000
_BURST_S = 0.01
_ALARMS_S = 12.0
_ALARMS_MAX = 90
_ON_S = 1.0
# The agent, its connections and the first takes come up meanwhile; nothing is watched that early.
_WARM_S = 4.0
_LIMIT_S = 60.0
_CHANNEL = '[hook]\nwebhook = "http://{}:{}/"\nper_minute = 60000\nburst = 1000\ngroup_s = 0\n'


def _alarms(seconds: float) -> int:
    return max(1, min(_ALARMS_MAX, int(_ALARMS_S * (seconds - _ON_S))))


def _rank(run_id: str, seconds: float) -> None:
    """Logs rows of 100 names, 1,000 a second, in bursts of ten."""
    os.environ["RUNSTREAM_RUN_ID"] = run_id
    alarms = _alarms(seconds)
    noise: list[list[float]] = np.random.default_rng(0).normal(1.0, 0.1, (997, _NAMES)).tolist()
    names = [f"alarm_{number}" if number < alarms else f"metric_{number}" for number in range(_NAMES)]
    rows = [dict(zip(names, one, strict=True)) for one in noise]
    begins = [(_WARM_S + (seconds - _ON_S) * number / alarms) * _ROWS_S for number in range(alarms)]
    with runstream.init(project="benchmarks", name="alert latency") as run:
        begun, step = time.monotonic(), 0
        while (spent := time.monotonic() - begun) < _WARM_S + seconds:
            while step < spent * _ROWS_S:
                row = dict(rows[step % len(rows)])
                for number, begin in enumerate(begins):
                    if begin <= step < begin + _ON_S * _ROWS_S:
                        row[names[number]] = 100.0
                run.log(row, step=step)
                step += 1
            time.sleep(_BURST_S)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Keeps quiet."""

    def do_POST(self) -> None:  # the base class's name
        """Notes when the request was there."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        cast("_Server", self.server).received.append((time.time(), body))
        self.send_response(HTTPStatus.NO_CONTENT)
        self.end_headers()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _Handler)
        self.received: list[tuple[float, dict[str, Any]]] = []

    def ages_s(self) -> list[float]:
        """How old each alert was that was posted."""
        return [at - alert["time_ms"] / 1000.0 for at, body in self.received for alert in body["alerts"]]


@contextlib.contextmanager
def _webhook() -> Generator[_Server]:
    server = _Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def _register(settings: Settings, alarms: int) -> None:
    """One rule for each metric that steps over the bound."""
    producer = Producer({"bootstrap.servers": settings.kafka, "acks": "all", "partitioner": "murmur2_random", "log.connection.close": False})
    for number in range(alarms):
        rule = Rule(f"alarm-{number}", 1, 0, f"alarm {number}", "threshold", f"alarm_{number}", operator=">", threshold=50.0)
        producer.produce(TOPICS["rule"].full_name(settings.topic_prefix), wire.encode(rule), rule.rule_id.encode())
    if producer.flush(_LIMIT_S):
        raise TimeoutError("Kafka did not take the rules of the benchmark")


def _ages_s(settings: Settings, wanted: int, rank: subprocess.Popen[bytes]) -> tuple[list[float], float]:
    """How old each alert was when it could be read, and points a second as logged meanwhile."""
    consumer = Consumer(
        {
            "bootstrap.servers": settings.kafka,
            "group.id": "benchmark-alerts",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
        }
    )
    consumer.subscribe([TOPICS["alert"].full_name(settings.topic_prefix)])
    ages: list[float] = []
    rows: list[tuple[int, int]] = []
    deadline: float | None = None
    while len(ages) < wanted and (deadline is None or time.monotonic() < deadline):
        message = consumer.poll(0.05)
        if message is not None and message.error() is None:
            alert = wire.decode(message.value() or b"")
            assert isinstance(alert, Alert)
            ages.append(time.time() - alert.time_ms / 1000.0)
            rows.append((alert.time_ms, alert.step))
        if deadline is None and rank.poll() is not None:
            deadline = time.monotonic() + _LIMIT_S
    consumer.close()
    if len(ages) < wanted:
        raise TimeoutError(f"{len(ages)} of {wanted} alerts came")
    (first_ms, first), (last_ms, last) = min(rows), max(rows)
    return ages, _NAMES * (last - first) / (last_ms - first_ms) * 1000.0


def _wait_for(server: _Server, wanted: int) -> None:
    deadline = time.monotonic() + _LIMIT_S
    while len(server.ages_s()) < wanted:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(server.ages_s())} of {wanted} alerts were posted")
        time.sleep(0.05)


def run(seconds: float) -> Iterator[Figure]:
    """Quantiles of the ages of alert records, and of what the webhook was told."""
    seconds = max(seconds, 2 * _ON_S)
    alarms = _alarms(seconds)
    wanted = 2 * alarms
    run_id = new_uuid()
    with temporary_folder(None) as name, _webhook() as server:
        channels = Path(name) / "channels.toml"
        channels.write_text(_CHANNEL.format(HOST, server.server_port), encoding="utf-8")
        with _environment(RUNSTREAM_CHANNELS=str(channels)), logging_to_a_broker("processors", "notifier"):
            settings = load()
            _register(settings, alarms)
            rank = subprocess.Popen([sys.executable, "-m", "benchmarks.alert_latency", run_id, str(seconds)])
            try:
                ages, points_s = _ages_s(settings, wanted, rank)
                _wait_for(server, wanted)
                told = server.ages_s()
            finally:
                rank.kill()
                rank.wait()
    for share, bar in ((0.5, 0.5), (0.95, 1.0), (0.99, 2.0)):
        yield Figure(f"record_p{share * 100:g}_s", quantile(ages, share), "s", len(ages), Bar("<=", bar))
    yield Figure("webhook_p50_s", quantile(told, 0.5), "s", len(told))
    yield Figure("webhook_p95_s", quantile(told, 0.95), "s", len(told), Bar("<=", 1.5))
    yield Figure("points_s", points_s, "points/s", len(ages))


@contextlib.contextmanager
def _environment(**values: str) -> Generator[None]:
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("run_id")
    parser.add_argument("seconds", type=float)
    arguments = parser.parse_args()
    _rank(arguments.run_id, arguments.seconds)
