"""Real workers between a real Kafka and the real engine."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import pytest

from runstream_local.ports import HOST, choose_port
from runstream_producers.topics import ensure_topics
from runstream_schemas import catalogue as cat
from runstream_schemas import topics, wire
from runstream_schemas.records import Schema
from runstream_sinks.clickhouse import Server, create_database
from runstream_sinks.migrations import migrate
from tests.sinks import examples
from tests.sinks.engine import Broker, Engine
from tests.sinks.expected import expected
from tests.sinks.replays import frames_of, shown
from tests.sinks.test_pipeline import NEXT, NEXT_TEXT, next_event
from tests.sinks.test_tables import new_run
from tests.sinks.workers import PARTITIONS, Pipe, Sent, closing, settings_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


pytestmark = pytest.mark.stack


def stored_points(pipe: Pipe, run_id: str) -> list[examples.Point]:
    """The run's points as people see them."""
    rows = pipe.query(
        "SELECT name, context, subject, rank, step, seq, toUnixTimestamp64Milli(time), value FROM metrics WHERE run_id = {run_id:UUID}", run_id=run_id
    )
    return sorted((row[0], row[1], row[2], row[3], row[4], row[5], row[6], row[7]) for row in rows)


def test_every_kind_of_record_arrives_and_the_end_is_clean(pipe: Pipe) -> None:
    """Each record reaches its view; SIGTERM inserts what is there, commits all of it, and ends within 10 s; the next worker reads nothing again."""
    run_id = new_run()
    run = run_id.encode()
    frames = frames_of(run_id)
    worker = pipe.start()
    pipe.send_frames(*frames)
    pipe.send_frames(frames[0], name="hardware")
    pipe.send_writers(examples.writer(run_id, writer=1, points_logged=40, points_shipped=40, state="finished"))
    pipe.send(
        ("run", run, examples.run(run_id, name="first")),
        ("event", run, examples.event(run_id)),
        ("param", run, examples.param(run_id, "lr", "float", "0.1")),
        ("rule", b"rule-1", examples.rule("rule-1")),
        ("summary", b"s", examples.summary(run_id)),
        ("alert", b"alert-1", examples.alert(run_id)),
        ("delivery", b"alert-1", examples.delivery(run_id)),
        ("dead-letter", b"d", examples.dead_letter()),
    )
    expected = {
        "metrics": 120,
        "hardware": 8,
        "writers": 1,
        "runs": 1,
        "events": 1,
        "params": 1,
        "rules": 1,
        "summaries": 2,
        "alerts": 1,
        "deliveries": 1,
        "dead_letters": 1,
        "account": 1,
    }
    for view, rows in expected.items():
        pipe.wait_for_rows(view, rows)
    assert stored_points(pipe, run_id) == sorted(examples.points_of(frames))
    assert pipe.query("SELECT name, state FROM runs") == [("first", "finished")]
    last = examples.frame(examples.group(["late"], 20, 1), run_id=run_id, writer=1)
    pipe.send_frames(last)
    code, seconds = pipe.end(worker)
    assert code == 0, pipe.log()
    assert seconds < 10
    assert pipe.committed("metric", PARTITIONS) >= len(frames)
    again = pipe.start()
    pipe.wait_for_rows("metrics", 121)
    pipe.end(again)
    assert pipe.query("SELECT count() - (SELECT count() FROM metrics) FROM metric_points") == [(0,)]


def test_poison_is_set_aside_and_the_pipeline_goes_on(pipe: Pipe) -> None:
    """A malformed record reaches the dead-letter topic and table with its raw bytes and place, and its neighbours their views."""
    run_id = new_run()
    good = frames_of(run_id, writers=1)
    cut = wire.encode(good[0])[:-5]
    pipe.start()
    pipe.send_frames(*good[:2])
    pipe.send(("metric", topics.writer_key(1), b"poison\xff"), ("metric", topics.writer_key(1), cut), ("param", b"r", wire.encode(examples.event(run_id))))
    pipe.send_frames(*good[2:])
    pipe.wait_for_rows("dead_letters", 3)
    pipe.wait_for_rows("metrics", 40)
    prefix = pipe.settings.topic_prefix
    rows = pipe.query("SELECT topic, hex(value), schema_id, hex(key), reason, worker FROM dead_letters ORDER BY topic, offset")
    by_value = {row[1]: row for row in rows}
    poison, short = by_value[b"poison\xff".hex().upper()], by_value[cut.hex().upper()]
    assert (poison[0], poison[2], poison[3]) == (f"{prefix}.metric", None, topics.writer_key(1).hex().upper())
    assert short[2] == wire.schema_id_of(cut)
    assert any(row[0] == f"{prefix}.param" and "expected a Param on this topic, got Event" in row[4] for row in rows)
    assert all(row[5] for row in rows)
    # The place is that of the record: its neighbours in the partition are the good frames.
    [(offset,)] = pipe.query("SELECT offset FROM dead_letters WHERE hex(value) = {value:String}", value=poison[1])
    assert offset == 2


def test_a_record_of_a_newer_schema_waits_for_the_schema_topic(pipe: Pipe) -> None:
    """The schema may arrive after its first record: the record is held, then stored like any other."""
    run_id = new_run()
    pipe.start()
    pipe.send(("event", b"k", next_event(examples.event(run_id))), ("event", b"k", examples.event(run_id, seq=9)))
    pipe.send_writers(examples.writer(run_id))
    pipe.wait_for_rows("writers", 1)
    assert pipe.count("events") == 0
    pipe.send(("schema", str(NEXT.schema_id).encode(), Schema(NEXT.schema_id, "Event", 99, NEXT_TEXT)))
    pipe.wait_for_rows("events", 2)
    assert pipe.count("dead_letters") == 0
    assert cat.bundled().newest("Event").schema_id != NEXT.schema_id


def test_two_workers_share_the_partitions(pipe: Pipe) -> None:
    """A second worker joins and the first one leaves while records come: everything is stored once."""
    run_id = new_run()
    frames = frames_of(run_id, writers=8, frames=12)
    first = pipe.start()
    pipe.send_frames(*frames[:30])
    pipe.start()
    pipe.send_frames(*frames[30:60])
    code, _ = pipe.end(first)
    assert code == 0, pipe.log()
    pipe.send_frames(*frames[60:])
    pipe.wait_for_rows("metrics", 8 * len(frames))
    assert stored_points(pipe, run_id) == sorted(examples.points_of(frames))


@pytest.fixture
def bare_pipe(kafka: str, clickhouse_url: str, tmp_path: Path) -> Iterator[Pipe]:
    """Without topics and without a database."""
    yield from closing(Pipe(settings_of(kafka, clickhouse_url, f"t_{uuid.uuid4().hex[:8]}"), tmp_path))


def test_a_worker_waits_for_topics_and_tables(bare_pipe: Pipe) -> None:
    """Started before everything else, it says what it waits for, and still ends when asked."""
    settings = bare_pipe.settings
    worker = bare_pipe.start(ready=False)
    wait_for(lambda: "runstream migrate" in bare_pipe.log(), "a word about the tables")
    migrated = subprocess.run(
        [sys.executable, "-m", "runstream_sinks", "migrate", "--clickhouse", settings.clickhouse_url, "--database", settings.clickhouse_database],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert migrated.returncode == 0, migrated.stderr
    wait_for(lambda: "topics do not exist yet" in bare_pipe.log(), "a word about the topics")
    ensure_topics(settings)
    wait_for(lambda: "partitions assigned" in bare_pipe.log(), "its partitions")
    assert bare_pipe.end(worker)[0] == 0


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """An engine that this test may kill, with all tables in the database `own`."""
    made = Engine(tmp_path)
    made.start()
    create_database(made.url, "own")
    server = Server(made.url, "own")
    migrate(server)
    server.close()
    try:
        yield made
    finally:
        made.kill()


@pytest.fixture
def own_pipe(kafka: str, engine: Engine, tmp_path: Path) -> Iterator[Pipe]:
    """As `pipe`, over an engine of the test's own."""
    settings = settings_of(kafka, engine.url, "own")
    ensure_topics(settings)
    yield from closing(Pipe(settings, tmp_path))


def test_sigterm_ends_within_10_seconds_while_clickhouse_is_away(own_pipe: Pipe, engine: Engine) -> None:
    """What cannot be inserted is left uncommitted, for the next worker."""
    run_id = new_run()
    worker = own_pipe.start()
    engine.kill()
    own_pipe.send_frames(*frames_of(run_id))
    wait_for(lambda: "trying again" in own_pipe.log(), "the worker to notice")
    code, seconds = own_pipe.end(worker)
    assert seconds < 10, own_pipe.log()
    assert code == 0, own_pipe.log()
    assert own_pipe.committed("metric", PARTITIONS) == 0
    engine.start()
    own_pipe.start()
    own_pipe.wait_for_rows("metrics", 120)


def test_clickhouse_killed_and_back_only_delays(own_pipe: Pipe, engine: Engine) -> None:
    """Whatever was under way when ClickHouse died is stored once it is back, by the same worker, and nothing twice."""
    run_id = new_run()
    frames = frames_of(run_id, writers=4, frames=30)
    worker = own_pipe.start()
    for number in range(3):
        own_pipe.send_frames(*frames[40 * number : 40 * number + 20])
        engine.kill()
        own_pipe.send_frames(*frames[40 * number + 20 : 40 * number + 40])
        engine.start()
    own_pipe.wait_for_rows("metrics", 8 * len(frames))
    assert worker.poll() is None
    assert shown(own_pipe) == expected(own_pipe, [("metric", b"", frame) for frame in frames])


def test_kafka_killed_and_back_only_delays(clickhouse_url: str, database: str, tmp_path: Path) -> None:
    """Whatever was read and not committed when the broker died is stored all the same, once, and the worker goes on by itself."""
    broker = Broker(tmp_path)
    broker.start()
    settings = settings_of(broker.bootstrap, clickhouse_url, database)
    pipe = Pipe(settings, tmp_path)
    try:
        ensure_topics(settings)
        run_id = new_run()
        frames = frames_of(run_id, writers=4, frames=20)
        worker = pipe.start()
        pipe.send_frames(*frames[:40])
        broker.kill()
        broker.start()
        pipe.send_frames(*frames[40:])
        pipe.wait_for_rows("metrics", 8 * len(frames))
        assert worker.poll() is None
        assert stored_points(pipe, run_id) == sorted(examples.points_of(frames))
        wait_for(lambda: pipe.committed("metric", PARTITIONS) == len(frames), "the offsets")
        broker.kill()
        code, seconds = pipe.end(worker)
        assert seconds < 10, pipe.log()
        assert code == 0, pipe.log()
    finally:
        pipe.close()
        broker.kill()


def age_s(pipe: Pipe) -> float:
    """How old the first worker's ready file is."""
    return time.time() - (pipe.folder / "ready-0").stat().st_mtime


def test_the_ready_file_stays_young_while_servers_are_away_and_grows_old_when_the_worker_hangs(engine: Engine, tmp_path: Path) -> None:
    """Its age tells a worker that waits for ClickHouse or Kafka from one that must be started again."""
    broker = Broker(tmp_path)
    broker.start()
    settings = settings_of(broker.bootstrap, engine.url, "own")
    pipe = Pipe(settings, tmp_path)
    try:
        ensure_topics(settings)
        worker = pipe.start()
        engine.kill()
        pipe.send_frames(*frames_of(new_run()))
        wait_for(lambda: "trying again" in pipe.log(), "the worker to notice")
        poison: list[Sent] = [("event", b"%d" % number, b"poison") for number in range(1500)]
        pipe.send(*poison)
        broker.kill()
        for _ in range(9):
            time.sleep(0.5)
            assert age_s(pipe) < 3, pipe.log()
        worker.send_signal(signal.SIGSTOP)
        wait_for(lambda: age_s(pipe) > 3, "the file to grow old")
        worker.send_signal(signal.SIGCONT)
        wait_for(lambda: age_s(pipe) < 2, "the worker to go on")
    finally:
        pipe.close()
        broker.kill()


def test_a_worker_that_stops_for_good_says_why_last_and_keeps_what_is_held(pipe: Pipe) -> None:
    """A table that is missing ends it with exit code 1; what it set aside is committed, and whoever looks at its log's last line sees the reason."""
    worker = pipe.start()
    pipe.query("DROP TABLE params_log")
    poison: list[Sent] = [("event", b"k", b"poison %d" % number) for number in range(50)]
    pipe.send(*poison, ("param", b"r", examples.param(new_run(), "lr", "float", "0.1")))
    assert worker.wait(timeout=30) == 1
    last = pipe.log().splitlines()[-1]
    assert " error runstream.sinks sink worker stops reason=" in last
    assert "params_log" in last
    assert pipe.committed("event", 4) == 50


def test_memory_is_bounded_while_clickhouse_is_away(own_pipe: Pipe, engine: Engine) -> None:
    """Past the bound nothing is fetched, the group is kept, and everything is stored once ClickHouse is back."""
    run_id = new_run()
    frames = frames_of(run_id, writers=4, frames=100)
    worker = own_pipe.start(module="tests.sinks.small_memory")
    engine.kill()
    own_pipe.send_frames(*frames)
    wait_for(lambda: "memory for rows is full" in own_pipe.log(), "the bound")
    engine.start()
    own_pipe.wait_for_rows("metrics", 8 * len(frames))
    assert own_pipe.log().count("partitions assigned") == 1
    assert stored_points(own_pipe, run_id) == sorted(examples.points_of(frames))
    assert own_pipe.end(worker)[0] == 0
    assert own_pipe.committed("metric", PARTITIONS) == len(frames)


def test_wrong_settings_are_one_sentence(tmp_path: Path) -> None:
    """The setting is named, the exit code is 2, and there is no traceback."""
    ended = subprocess.run(
        [sys.executable, "-m", "runstream_sinks", "worker"],
        env={"RUNSTREAM_SINK_ROWS": "many", "RUNSTREAM_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "RUNSTREAM_SINK_ROWS" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_migrate_says_when_nobody_answers(tmp_path: Path) -> None:
    """One sentence and exit code 1, within its time."""
    url = f"http://{HOST}:{choose_port()}"
    ended = subprocess.run(
        [sys.executable, "-m", "runstream_sinks", "migrate", "--clickhouse", url],
        env={"RUNSTREAM_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert "clickhouse_url" in ended.stderr
    assert "Traceback" not in ended.stderr
