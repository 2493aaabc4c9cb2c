"""The broker is killed and started again while a worker works: results stay exact, with nothing done by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from runstream_schemas import wire
from tests.broker import Broker
from tests.processors.stack import Feed, Part, Tail, settings_of
from tests.processors.test_worker import RULES, WRITERS, all_in, assert_exact, feed_slowly, history, ids, mixed, undisturbed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.stack
@pytest.mark.timeout(180)
def test_a_broker_that_is_killed_and_comes_back(tmp_path: Path) -> None:
    """The worker waits the outage out, or ends and is started again; summaries and alerts are exact afterwards."""
    broker = Broker(tmp_path / "broker")
    settings = settings_of(broker.servers)
    feed, summaries, alerts = Feed(settings), Tail(settings, "summary"), Tail(settings, "alert")
    feed.raw("rule", [(rule.rule_id.encode(), wire.encode(rule)) for rule in RULES])
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
        wanted = undisturbed(frames)
        alerts.until(lambda records: ids(records) >= wanted)
        assert_exact(frames, summaries.records, alerts.records)
        assert worker.stop() == 0, worker.said()
    finally:
        worker.kill()
        summaries.close()
        alerts.close()
        broker.stop()
