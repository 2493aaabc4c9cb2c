"""Verification of real tables against real topics and other databases, and swapping them, while writes go on."""

from __future__ import annotations

import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from runstream_sinks import checksums, swap, upkeep
from runstream_sinks.fill import Caller
from runstream_sinks.replay import Stopped, replay
from runstream_sinks.replay_plan import Request
from runstream_sinks.retention import Keep
from runstream_sinks.swap import Differs
from runstream_sinks.tables import TABLE_OF, TABLES
from runstream_sinks.verify import Report, TableReport, verify
from tests.sinks import examples
from tests.sinks.replays import QUIET, command, frames_of, remove_before_last, send_everything, shown, use_settings, wait_until_stored, words
from tests.sinks.test_tables import new_run
from tests.sinks.workers import Pipe, wait_for

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from runstream_schemas import topics

pytestmark = pytest.mark.stack
ALL = tuple(TABLE_OF)


@pytest.fixture
def shadow(pipe: Pipe) -> Iterator[str]:
    """The name of another database, removed at the end."""
    name = f"{pipe.settings.clickhouse_database}_shadow"
    yield name
    pipe.query(f"DROP DATABASE IF EXISTS `{name}`")


def check(pipe: Pipe, *names: topics.Name, runs: frozenset[str] = frozenset(), against: str | None = None) -> Report:
    """A verification in this process."""
    return verify(pipe.settings, names or ALL, runs, against, QUIET)


def table(report: Report, name: str) -> TableReport:
    """What was found of one table."""
    [one] = [one for one in report.tables if one.table == name]
    return one


def scratches(pipe: Pipe) -> int:
    """Scratch databases of verifications of this pipe."""
    stem = f"{pipe.settings.clickhouse_database}_verify_"
    return pipe.query("SELECT count() FROM system.databases WHERE startsWith(name, {stem:String})", stem=stem)[0][0]


class Writing:
    """Sends frames of a run without end, and knows what was sent."""

    def __init__(self, pipe: Pipe) -> None:
        self.run_id = new_run()
        self.frames = 0
        self._pipe = pipe
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self) -> None:
        while not self._stop.is_set():
            self._pipe.send_frames(*frames_of(self.run_id, first=self.frames, frames=1))
            self._pipe.send_writers(examples.writer(self.run_id, writer=1, version=self.frames + 1, heartbeat_ms=examples.STARTED_MS + self.frames))
            self.frames += 1

    @contextmanager
    def going_on(self) -> Generator[None]:
        """Writes while the block runs."""
        self._thread.start()
        try:
            wait_for(lambda: self.frames >= 3, "some frames")
            yield
        finally:
            self._stop.set()
            self._thread.join(timeout=40)

    def stored(self) -> list[tuple[int, int, str, float]]:
        """The points of the run as people see them."""
        sql = "SELECT rank, seq, name, value FROM metrics WHERE run_id = {run_id:UUID} ORDER BY ALL"
        return [(row[0], row[1], row[2], row[3]) for row in self._pipe.query(sql, run_id=self.run_id)]

    def sent(self) -> list[tuple[int, int, str, float]]:
        """The points that were sent."""
        return sorted((point[3], point[5], point[0], point[7]) for point in examples.points_of(frames_of(self.run_id, frames=self.frames)))


def test_every_row_that_differs_is_found_and_named(pipe: Pipe) -> None:
    """Missing, changed and additional rows, by run and table, with their keys; values with nulls beside them are looked at too."""
    one, other = new_run(), new_run()
    worker = pipe.start()
    send_everything(pipe, one)
    send_everything(pipe, other)
    wait_until_stored(pipe)
    assert pipe.end(worker)[0] == 0
    report = check(pipe)
    assert report.equal, report
    assert {one.table for one in report.tables} == set(TABLES)
    assert (table(report, "metric_points").rows, table(report, "metric_points").runs, report.behind) == (240, 2, 0)
    assert scratches(pipe) == 0
    at_once = "SETTINGS mutations_sync = 2"
    pipe.query(f"ALTER TABLE metric_points DELETE WHERE run_id = {{run:UUID}} AND writer = 2 AND seq = 7 AND name = 'loss' {at_once}", run=one)
    pipe.query(f"ALTER TABLE metric_points UPDATE value = -1 WHERE run_id = {{run:UUID}} AND writer = 1 AND seq = 3 AND name = 'loss' {at_once}", run=one)
    pipe.query("INSERT INTO metric_points SELECT * REPLACE(9999 AS seq) FROM metrics WHERE run_id = {run:UUID} AND writer = 1 AND step = 6", run=one)
    # The event has no step, and the params have null in three of four columns: a plain cityHash64(*) would be null for them.
    pipe.query(f"ALTER TABLE events_log UPDATE source = 'else' WHERE run_id = {{run:UUID}} AND step IS NULL {at_once}", run=other)
    pipe.query(f"ALTER TABLE writer_states DELETE WHERE run_id = {{run:UUID}} AND version = 3 {at_once}", run=other)
    report = check(pipe, "writer", "metric", "event", "param")
    assert not report.equal
    [points] = table(report, "metric_points").differing
    assert (points.run, points.rows, points.rows_there, points.missing, points.extra) == (one, 121, 120, 2, 3)
    assert any("'loss'" in key and ",14,2,7)" in key for key in points.missing_keys)
    assert any(key.endswith(",9999)") for key in points.extra_keys)
    [events] = table(report, "events_log").differing
    assert (events.run, events.missing, events.extra) == (other, 1, 1)
    [states] = table(report, "writer_states").differing
    assert (states.run, states.missing, states.extra) == (other, 1, 0)
    assert [one.table for one in report.tables if not one.equal] == ["writer_states", "metric_points", "events_log"]
    assert check(pipe, "metric", runs=frozenset({new_run()})).equal
    assert not check(pipe, "event", runs=frozenset({other})).equal
    assert check(pipe, "event", runs=frozenset({one})).equal


def test_it_is_right_while_writes_go_on_and_says_what_was_not_compared(pipe: Pipe) -> None:
    """Rows under way in either direction are no differences; without sinks, what they have not stored is counted as behind."""
    worker = pipe.start()
    writing = Writing(pipe)
    with writing.going_on():
        for _ in range(2):
            report = check(pipe, "metric", "writer", "event")
            assert report.equal, report
            assert table(report, "metric_points").rows > 0
    wait_until_stored(pipe)
    assert pipe.end(worker)[0] == 0
    assert writing.stored() == writing.sent()
    pipe.send_frames(*frames_of(new_run(), frames=2))
    report = check(pipe, "metric")
    assert report.equal
    assert report.behind == 6


def test_what_kafka_keeps_no_more_is_not_covered(pipe: Pipe) -> None:
    """Rows older than the topic are counted apart; what it does hold is compared all the same."""
    run_id, gone = new_run(), new_run()
    worker = pipe.start()
    pipe.send_frames(*frames_of(gone, writers=2, frames=5))
    pipe.send_frames(*frames_of(run_id, writers=2, frames=10))
    wait_until_stored(pipe)
    remove_before_last(pipe, 4)
    report = check(pipe, "metric")
    assert report.equal, report
    points = table(report, "metric_points")
    assert points.runs_not_covered == 1
    assert points.not_covered == points.rows - points.rows_there > 80
    pipe.query("ALTER TABLE metric_points DELETE WHERE run_id = {run:UUID} AND seq = 39 AND name = 'loss' SETTINGS mutations_sync = 2", run=run_id)
    [differing] = table(check(pipe, "metric"), "metric_points").differing
    assert (differing.run, differing.missing, differing.extra) == (run_id, 2, 0)
    assert pipe.end(worker)[0] == 0


def test_what_retention_took_is_no_difference_and_goes_with_a_swap(pipe: Pipe, shadow: str) -> None:
    """What is younger than its horizon is compared all the same, and another database keeps rows as long as the live one."""
    run_id = new_run()
    worker = pipe.start()
    pipe.send_frames(*frames_of(run_id, writers=2))
    young = [frame._replace(started=int(1000 * time.time())) for frame in frames_of(run_id, writers=1, frames=2, first_writer=9)]
    pipe.send_frames(*young)
    pipe.send(("event", b"k", examples.event(run_id)), ("alert", b"k", examples.alert(run_id)))
    wait_until_stored(pipe)
    assert pipe.end(worker)[0] == 0
    url, database = pipe.settings.clickhouse_url, pipe.settings.clickhouse_database
    upkeep.apply(url, database, upkeep.todo(url, database, upkeep.Wishes(keeps=[Keep("metrics", 30), Keep("events", 30)])))
    pipe.query("OPTIMIZE TABLE metric_points FINAL")
    pipe.query("ALTER TABLE events_log DELETE WHERE 1 SETTINGS mutations_sync = 2")  # As its TTL would do in 30 days.
    wait_for(lambda: pipe.count("metrics") == 16, "retention")
    report = check(pipe)
    assert report.equal, report
    assert (table(report, "metric_points").not_covered, table(report, "events_log").not_covered) == (80, 1)
    pipe.query("ALTER TABLE metric_points DELETE WHERE writer = 9 AND seq = 7 SETTINGS mutations_sync = 2")
    [differing] = table(check(pipe), "metric_points").differing
    assert (differing.missing, differing.extra, differing.not_covered) == (2, 0, 80)
    replay(pipe.settings, Request(ALL, into=shadow), QUIET)
    ttl = "SELECT name FROM system.tables WHERE database = {name:String} AND engine_full LIKE '%TTL%' ORDER BY name"
    assert pipe.query(ttl, name=shadow) == pipe.query(ttl, name=database) == [("events_log",), ("metric_points",)]


@contextmanager
def following(pipe: Pipe, database: str) -> Generator[None]:
    """A replay that keeps a database up to date, in front of the sinks or behind them, while the block runs."""
    stop = threading.Event()
    thread = threading.Thread(target=replay, args=(pipe.settings, Request(ALL, into=database, follow=True), Caller(stop.is_set, lambda _: None)))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=40)


def test_a_database_is_compared_and_takes_the_place_of_the_live_one_while_writes_go_on(pipe: Pipe, shadow: str) -> None:
    """Another version of a table is filled, caught up, verified and swapped with no downtime: nothing is lost, nothing is doubled."""
    worker = pipe.start()
    send_everything(pipe, new_run())
    wait_until_stored(pipe)
    before = shown(pipe)
    replay(pipe.settings, Request(("event",), into=shadow), QUIET)
    pipe.query(f"DROP TABLE `{shadow}`.metric_points")
    columns = "run_id, name, rank, step, context, subject, writer, seq"
    live = pipe.settings.clickhouse_database
    pipe.query(
        f"CREATE TABLE `{shadow}`.metric_points AS `{live}`.metric_points ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(started) ORDER BY ({columns})"
    )
    writing = Writing(pipe)
    reading: list[int] = []
    with writing.going_on():
        replay(pipe.settings, Request(ALL, into=shadow), QUIET)
        with following(pipe, shadow):
            report = check(pipe, against=shadow)
            assert report.equal, report
        done = swap.swap(pipe.settings, shadow, ALL, verified=True, caller=QUIET)
        reading.append(pipe.count("metrics"))
    assert not done.resumed
    assert done.verified is not None
    assert set(done.tables) >= set(TABLES)
    wait_until_stored(pipe)
    assert worker.poll() is None
    assert writing.stored() == writing.sent()
    assert pipe.query("SELECT sorting_key FROM system.tables WHERE database = currentDatabase() AND name = 'metric_points'") == [(columns,)]
    assert pipe.query("SELECT count() FROM system.tables WHERE name = 'swap_plan'") == [(0,)]
    report = check(pipe)
    assert report.equal, report
    assert pipe.end(worker)[0] == 0
    # What was there before is what it was: views that the writing does not touch show the same.
    after = shown(pipe)
    assert {view: after[view] for view in ("events", "params", "rules", "alerts", "summaries", "dead_letters", "hardware")} == {
        view: before[view] for view in ("events", "params", "rules", "alerts", "summaries", "dead_letters", "hardware")
    }


def test_a_swap_that_was_killed_behind_the_exchange_is_finished_by_the_next(pipe: Pipe, shadow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that went into the old tables last are read again whoever does it, and the tables are not exchanged back."""
    worker = pipe.start()
    pipe.send_frames(*frames_of(new_run()))
    wait_until_stored(pipe)
    replay(pipe.settings, Request(ALL, into=shadow), QUIET)
    run_id = new_run()

    def die(*_: object) -> int:
        raise KeyboardInterrupt

    def late(_settings: object, database: str, plan: swap.Plan) -> None:
        """Rows reach the live tables between the last catch-up and the exchange."""
        pipe.send_frames(*frames_of(run_id))
        wait_until_stored(pipe)
        exchange(pipe.settings, database, plan)

    exchange = swap.exchange
    with monkeypatch.context() as patched:
        patched.setattr(swap, "exchange", late)
        patched.setattr(swap, "_read_again", die)
        with pytest.raises(KeyboardInterrupt):
            swap.swap(pipe.settings, shadow, ALL, verified=False, caller=QUIET)
    assert pipe.count("metrics") == 120
    done = swap.swap(pipe.settings, shadow, ALL, verified=True, caller=QUIET)
    assert done.resumed
    assert done.rows_after == 120
    assert pipe.count("metrics") == 240
    assert check(pipe).equal
    # And back again, which fills the old tables anew.
    undone = swap.swap(pipe.settings, shadow, ALL, verified=True, caller=QUIET)
    assert not undone.resumed
    assert pipe.count("metrics") == 240
    assert pipe.end(worker)[0] == 0


def test_a_database_that_lacks_rows_is_not_swapped_in(pipe: Pipe, shadow: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """History that Kafka keeps no more would be gone from view: it says so, and changes nothing."""
    worker = pipe.start()
    pipe.send_frames(*frames_of(new_run(), writers=2, frames=10))
    wait_until_stored(pipe)
    remove_before_last(pipe, 4)
    replay(pipe.settings, Request(ALL, into=shadow), QUIET)
    uuids = pipe.query("SELECT name, uuid FROM system.tables WHERE database = currentDatabase() ORDER BY name")
    with pytest.raises(Differs) as caught:
        swap.swap(pipe.settings, shadow, ALL, verified=True, caller=QUIET)
    [points] = table(caught.value.report, "metric_points").differing
    assert (points.missing, points.not_covered) == (0, 0)
    assert points.extra == points.rows - points.rows_there > 0
    use_settings(pipe, monkeypatch)
    code, _, err = command(["swap", shadow], capsys)
    assert code == 1
    assert "so nothing was swapped" in err
    assert "only here" in err
    assert pipe.query("SELECT name, uuid FROM system.tables WHERE database = currentDatabase() ORDER BY name") == uuids
    # Copied over by hand, it may.
    live = pipe.settings.clickhouse_database
    pipe.query(f"INSERT INTO `{shadow}`.metric_points SELECT * FROM `{live}`.metric_points")
    code, told, err = command(["swap", shadow, "--json"], capsys)
    assert code == 0, err
    assert told["verified"]
    assert pipe.end(worker)[0] == 0


def test_the_command_says_what_differs(pipe: Pipe, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 0 and 1; an object for scripts, lines for people; wrong arguments are one sentence and exit code 2."""
    use_settings(pipe, monkeypatch)
    run_id = new_run()
    worker = pipe.start()
    pipe.send_frames(*frames_of(run_id))
    wait_until_stored(pipe)
    assert pipe.end(worker)[0] == 0
    code, told, err = command(["verify", "--json", "--topic", "metric"], capsys)
    assert (code, told["equal"], err) == (0, True, "")
    assert [(one["table"], one["rows"], one["equal"]) for one in told["tables"]] == [("metric_points", 120, True)]
    pipe.query("ALTER TABLE metric_points DELETE WHERE writer = 2 AND seq = 7 SETTINGS mutations_sync = 2")
    code, told, _ = command(["verify", "--json", "--topic", "metric", "--run", run_id], capsys)
    assert (code, told["equal"]) == (1, False)
    [differing] = told["tables"][0]["differing"]
    assert (differing["run"], differing["missing"], len(differing["missing_keys"])) == (run_id, 2, 2)
    code, out, _ = words(["verify", "--topic", "metric"], capsys)
    assert code == 1
    assert f"run {run_id}: 118 rows here, 120 there; 2 missing here" in out
    assert out.endswith("not equal\n")
    for wrong, said in (
        (["--topic", "schema"], "--topic must be one of"),
        (["--run", "x"], "--run must be the UUID"),
        (["--from", "a b"], "clickhouse_database"),
    ):
        code, _, err = command(["verify", *wrong], capsys)
        assert code == 2
        assert said in err
    for wrong, said in ((pipe.settings.clickhouse_database, "is the live database"), ("nowhere_at_all", "does not exist")):
        code, _, err = command(["swap", wrong], capsys)
        assert code == 1
        assert said in err


def test_asked_to_stop_it_leaves_nothing_behind(pipe: Pipe) -> None:
    """Nor a word about equality."""
    pipe.send_frames(*frames_of(new_run()))
    worker = pipe.start()
    wait_until_stored(pipe)
    assert pipe.end(worker)[0] == 0
    with pytest.raises(Stopped):
        verify(pipe.settings, ALL, frozenset(), None, Caller(lambda: True, lambda _: None))
    assert scratches(pipe) == 0


def test_scratch_databases_of_the_killed_are_removed_in_time(pipe: Pipe) -> None:
    """A day later, so that nobody's verification loses its own."""
    stem = f"{pipe.settings.clickhouse_database}_verify_"
    old, young = f"{stem}{int(time.time()) - 90_000}_{uuid.uuid4().hex[:8]}", f"{stem}{int(time.time()) - 80_000}_{uuid.uuid4().hex[:8]}"
    for name in (old, young):
        pipe.query(f"CREATE DATABASE `{name}`")
    assert check(pipe, "event").equal
    assert pipe.query("SELECT name FROM system.databases WHERE startsWith(name, {stem:String})", stem=stem) == [(young,)]
    pipe.query(f"DROP DATABASE `{young}`")


def test_shapes_are_read_from_what_the_engine_says() -> None:
    """The version column of plain and replicated engines, and which tables count by seqs."""
    plain = checksums.shape("metric_points", "run_id, seq", "ReplacingMergeTree PARTITION BY x ORDER BY (run_id, seq)", {"run_id", "seq"})
    assert (plain.version, plain.in_sequence, plain.columns) == (None, True, ("run_id", "seq"))
    assert checksums.key_columns(plain) == ["run_id", "seq"]
    versioned = checksums.shape("writer_states", "run_id, writer", "ReplacingMergeTree(version) ORDER BY (run_id, writer)", {"writer"})
    assert (versioned.version, versioned.in_sequence) == ("version", False)
    engine = "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/a', '{replica}', version) ORDER BY x"
    assert checksums.shape("writer_states", "x", engine, ()).version == "version"
    engine = "ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/a', '{replica}') ORDER BY x"
    assert checksums.shape("metric_points", "x", engine, ()).version is None
