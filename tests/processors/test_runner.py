"""The Faust runner by itself: what it says when records are there and none is handed over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runstream_feed.connection import connection_of
from runstream_processors.admin import ensure_changelogs
from runstream_processors.errors import EngineFailed, NotReady
from runstream_processors.faust_options import Timing
from runstream_processors.faust_runner import FaustRunner, Source, changelog_of
from runstream_schemas.settings import load
from tests.processors.stack import PARTITIONS, Feed, settings_of
from tests.processors.test_worker import history

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runstream_processors.engine import Entry, Received
    from runstream_processors.pipeline import Ports
    from runstream_schemas.settings import Settings

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]


class Noting:
    """A stage that takes note of offsets and stores nothing."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.due = True

    async def take(self, records: Sequence[Received], ports: Ports) -> bool:
        """Notes."""
        self.taken += [record.offset for record in records]
        return ports.owned()

    async def tick(self, ports: Ports, *, hears: bool) -> None:
        """Nothing."""

    async def store(self, ports: Ports) -> bool:
        """Nothing to store."""
        return ports.owned()

    def forget(self) -> None:
        """Nothing to forget."""

    def recovered(self, entries: Sequence[Entry]) -> None:
        """There is nothing."""
        assert not entries


def test_records_that_nobody_hands_over_are_noticed(kafka: str, tmp_path: Path) -> None:
    """With nothing waiting a quiet worker is fine; with records waiting and no take for too long the runner fails, and the process would end."""
    settings = settings_of(kafka)
    connection, group = connection_of(settings), f"{settings.topic_prefix}.test"
    ensure_changelogs(connection, {changelog_of(group, "metric"): PARTITIONS}, 30)
    stage = Noting()
    taken = stage.taken

    async def main() -> None:
        source = Source("metric", f"{settings.topic_prefix}.metric", PARTITIONS, stage)
        runner = FaustRunner(connection, group, [source], Timing(stuck_s=1.0, session_timeout_s=20.0), tmp_path)
        await runner.start()
        feed = Feed(settings)

        async def beat() -> None:
            while True:
                runner.pulse()
                await asyncio.sleep(0.1)

        beating = asyncio.create_task(beat())
        try:
            feed.frames(history(1, 20))
            while len(taken) < 2:
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.5)
            await runner.check_progress()
            assert runner.failure is None

            runner._app.consumer.stop_flow()
            await asyncio.sleep(0.5)
            feed.frames(history(1, 40)[2:])
            await runner.check_progress()
            assert runner.failure is None
            await asyncio.sleep(1.5)
            await runner.check_progress()
            assert isinstance(runner.failure, EngineFailed)
            assert "2 records have waited" in str(runner.failure)
        finally:
            beating.cancel()
            await runner.stop(5)

    asyncio.run(main())


def test_a_changelog_with_other_partitions_is_refused(kafka: str) -> None:
    """State is partitioned with its source; the sentence says what differs."""
    settings = settings_of(kafka)
    connection, name = connection_of(settings), f"{settings.topic_prefix}.changelog"
    ensure_changelogs(connection, {name: 2}, 30)
    ensure_changelogs(connection, {name: 2}, 30)
    with pytest.raises(NotReady, match="has 2 partitions and its source 4"):
        ensure_changelogs(connection, {name: 4}, 30)


class Cluster:
    """What a member of the group knows of the cluster."""

    def __init__(self, partitions: dict[str, int]) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Its partitions; None where the topic is not known."""
        return set(range(self._partitions[topic])) if topic in self._partitions else None


def test_a_leader_that_does_not_know_the_topics_yet_ends(tmp_path: Path) -> None:
    """A broker that has just come back may not name its topics; partitions shared out then belong to nobody, and a worker that is content with none would be idle for good."""
    settings = load({"kafka": "127.0.0.1:9"}, {"RUNSTREAM_HOME": str(tmp_path)})
    group = f"{settings.topic_prefix}.test"
    known = {"metrics": 4, changelog_of(group, "metric"): 4}

    async def failure_of(partitions: dict[str, int]) -> BaseException | None:
        runner = FaustRunner(connection_of(settings), group, [Source("metric", "metrics", 4, Noting())], Timing(), tmp_path)
        runner._loop = asyncio.get_running_loop()
        assignor = runner._app.assignor
        assignor.assign(Cluster(partitions), {"one": assignor.metadata(set(known))})
        await asyncio.sleep(0)
        return runner.failure

    assert asyncio.run(failure_of(known)) is None
    failure = asyncio.run(failure_of({}))
    assert isinstance(failure, EngineFailed)
    assert str(failure) == f"Kafka did not know metrics, {changelog_of(group, 'metric')} when partitions were shared out, so that nobody has them"


def runner_of(settings: Settings, folder: Path, stuck_s: float) -> FaustRunner:
    """A runner of one source, whose stage takes note and stores nothing."""
    connection, group = connection_of(settings), f"{settings.topic_prefix}.test"
    ensure_changelogs(connection, {changelog_of(group, "metric"): PARTITIONS}, 30)
    source = Source("metric", f"{settings.topic_prefix}.metric", PARTITIONS, Noting())
    return FaustRunner(connection, group, [source], Timing(stuck_s=stuck_s, session_timeout_s=20.0), folder)


def test_a_recovery_that_took_long_is_no_standstill(kafka: str, tmp_path: Path) -> None:
    """Records that came while tables were recovered have waited for as long, and are about to be handed over: only what does not move after that fails the runner."""
    settings = settings_of(kafka)

    async def main() -> None:
        runner = runner_of(settings, tmp_path, stuck_s=1.0)

        async def long(*_: object, **__: object) -> None:
            await asyncio.sleep(2.0)  # As reading a large changelog takes, between the partitions and the first record.

        runner._app.on_partitions_assigned.connect(long, weak=False)
        await runner.start()
        try:
            while not runner.ready:
                await asyncio.sleep(0.05)
            runner._app.consumer.stop_flow()
            Feed(settings).frames(history(1, 20))
            await runner.check_progress()
            assert runner.failure is None
            await asyncio.sleep(1.5)
            await runner.check_progress()
            assert runner.failed.is_set()
        finally:
            await runner.stop(10.0)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_recovery_that_moves_may_take_its_time(kafka: str, tmp_path: Path) -> None:
    """While tables are recovered it is their changelogs that must move; one that stands still fails the runner."""
    settings = settings_of(kafka)

    async def main() -> None:
        runner = runner_of(settings, tmp_path, stuck_s=0.5)
        await runner.start()
        try:
            while not runner.ready:
                await asyncio.sleep(0.05)
            runner._app.consumer.stop_flow()
            Feed(settings).frames(history(1, 20))
            recovery = runner._app.tables.recovery
            recovery.completed.clear()
            for left in (30, 20, 10):
                recovery.active_remaining_total = lambda left=left: left
                await asyncio.sleep(0.6)
                await runner.check_progress()
                assert runner.failure is None
            await asyncio.sleep(0.6)
            await runner.check_progress()
            assert runner.failed.is_set()
        finally:
            await runner.stop(10.0)

    asyncio.run(asyncio.wait_for(main(), 60))
