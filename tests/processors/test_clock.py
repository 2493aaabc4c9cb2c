"""The wall clock of a processor is set: back, and it ends, since what follows the rules would wait for as long; ahead, and it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from runstream_processors.faust_runner import changelog_of
from runstream_processors.worker import group_of
from tests.clock import Clock
from tests.processors.stack import PARTITIONS, Feed, Part, Tail, settings_of
from tests.processors.test_worker import history
from tests.waiting import wait_for


@pytest.mark.stack
@pytest.mark.parametrize("part", ["worker", "notify"])
def test_a_processor_whose_clock_is_set_back_ends(kafka: str, tmp_path: Path, part: str) -> None:
    """It says so and ends with 1 within seconds, whatever it does at that moment."""
    clock = Clock(tmp_path)
    process = Part(part, settings_of(kafka), tmp_path, environ=clock.environ)
    try:
        wait_for(lambda: bool(process.said()), 30, process.said)
        clock.set(-3600)
        assert process.process.wait(30) == 1, process.said()
        assert "the clock was set back, so that this process ends and another goes on set_back_s=3600" in process.said()
    finally:
        process.kill()


@pytest.mark.stack
def test_a_worker_whose_clock_is_a_day_ahead_stores_its_state(kafka: str, tmp_path: Path) -> None:
    """Kafka takes no record from more than an hour ahead, except where it stamps them itself, as it does on the changelogs."""
    settings, clock = settings_of(kafka), Clock(tmp_path)
    clock.set(86_400)
    worker = Part("worker", settings, tmp_path, environ=clock.environ)
    summaries = Tail(settings, "summary")
    asker = Consumer({"bootstrap.servers": kafka, "group.id": "asks"})
    try:
        worker.wait_ready()
        Feed(settings).frames(history(1, rows=50))
        changelog = changelog_of(group_of(settings.topic_prefix), "metric")

        def stored() -> int:
            ends = [asker.get_watermark_offsets(TopicPartition(changelog, number), timeout=10, cached=False)[1] for number in range(PARTITIONS)]
            return sum(ends)

        summaries.until(lambda found: bool(found))
        wait_for(lambda: stored() > 0, 20, worker.said)
        assert worker.stop() == 0, worker.said()
        assert "InvalidTimestamp" not in worker.said()
    finally:
        worker.kill()
        asker.close()
        summaries.close()
