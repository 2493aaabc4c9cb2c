"""Training logs more than the journal folder holds while Kafka is away: the oldest rows are kept, new ones are dropped and counted, and it goes on once there is room."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import runstream
from runstream_producers.topics import ensure_topics
from runstream_schemas.records import MetricFrame
from runstream_schemas.settings import load
from tests.producers.cluster import settle
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.forwarder import Forwarder
from tests.waiting import wait_for

pytestmark = pytest.mark.stack

WIDTH = 200
BUDGET = 1 << 20


@pytest.fixture(params=["a budget", "a full disk"])
def journals(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A journal folder with a limit, of ours or of its file system."""
    folder = tmp_path / "journals"
    folder.mkdir(mode=0o700)
    if request.param == "a budget":
        yield folder
        return
    if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={BUDGET},mode=700", "tmpfs", str(folder)], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system; the budget is tested without one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def used(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def test_the_oldest_is_kept_and_the_rest_is_counted(
    kafka: str, journals: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Every row that was accepted arrives, those that were not are a gap that is accounted for and counted by its reason, in one warning, the run and the writer's record."""
    forwarder = Forwarder(kafka)
    ours = journals.stat().st_dev == tmp_path.stat().st_dev
    place = settle(forwarder.address, tmp_path, monkeypatch, journal_bytes_max=str(BUDGET if ours else 1 << 30), journal_dir=str(journals))
    ensure_topics(load({"kafka": kafka}))
    try:
        run = runstream.init("tests")
        place.wait_for_agent()

        def log(rows: int) -> None:
            for _ in range(rows):
                run.log({f"name-{one}": float(run.next_seq) for one in range(WIDTH)}, step=run.next_seq)

        def is_kept() -> bool:
            before = run.points_logged
            log(1)
            return run.points_logged > before

        log(1500)
        most = used(journals)
        kept = run.points_logged // WIDTH
        assert 100 < kept < 1000
        assert run.points_dropped == {"journal_full": (1500 - kept) * WIDTH}
        [told] = [record.getMessage() for record in caplog.records]
        assert "dropped and counted until there is room" in told
        assert not ours or "journal_bytes_max" in told
        assert most <= BUDGET + (64 << 10)

        forwarder.open()
        wait_for(lambda: run.points_shipped == kept * WIDTH, 20, place.log)
        wait_for(is_kept, 5, "a row to find room")
        on_from, dropped = run.next_seq - 1, run.points_dropped
        log(100)
        assert run.points_dropped == dropped
        assert run.finish(timeout=30).shipped, place.log()

        place.kafka = kafka
        frames = place.read("metric", MetricFrame)
        check_account(frames, until=run.next_seq)
        assert sorted(ledger_of(frames)) == [*range(1, kept + 1), *range(on_from, on_from + 101)]
        [state] = place.last_states().values()
        points = (kept + 101) * WIDTH
        assert (state.state, state.points_dropped, state.points_logged, state.points_shipped) == ("finished", dropped, points, points)
        place.end()
    finally:
        place.kill_agents()
        forwarder.close()
