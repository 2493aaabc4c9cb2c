"""The broker is killed and started again while a worker works: results stay exact, with nothing done by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, cast

import pytest

from runstream_local.kafka import is_healthy
from runstream_local.kafka_jars import ensure_jars
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import start_child, stop_child
from runstream_schemas import wire
from tests.processors.stack import Feed, Part, Tail, settings_of
from tests.processors.test_worker import RULE, WRITERS, all_in, assert_exact, episodes, feed_slowly, history, mixed, place

if TYPE_CHECKING:
    from pathlib import Path

    from runstream_schemas.records import Alert


class Broker:
    """A broker of this test's own, that can be killed and started on the same data."""

    def __init__(self, folder: Path) -> None:
        ensure_jars()
        self.folder = folder
        self.port = choose_port()
        self.controller_port = choose_port(avoid=frozenset({self.port}))
        self.child: subprocess.Popen[bytes] = self.start()

    @property
    def servers(self) -> str:
        """Bootstrap servers."""
        return f"{HOST}:{self.port}"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts it and waits until it answers."""
        argv = [sys.executable, "-m", "runstream_local.kafka", "--data", str(self.folder)]
        argv += ["--port", str(self.port), "--controller-port", str(self.controller_port)]
        self.child = start_child(argv, log=self.folder / "kafka.log")
        deadline = time.monotonic() + 60
        while not is_healthy(self.servers):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return self.child

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self.child.wait(10)


@pytest.mark.stack
@pytest.mark.timeout(180)
def test_a_broker_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """The worker waits the outage out, or ends and is started again; summaries and alerts are exact afterwards."""
    broker = Broker(tmp_path / "broker")
    settings = settings_of(broker.servers)
    feed, summaries, alerts = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    feed.raw("rule", [(b"high", wire.encode(RULE))])
    frames = mixed([history(writer) for writer in WRITERS])
    worker = Part("worker", settings, tmp_path)
    try:
        worker.wait_ready()
        feed_slowly(feed, frames[:160])
        broker.kill()
        time.sleep(3)
        broker.start()
        feed_slowly(feed, frames[160:])
        for _ in range(40):
            if worker.process.poll() is not None:
                assert worker.process.returncode == 1, worker.said()
                worker = Part("worker", settings, tmp_path)
            if all_in(summaries.poll(2.0), WRITERS):
                break
        assert all_in(summaries.records, WRITERS), worker.said()
        alerts.until(lambda records: len({place(cast("Alert", one)) for one in records}) >= len(episodes(frames)))
        assert_exact(frames, summaries.records, alerts.records)
        assert worker.stop() == 0, worker.said()
    finally:
        worker.kill()
        summaries.close()
        alerts.close()
        stop_child(broker.child, timeout_s=10)
