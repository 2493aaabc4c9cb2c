"""Archives of a real Kafka: every record once whatever happens to the workers, and a database made of the files alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from runstream_feed.records import Place
from runstream_local.ports import HOST, choose_port
from runstream_schemas.records import Schema
from runstream_schemas.settings import environment_of
from runstream_schemas.topics import TOPICS
from runstream_sinks import parquet
from runstream_sinks.archive_files import Raw, in_order
from runstream_sinks.archive_replay import replay_archive
from runstream_sinks.archive_store import ArchiveError, Store
from runstream_sinks.fill import Caller
from runstream_sinks.replay import replay
from runstream_sinks.replay_plan import Request
from runstream_sinks.spans import At
from runstream_sinks.tables import TABLE_OF
from tests.sinks import examples
from tests.sinks.replays import QUIET, command, ends, frames_of, remove_before_last, send_everything, shown, use_settings, wait_until_stored
from tests.sinks.test_pipeline import NEXT, NEXT_TEXT, next_event
from tests.sinks.test_tables import new_run
from tests.sinks.test_watch import figures, get
from tests.sinks.workers import Pipe, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future
    from pathlib import Path

pytestmark = pytest.mark.stack
ALL = tuple(TABLE_OF)
# The next process of that name need not wait until the last one is missed.
ONE_NAME = "one"


@dataclass
class Archive:
    """An archive of a pipe, and the workers that write it."""

    pipe: Pipe
    folder: Path
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list[subprocess.Popen[bytes]])

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self.folder)

    @property
    def topics(self) -> list[str]:
        """The topics in it."""
        return [TOPICS[name].full_name(self.pipe.settings.topic_prefix) for name in (*ALL, "schema")]

    def start(self, *, module: str = "runstream.cli", interval_s: float = 0.3, ready: bool = True, **environ: str) -> subprocess.Popen[bytes]:
        """Starts a worker."""
        ready_file = self.pipe.folder / f"archive-ready-{len(self.workers)}"
        own = {"RUNSTREAM_ARCHIVE_URL": self.url, "RUNSTREAM_ARCHIVE_INTERVAL": str(interval_s), "RUNSTREAM_READY_FILE": str(ready_file)}
        environment = {**os.environ, **environment_of(self.pipe.settings), **own, **environ}
        with (self.pipe.folder / "archive.log").open("ab") as log:
            child = subprocess.Popen([sys.executable, "-m", module, "archive"], env=environment, stdout=log, stderr=log)
        self.workers.append(child)
        if ready:
            wait_for(lambda: ready_file.exists() or child.poll() is not None, "the worker's partitions")
            assert child.poll() is None, self.log()
        return child

    def log(self) -> str:
        """What all workers have said."""
        return (self.pipe.folder / "archive.log").read_text()

    def end(self, child: subprocess.Popen[bytes]) -> None:
        """Asks a worker to end, which it does."""
        child.send_signal(signal.SIGTERM)
        assert child.wait(timeout=15) == 0, self.log()

    def records(self) -> dict[Place, list[Raw]]:
        """Everything in all files, as whoever reads all of them finds it."""
        store = Store(self.url)
        found: dict[Place, list[Raw]] = {}
        for name in sorted(store.names(self.topics), key=lambda one: (one.place, one.first)):
            records = list(store.read(name))
            assert (records[0].offset >= name.first, records[-1].offset <= name.last) == (True, True)
            found.setdefault(name.place, []).extend(records)
        return found

    def count(self) -> int:
        """Records in the archive."""
        return sum(len(some) for some in self.records().values())

    def wait_for_records(self, count: int) -> None:
        """Waits until it has so many."""
        try:
            wait_for(lambda: self.count() >= count, f"{count} records")
        except AssertionError as error:
            raise AssertionError(f"{error}, it has {self.count()}:\n{self.log()}") from None

    def has_each_once(self) -> bool:
        """Whether offsets follow one another in every partition, and all that the sinks' topics hold is there."""
        by_topic: Counter[str] = Counter()
        for place, some in self.records().items():
            offsets = [one.offset for one in some]
            if offsets != list(range(len(offsets))):
                return False
            by_topic[place.topic] += len(offsets)
        return all(by_topic[topic] == count for topic, count in ends(self.pipe).items())


@pytest.fixture
def archive(pipe: Pipe, tmp_path: Path) -> Iterator[Archive]:
    """An archive of the pipe, without a worker yet; no worker outlives the test."""
    made = Archive(pipe, tmp_path / "archive")
    try:
        yield made
    finally:
        for child in made.workers:
            if child.poll() is None:
                child.kill()
            child.wait()


@pytest.fixture
def shadow(pipe: Pipe) -> Iterator[str]:
    """The name of another database, removed at the end."""
    name = f"{pipe.settings.clickhouse_database}_shadow"
    yield name
    pipe.query(f"DROP DATABASE IF EXISTS `{name}`")


def test_an_archive_holds_records_as_they_are_and_makes_a_database_again(archive: Archive, shadow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, values, headers and times; when Kafka has removed them, a database made of the files shows what the live one shows, and a second replay adds nothing."""
    pipe = archive.pipe
    sinks, worker = pipe.start(), archive.start()
    run_id = new_run()
    send_everything(pipe, run_id)
    # A schema of a later version, and records of it, that only the archived schema topic explains.
    pipe.send(("schema", str(NEXT.schema_id).encode(), Schema(NEXT.schema_id, "Event", 99, NEXT_TEXT)))
    pipe.send(("event", run_id.encode(), next_event(examples.event(run_id, seq=77))))
    producer = Producer({"bootstrap.servers": pipe.settings.kafka})
    headers: list[tuple[str, str | bytes | None]] = [("trace", b"\xff\x00"), ("trace", None)]
    topic = f"{pipe.settings.topic_prefix}.event"
    producer.produce(topic, b"poison", None, partition=2, headers=headers, timestamp=1_700_000_000_123)
    assert producer.flush(20) == 0
    wait_until_stored(pipe)
    wait_until_stored(pipe)
    archive.wait_for_records(sum(ends(pipe).values()) + 1)
    archive.end(worker)
    assert archive.has_each_once()
    [poison] = [one for one in archive.records()[Place(topic, 2)] if one.value == b"poison"]
    assert (poison.key, poison.headers) == (None, (("trace", b"\xff\x00"), ("trace", None)))
    assert poison.time_ms in (1_700_000_000_123, pytest.approx(time.time() * 1000, abs=120_000))
    assert pipe.end(sinks)[0] == 0
    before = shown(pipe)
    remove_before_last(pipe, 0)
    monkeypatch.setenv("RUNSTREAM_HOME", str(pipe.folder))
    settings = pipe.settings.model_copy(update={"home": pipe.folder, "kafka": "127.0.0.1:9"})
    for times in (1, 2):
        result = replay_archive(settings, Request(ALL, into=shadow), archive.url, QUIET)
        assert (result.complete, result.resumed) == (True, False)
        assert sum(result.malformed.values()) == 1
        assert shown(pipe, shadow) == before, times
    assert list((pipe.folder / "replay").iterdir()) == []
    # One that is stopped goes on.
    pipe.query(f"DROP DATABASE `{shadow}`")
    seen = 0

    def told(_: object) -> None:
        nonlocal seen
        seen += 1

    first = replay_archive(settings, Request(ALL, into=shadow, rows_s=100), archive.url, Caller(lambda: seen > 8, told))
    assert not first.complete
    second = replay_archive(settings, Request(ALL, into=shadow), archive.url, QUIET)
    assert (second.complete, second.resumed) == (True, True)
    assert sum(first.records.values()) + sum(second.records.values()) == sum(ends(pipe).values())
    assert shown(pipe, shadow) == before


def test_a_worker_killed_at_any_point_loses_and_doubles_nothing(archive: Archive) -> None:
    """Before a file is written, in the middle of its bytes, and before its offset is committed."""
    pipe, run_id = archive.pipe, new_run()
    for number, point in enumerate(("before", "within", "after")):
        pipe.send_frames(*frames_of(run_id, writers=8, frames=5, first=5 * number))
        child = archive.start(module="tests.sinks.dies_while_archiving", ready=False, DIES_AT=point, RUNSTREAM_GROUP_INSTANCE_ID=ONE_NAME)
        assert child.wait(timeout=60) == -9, archive.log()
        if point == "within":
            assert list(archive.folder.rglob("*.tmp"))
    worker = archive.start(RUNSTREAM_GROUP_INSTANCE_ID=ONE_NAME)
    archive.wait_for_records(120)
    archive.end(worker)
    assert archive.has_each_once()
    assert list(archive.folder.rglob("*.tmp")) == []


def test_a_worker_frozen_past_its_session_does_no_harm(archive: Archive) -> None:
    """Its partitions go to another, which archives what it had open; thawed, it gives up what it has and goes on with what it is given."""
    pipe, run_id = archive.pipe, new_run()
    frozen = archive.start(interval_s=1.0)
    pipe.send_frames(*frames_of(run_id, writers=8, frames=5))
    wait_for(lambda: archive.count() > 0 or "partitions assigned" in archive.log(), "it to begin")
    frozen.send_signal(signal.SIGSTOP)
    pipe.send_frames(*frames_of(run_id, writers=8, frames=5, first=5))
    other = archive.start()
    archive.wait_for_records(80)
    frozen.send_signal(signal.SIGCONT)
    wait_for(lambda: archive.log().count("partitions revoked") >= 2, "both to share")
    pipe.send_frames(*frames_of(run_id, writers=8, frames=5, first=10))
    archive.wait_for_records(120)
    for child in (frozen, other):
        archive.end(child)
    assert archive.has_each_once()


def test_storage_that_is_away_only_delays(archive: Archive) -> None:
    """Nothing is lost meanwhile, the worker says what it waits for and shows it, and SIGTERM ends it in time."""
    pipe, run_id = archive.pipe, new_run()
    archive.folder.mkdir()
    blocked = archive.folder / f"{pipe.settings.topic_prefix}.metric"
    blocked.write_text("in the way")
    worker = archive.start()
    pipe.send_frames(*frames_of(run_id))
    wait_for(lambda: "the archive cannot be written to, trying again" in archive.log(), "a word about it")
    archive.end(worker)
    assert archive.count() == 0
    port = choose_port()
    page = f"http://{HOST}:{port}"
    worker = archive.start(RUNSTREAM_METRICS_PORT=str(port), RUNSTREAM_METRICS_HOST=HOST, RUNSTREAM_STALL_AFTER="1")
    wait_for(lambda: "stand still while records wait" in get(f"{page}/healthz")[1], "red")
    assert archive.log().count("the archive cannot be written to, trying again") >= 2
    blocked.unlink()
    archive.wait_for_records(15)
    wait_for(lambda: get(f"{page}/healthz") == (200, "ok\n"), "green")
    found = figures(get(f"{page}/metrics")[1].encode())
    topic = f"{pipe.settings.topic_prefix}.metric"
    assert found["runstream_archive_records_total", (topic,)] == 15
    assert found["runstream_archive_files_total", (topic,)] == found["runstream_archive_write_seconds_count", ()] > 0
    assert found["runstream_archive_write_retries_total", ()] > 0
    assert found["runstream_archive_rebalances_total", ("assigned",)] == 1
    assert found["runstream_archive_commits_total", ("sent",)] >= 2 * found["runstream_archive_files_total", (topic,)]
    assert found["runstream_archive_partitions", ()] == len([name for name, _ in found if name == "runstream_archive_lag_records"])
    archive.end(worker)
    assert archive.has_each_once()


def forget_group(pipe: Pipe) -> None:
    """Removes the group of the archive's workers, as Kafka does when it has been empty for long."""
    admin = AdminClient({"bootstrap.servers": pipe.settings.kafka})
    answers = cast("dict[str, Future[None]]", admin.delete_consumer_groups([f"{pipe.settings.topic_prefix}-archive"]))  # pyright: ignore[reportUnknownMemberType]  # its stub is open
    answers[f"{pipe.settings.topic_prefix}-archive"].result(timeout=30)


def test_a_group_that_was_forgotten_goes_on_behind_the_files(archive: Archive) -> None:
    """And files of a topic that was made anew are not written over."""
    pipe, run_id = archive.pipe, new_run()
    pipe.send_frames(*frames_of(run_id))
    worker = archive.start()
    archive.wait_for_records(15)
    archive.end(worker)
    files = {path: path.stat().st_mtime_ns for path in archive.folder.rglob("*.parquet")}
    forget_group(pipe)
    pipe.send_frames(*frames_of(run_id, first=5, frames=1))
    worker = archive.start()
    archive.wait_for_records(18)
    archive.end(worker)
    assert archive.has_each_once()
    assert {path: path.stat().st_mtime_ns for path in files} == files
    # A file that says more than the topic has.
    [some] = list(in_order(Store(archive.url).names([f"{pipe.settings.topic_prefix}.metric"])).values())[:1]
    path = archive.folder / some[-1].path
    path.rename(path.with_name(path.name.replace(f"{some[-1].last:020d}", f"{9999:020d}")))
    forget_group(pipe)
    worker = archive.start(ready=False)
    assert worker.wait(timeout=40) == 1
    assert "it was made anew" in archive.log().splitlines()[-1]


def test_the_commands_tell_what_an_archive_holds(archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Listed by partition with its holes; replayed by day; wrong addresses are one sentence."""
    pipe, run_id = archive.pipe, new_run()
    use_settings(pipe, monkeypatch)
    monkeypatch.setenv("RUNSTREAM_HOME", str(pipe.folder))
    code, _, err = command(["archive"], capsys)
    assert code == 2
    assert "RUNSTREAM_ARCHIVE_URL" in err
    code, _, err = command(["archive", "nosuch://x", "--ls"], capsys)
    assert code == 2
    code, _, err = command(["archive", archive.url, "--ls"], capsys)
    assert code == 1
    assert "there is no archive at this address" in err
    code, _, err = command(["replay", "--from-archive", archive.url], capsys)
    assert code == 1
    assert "there is no archive at this address" in err
    pipe.send_frames(*frames_of(run_id))
    worker = archive.start()
    archive.wait_for_records(15)
    archive.end(worker)
    code, told, _ = command(["archive", archive.url, "--ls", "--json"], capsys)
    assert code == 0
    assert sum(one["last"] - one["first"] + 1 for one in told["partitions"]) == 15
    assert all(one["holes"] == [] and one["bytes"] > 0 for one in told["partitions"])
    for arguments, rows in (
        (["--from", "1h"], 120),
        (["--to", "1h"], 0),
        (["--run", new_run()], 0),
        (["--from", "1"], 104 if len(told["partitions"]) == 2 else 112),
    ):
        code, answer, err = command(["replay", "--from-archive", archive.url, "--json", *arguments], capsys)
        assert (code, answer["rows"]) == (0, rows), (arguments, err)
    assert pipe.count("metrics") == 120
    code, _, err = command(["replay", "--from-archive", archive.url, "--group", "mine"], capsys)
    assert code == 2
    assert "--from-archive goes without" in err
    with pytest.raises(ArchiveError):
        replay_archive(pipe.settings, Request(("metric",), since=At(0)), str(pipe.folder), QUIET)
    assert replay(pipe.settings, Request(("metric",)), QUIET).complete
    assert parquet.SCHEMA.names == ["topic", "partition", "offset", "timestamp", "key", "value", "headers"]
