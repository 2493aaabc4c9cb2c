"""Replays of a real Kafka into the real engine: what is there already collapses, and whoever is killed goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

from runstream_schemas import wire
from runstream_schemas.settings import environment_of
from runstream_schemas.topics import writer_key
from runstream_sinks.errors import KafkaRefused, ServerRefused
from runstream_sinks.fill import Caller
from runstream_sinks.kafka_reader import Reader
from runstream_sinks.replay import Result, replay
from runstream_sinks.replay_plan import Request, group_of
from runstream_sinks.spans import At, Offset
from runstream_sinks.tables import TABLE_OF
from tests.sinks.expected import expected
from tests.sinks.replays import QUIET, VIEWS, command, ends, frames_of, send_everything, shown, use_settings, wait_until_stored
from tests.sinks.test_tables import new_run
from tests.sinks.workers import PARTITIONS, Pipe, Sent, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.stack


@pytest.fixture
def shadow(pipe: Pipe) -> Iterator[str]:
    """The name of another database, removed at the end."""
    name = f"{pipe.settings.clickhouse_database}_shadow"
    yield name
    pipe.query(f"DROP DATABASE IF EXISTS `{name}`")


def metric_request(**more: object) -> Request:
    """A replay of the metrics."""
    return Request(("metric",), **more)  # pyright: ignore[reportArgumentType]  # the fields are given by name


def records(result: Result) -> int:
    """Records that a replay read."""
    return sum(result.records.values())


def test_all_topics_replayed_twice_leave_every_view_as_it_was(pipe: Pipe) -> None:
    """Rows are stored again and again, and every view's count and checksum is what it was, and what is expected of what was sent."""
    worker = pipe.start()
    sent = [*send_everything(pipe, new_run()), *send_everything(pipe, new_run())]
    pipe.send(("event", b"k", b"poison"))
    wait_until_stored(pipe)
    pipe.wait_for_rows("dead_letters", 3)
    wait_until_stored(pipe)
    assert pipe.end(worker)[0] == 0
    before = shown(pipe)
    # The worker's own letter has a time of its own; all else is known from what was sent.
    assert {**before, "dead_letters": None} == {**expected(pipe, sent), "dead_letters": None}
    assert all(before[view][0] > 0 for view in VIEWS)
    letters = ends(pipe)
    for _ in range(2):
        result = replay(pipe.settings, Request(tuple(TABLE_OF)), QUIET)
        assert result.complete
        assert not result.resumed
        assert records(result) == sum(letters.values())
        assert sum(result.malformed.values()) == 1
        assert result.examples[0].topic.endswith(".event")
    assert shown(pipe) == before
    # It did store: there are repeats. And it wrote no letters of its own.
    assert pipe.query("SELECT count() FROM metric_points")[0][0] >= before["metrics"][0]
    assert ends(pipe) == letters


def test_a_shadow_database_shows_what_the_live_one_shows(pipe: Pipe, shadow: str) -> None:
    """Its tables are made, and the same command catches up; with `follow` it goes on with what comes until it is asked to stop."""
    worker = pipe.start()
    send_everything(pipe, new_run())
    wait_until_stored(pipe)
    request = Request(tuple(TABLE_OF), into=shadow)
    first = replay(pipe.settings, request, QUIET)
    assert (first.database, first.resumed) == (shadow, False)
    assert shown(pipe, shadow) == shown(pipe)
    send_everything(pipe, new_run())
    wait_until_stored(pipe)
    second = replay(pipe.settings, request, QUIET)
    assert second.resumed
    assert records(first) + records(second) == sum(ends(pipe).values())
    assert shown(pipe, shadow) == shown(pipe)
    run_id = new_run()
    sent = False

    def enough() -> bool:
        nonlocal sent
        if not sent:
            pipe.send_frames(*frames_of(run_id))
            sent = True
        return pipe.query(f"SELECT count() FROM `{shadow}`.metrics WHERE run_id = {{run:UUID}}", run=run_id) == [(120,)]

    deadline = time.monotonic() + 40
    result = replay(pipe.settings, Request(tuple(TABLE_OF), into=shadow, follow=True), Caller(lambda: enough() or time.monotonic() > deadline, lambda _: None))
    assert not result.complete
    assert result.rows == {f"{pipe.settings.topic_prefix}.metric": 120}
    assert pipe.end(worker)[0] == 0


def test_bounds_and_runs_choose_what_is_stored(pipe: Pipe) -> None:
    """Offsets are those of each partition, times those at which Kafka took the records; a run's records are found wherever they are."""
    one, other = new_run(), new_run()
    pipe.send_frames(*frames_of(one))
    pipe.send_frames(*frames_of(other))
    wait_for(lambda: int(1000 * time.time()) > pipe_time(pipe) + 50, "the clock")
    cut = int(1000 * time.time())
    pipe.send_frames(*frames_of(other, first=5, frames=1))

    def stored(**more: object) -> int:
        pipe.query("TRUNCATE TABLE metric_points")
        result = replay(pipe.settings, metric_request(**more), QUIET)
        assert result.complete
        assert sum(result.rows.values()) == pipe.count("metrics")
        return pipe.count("metrics")

    assert stored(runs=frozenset({one})) == 120
    assert stored(runs=frozenset({other}), until=At(cut), said=("", "cut")) == 120
    assert stored(since=At(cut), said=("cut", "")) == 24
    assert stored(until=At(cut), said=("", "cut")) == 240
    assert stored(since=Offset(0), until=Offset(2), said=("0", "2")) == 8 * 2 * occupied(pipe)
    assert stored(since=At(cut + 3_600_000), said=("later", "")) == 0


def occupied(pipe: Pipe) -> int:
    """Partitions of the metrics that have records."""
    reader = Reader(pipe.settings, "looks")
    try:
        return sum(high > 0 for _, high in reader.limits(reader.places([f"{pipe.settings.topic_prefix}.metric"])).values())
    finally:
        reader.close()


def pipe_time(pipe: Pipe) -> int:
    """When Kafka took the newest metric record, in epoch milliseconds."""
    consumer = Consumer({"bootstrap.servers": pipe.settings.kafka, "group.id": "looks"})
    try:
        newest = 0
        for number in range(PARTITIONS):
            place = TopicPartition(f"{pipe.settings.topic_prefix}.metric", number)
            _, high = consumer.get_watermark_offsets(place, timeout=20)
            if high:
                consumer.assign([TopicPartition(place.topic, number, high - 1)])
                message = consumer.poll(20)
                assert message is not None
                newest = max(newest, message.timestamp()[1])
        return newest
    finally:
        consumer.close()


def test_a_replay_that_was_killed_goes_on_where_everything_was_stored(pipe: Pipe) -> None:
    """Nothing is lost, little is read twice, and once it is done the same command begins anew."""
    run_id = new_run()
    frames = frames_of(run_id, writers=4, frames=100)
    pipe.send_frames(*frames)
    environment = {**os.environ, **environment_of(pipe.settings)}
    argv = [sys.executable, "-m", "runstream.cli", "replay", "--topic", "metric", "--rate", "100"]
    with (pipe.folder / "replay.log").open("wb") as log:
        child = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)
        try:
            wait_for(lambda: child.poll() is not None or pipe.count("metrics") >= 80, "a part of it")
        finally:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -9, (pipe.folder / "replay.log").read_text()
    stored = pipe.count("metrics")
    assert 80 <= stored < 8 * len(frames)
    result = replay(pipe.settings, metric_request(), QUIET)
    assert result.resumed
    assert result.complete
    assert records(result) < len(frames)
    assert pipe.count("metrics") == 8 * len(frames)
    again = replay(pipe.settings, metric_request(), QUIET)
    assert not again.resumed
    assert records(again) == len(frames)


def test_a_replay_that_is_asked_to_stop_stores_what_it_has_read(pipe: Pipe) -> None:
    """The next one reads the rest and nothing twice."""
    frames = frames_of(new_run(), writers=4, frames=50)
    pipe.send_frames(*frames)
    request = metric_request(rows_s=2000.0)
    seen = 0

    def told(progress: object) -> None:
        nonlocal seen
        seen += 1

    first = replay(pipe.settings, request, Caller(lambda: seen > 5, told))
    assert not first.complete
    assert 0 < records(first) < len(frames)
    assert pipe.count("metrics") == 8 * records(first)
    second = replay(pipe.settings, metric_request(), QUIET)
    assert second.resumed
    assert records(first) + records(second) == len(frames)
    assert pipe.count("metrics") == 8 * len(frames)


def test_groups_of_others_are_left_alone(pipe: Pipe) -> None:
    """Those that the sinks, or anybody else, keep offsets in."""
    settings = pipe.settings
    with pytest.raises(KafkaRefused, match="is the sinks' own"):
        replay(settings, metric_request(group=f"{settings.topic_prefix}-sinks"), QUIET)
    consumer = Consumer({"bootstrap.servers": settings.kafka, "group.id": f"{settings.topic_prefix}-others"})
    consumer.commit(offsets=[TopicPartition(f"{settings.topic_prefix}.metric", 0, 0)], asynchronous=False)
    consumer.close()
    with pytest.raises(KafkaRefused, match="no replay wrote"):
        replay(settings, metric_request(group=f"{settings.topic_prefix}-others"), QUIET)


def test_what_lacks_is_said(pipe: Pipe) -> None:
    """Tables that nobody made, and topics that are not there."""
    pipe.query("TRUNCATE TABLE schema_migrations")
    with pytest.raises(ServerRefused, match="runstream migrate"):
        replay(pipe.settings, metric_request(), QUIET)
    other = pipe.settings.model_copy(update={"topic_prefix": "nowhere"})
    with pytest.raises(KafkaRefused, match=r"nowhere\.metric does not exist"):
        replay(other, metric_request(into=f"{pipe.settings.clickhouse_database}_other"), QUIET)
    pipe.query(f"DROP DATABASE `{pipe.settings.clickhouse_database}_other`")


def test_the_command_tells_what_it_did(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """As an object for scripts, in words for people; wrong arguments are one sentence and exit code 2."""
    use_settings(pipe, monkeypatch)
    run_id = new_run()
    frames = frames_of(run_id)
    poison: list[Sent] = [("metric", writer_key(1), wire.encode(frames[0])[:-2])]
    pipe.send(*poison)
    pipe.send_frames(*frames)
    topic = f"{pipe.settings.topic_prefix}.metric"
    code, told, err = command(["replay", "--topic", "metric", "--json"], capsys)
    assert (code, err) == (0, "")
    assert told["settled"]["calm"]
    assert told["settled"]["seconds"] >= 2
    assert (told["complete"], told["resumed"], told["rows"], told["malformed"]) == (True, False, 120, 1)
    assert told["topics"] == {topic: {"records": 16, "rows": 120, "malformed": 1}}
    assert told["malformed_examples"][0]["topic"] == topic
    assert told["kept_in"] == group_of(pipe.settings, metric_request())
    code, _, _ = command(["replay", "--topic", topic, "--run", run_id.upper(), "--settle", "0"], capsys)
    assert code == 0
    for wrong, said in (
        (["--topic", "metrics"], "--topic must be one of"),
        (["--from", "yesterday"], "--from must be a time"),
        (["--run", "mine"], "--run must be the UUID"),
        (["--follow"], "--follow goes with --into"),
        (["--into", "a-b"], "clickhouse_database"),
        (["--into", pipe.settings.clickhouse_database], "is the live database"),
    ):
        code, _, err = command(["replay", *wrong], capsys)
        assert code == 2
        assert said in err
        assert err.count("\n") == 1
