"""The Faust runner by itself: what it says when records are there and none is handed over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from runstream_processors.admin import ensure_changelogs
from runstream_processors.connection import connection_of
from runstream_processors.errors import EngineFailed, NotReady
from runstream_processors.faust_options import Timing
from runstream_processors.faust_runner import FaustRunner, Source, changelog_of
from tests.processors.stack import PARTITIONS, Feed, settings_of
from tests.processors.test_worker import history

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runstream_processors.engine import Received
    from runstream_processors.pipeline import Ports

pytestmark = [pytest.mark.stack, pytest.mark.timeout(90)]


def test_records_that_nobody_hands_over_are_noticed(kafka: str, tmp_path: Path) -> None:
    """With nothing waiting a quiet worker is fine; with records waiting and no take for too long the runner fails, and the process would end."""
    settings = settings_of(kafka)
    connection, group = connection_of(settings), f"{settings.topic_prefix}.test"
    ensure_changelogs(connection, {changelog_of(group, "metric"): PARTITIONS}, 30)
    taken: list[int] = []

    async def handle(records: Sequence[Received], _ports: Ports) -> bool:
        taken.extend(record.offset for record in records)
        return True

    async def main() -> None:
        source = Source("metric", f"{settings.topic_prefix}.metric", PARTITIONS, handle, lambda: None)
        runner = FaustRunner(connection, group, [source], Timing(stuck_s=1.0), tmp_path)
        await runner.start()
        feed = Feed(settings)
        try:
            feed.frames(history(1, 20))
            while len(taken) < 2:
                runner.pulse()
                await asyncio.sleep(0.1)
            await asyncio.sleep(1.5)
            runner.pulse()
            await runner.check_progress()
            assert not runner.failed.is_set()

            runner._app.consumer.stop_flow()
            await asyncio.sleep(0.5)
            feed.frames(history(1, 40)[2:])
            await runner.check_progress()
            assert not runner.failed.is_set()
            await asyncio.sleep(1.5)
            await runner.check_progress()
            assert isinstance(runner.failure, EngineFailed)
            assert "2 records have waited" in str(runner.failure)
        finally:
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
