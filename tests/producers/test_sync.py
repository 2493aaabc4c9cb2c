"""`sync` on a real broker: offline journals and leftovers, killed in the middle, two at once, torn rows, the living, and Kafka away."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runstream_producers.agent import LOCK_NAME
from runstream_producers.claims import GONE, claim
from runstream_producers.errors import SyncError
from runstream_producers.journal import format as fmt
from runstream_producers.journal.survey import extent_of, open_journal
from runstream_producers.journal.writer import JournalWriter
from runstream_producers.paths import offline_folder
from runstream_producers.states import trouble_of
from runstream_producers.sync import Progress, Sync
from runstream_producers.sync_plan import Plan, plan
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.journals import Reports, identity, make_writer
from tests.producers.ledger import Ledger, check_account, ledger_of
from tests.producers.senders import UNKNOWN_TOPIC, ListSender
from tests.producers.test_agent import crash, drop_topic, start_agent
from tests.waiting import wait_for

pytestmark = pytest.mark.stack

ROWS = 3000


def sync(place: Place, *arguments: str | Path, **settings: str) -> subprocess.Popen[str]:
    """`runstream sync` in a process of its own."""
    environ = place.environ | {f"RUNSTREAM_{name.upper()}": value for name, value in settings.items()}
    argv = [sys.executable, "-m", "runstream.cli", "sync", *map(str, arguments)]
    return subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def synced(place: Place, *arguments: str | Path, code: int = 0, **settings: str) -> tuple[str, str]:
    """What a sync says on both channels, checked for its exit code."""
    child = sync(place, *arguments, **settings)
    out, err = child.communicate(timeout=60)
    assert child.returncode == code, out + err
    return out, err


def offline_writer(place: Place, rows: int = ROWS, **fields: Any) -> JournalWriter:
    """A writer in the offline folder that has logged some rows."""
    one = replace(identity(), **fields)
    writer = JournalWriter(offline_folder(place.settings), lambda: one, segment_bytes=1 << 16, bytes_max=1 << 30, report=Reports())
    for number in range(rows):
        writer.log({"loss": number * 0.5, f"layer-{number % 7}": float(number)}, step=number)
    return writer


def logged(rows: int = ROWS) -> Ledger:
    """The points of such a writer."""
    return {
        number: {("", "", "loss", number, struct.pack("<d", number * 0.5)), ("", "", f"layer-{number % 7}", number, struct.pack("<d", float(number)))}
        for number in range(rows)
    }


def snapshot(base: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder with its bytes and time of change."""
    return {str(path.relative_to(base)): (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(base.rglob("*")) if path.is_file()}


def test_an_offline_journal_is_shipped_whole(place: Place) -> None:
    """Everything that was logged is on the topics, the writer's last record says how and when it ended, its account balances, and the journal is gone."""
    writer = offline_writer(place)
    writer.record(fmt.Kind.EVENT, {"event_id": "1", "time_ms": 1, "name": "n"})
    writer.close("failed", "ValueError: no")
    week_ago = time.time() - 7 * 86_400
    os.utime(writer.folder.path / "end.json", (week_ago, week_ago))
    out, _ = synced(place)
    assert "1 journals shipped with 3,001 rows and 6,000 points, 0 left" in out
    frames = place.read("metric", MetricFrame)
    assert check_account(frames, until=ROWS + 1) == 0
    assert ledger_of(frames) == logged()
    [state] = place.last_states().values()
    assert (state.state, state.exit_reason, state.rows_logged, state.rows_shipped) == ("failed", "ValueError: no", ROWS + 1, ROWS + 1)
    assert (state.points_logged, state.points_shipped, state.next_seq) == (2 * ROWS, 2 * ROWS, ROWS + 1)
    assert abs(state.heartbeat_ms - week_ago * 1000) < 2000
    assert list(offline_folder(place.settings).glob("*w-*")) == []
    assert synced(place)[0] == "nothing to ship\n"
    assert len(place.read("metric", MetricFrame)) == len(frames)


def test_a_sync_that_is_killed_goes_on_where_it_was(place: Place) -> None:
    """SIGKILL in the middle, several times: after the last sync every point is in Kafka, each exactly once by writer and seq, and nothing is left."""
    rows = 40_000
    writers = [offline_writer(place, rows), offline_writer(place, rows)]
    writers[0].close("finished", "")
    crash(writers[1])
    ids = [one.identity.writer for one in writers]
    begun = 0
    for attempt in range(20):
        child = sync(place, batch_size="2048")
        before = acked(writers)
        deadline = time.monotonic() + 30
        while child.poll() is None and acked(writers) <= before + 500 and time.monotonic() < deadline:
            time.sleep(0.001)
        killed = child.poll() is None
        child.kill()
        child.communicate()
        begun += killed
        if not killed or attempt == 4:
            break
    assert begun >= 2, "no sync was killed in the middle"
    synced(place)
    frames = place.read("metric", MetricFrame)
    for writer in ids:
        mine = [frame for frame in frames if frame.writer == writer]
        check_account(mine, until=rows)
        assert ledger_of(mine) == logged(rows)
    states = place.last_states()
    assert [states[one].state for one in ids] == ["finished", "crashed"]
    assert all((states[one].points_logged, states[one].points_shipped) == (2 * rows, 2 * rows) for one in ids)
    assert [path.name for path in offline_folder(place.settings).iterdir() if path.is_dir()] == []


def acked(writers: list[JournalWriter]) -> int:
    """Rows of journals that are acknowledged; those of a journal that is gone all are."""
    total = 0
    for writer in writers:
        try:
            total += open_journal(writer.folder.path).ack.next_seq
        except OSError:
            total += 1 << 40
    return total


def test_two_syncs_at_once_ship_each_journal_once(place: Place) -> None:
    """Of two syncs of one folder one ships a journal and the other says so and skips it; nothing comes twice."""
    writers = [offline_writer(place, 8000) for _ in range(4)]
    for writer in writers:
        writer.close("finished", "")
    both = [sync(place, "--json", batch_size="4096") for _ in range(2)]
    told = [json.loads(child.communicate(timeout=60)[0]) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    outcomes = [one for each in told for one in each["journals"]]
    assert sorted(one["writer"] for one in outcomes if one["outcome"] == "shipped") == sorted(one.identity.writer for one in writers)
    assert all("another process" in one["note"] for one in outcomes if one["outcome"] == "skipped")
    frames = place.read("metric", MetricFrame)
    for writer in writers:
        mine = [frame for frame in frames if frame.writer == writer.identity.writer]
        assert check_account(mine, until=8000) == 0
        assert ledger_of(mine) == logged(8000)


def test_a_journal_in_hand_is_left_alone(place: Place) -> None:
    """While another process has the claim on a journal, a sync says so and neither ships nor changes it."""
    writer = offline_writer(place, 10)
    writer.close("finished", "")
    script = (
        "import sys, time, pathlib; from runstream_producers.claims import claim; assert claim(pathlib.Path(sys.argv[1])); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(writer.folder.path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        assert "another process is shipping it" in synced(place)[0]
        assert writer.folder.path.exists()
        holder.kill()
    assert "1 journals shipped" in synced(place)[0]


def test_an_agent_waits_for_a_journal_that_a_sync_has(place: Place) -> None:
    """While a sync holds a leftover in the agent's folder, an agent that comes ships the others and waits for this one; when the sync dies, it takes it over."""
    held, free = make_writer(place.folder), make_writer(place.folder)
    for writer in (held, free):
        writer.log({"a": 1.0})
        writer.close("finished", "")
    script = (
        "import sys, time, pathlib; from runstream_producers.claims import claim; assert claim(pathlib.Path(sys.argv[1])); print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(held.folder.path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        agent = start_agent(place)
        wait_for(lambda: not free.folder.path.exists(), 20, place.log)
        time.sleep(1.2)  # More than the agent idles.
        assert agent.poll() is None
        assert held.folder.path.exists()
        holder.kill()
    assert agent.wait(20) == 0, place.log()
    assert not held.folder.path.exists()
    assert len(place.last_states()) == 2


def test_damage_and_drops_are_said(place: Place) -> None:
    """Rows that were dropped when they were logged, and rows that damage made unreadable, are shipped around, counted and told apart."""
    full = JournalWriter(offline_folder(place.settings), identity, segment_bytes=1 << 16, bytes_max=1 << 20, report=Reports())
    for _ in range(5000):
        full.log({f"name-{one}": 1.0 for one in range(50)})
    full.close("finished", "")
    broken = offline_writer(place)
    broken.close("finished", "")
    with (broken.folder.path / fmt.segment_name(1)).open("r+b") as file:
        file.seek(fmt.HEADER_BYTES + 1000)
        file.write(b"\xff" * 8)
    told = {one["writer"]: one for one in json.loads(synced(place, "--json")[0])["journals"]}
    assert "had been dropped when they were logged (journal_full)" in told[full.identity.writer]["note"]
    damaged = told[broken.identity.writer]
    assert damaged["note"] == f"{ROWS - damaged['rows']} rows could not be read, since the journal is damaged"
    assert 0 < damaged["rows"] < ROWS
    state = place.last_states()[broken.identity.writer]
    assert (state.points_logged, state.points_shipped) == (2 * ROWS, 2 * damaged["rows"])


def test_a_claim_on_a_folder_that_has_gone_is_none(tmp_path: Path) -> None:
    """Who comes after the one that shipped everything gets no claim, and makes no folder."""
    assert claim(tmp_path / "w-1") is None
    folder = tmp_path / "w-2"
    folder.mkdir()
    first = claim(folder)
    assert first is not None
    first.release()
    first.release()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_torn_last_row_is_left_out_and_said(place: Place) -> None:
    """A writer that died in the middle of a row: everything before it is shipped, and both the sync and the writer's record say what was not finished."""
    writer = offline_writer(place, 100)
    offset, path = writer.tail.offset, writer.folder.path / fmt.segment_name(1)
    crash(writer)
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(fmt.ROW_LEAD.pack(56, 12345) + b"\x01" * 20)
    out, _ = synced(place)
    assert "56 bytes of a last row that its writer did not finish were left out" in out
    assert ledger_of(place.read("metric", MetricFrame)) == logged(100)
    [state] = place.last_states().values()
    assert state.state == "crashed"
    assert "56 bytes of its last row were not finished" in state.exit_reason


def test_a_dry_run_changes_nothing(place: Place) -> None:
    """It counts what would be shipped, to the last row and point, and leaves every file and every topic as it was."""
    first, second = offline_writer(place), offline_writer(place, 10, run_id="0193a1f0-0000-7000-8000-000000000002")
    first.close("finished", "")
    crash(second)
    before = snapshot(place.journals)
    told = json.loads(synced(place, "--dry-run", "--json")[0])
    assert sorted((one["state"], one["rows"], one["points"]) for one in told["would_ship"]) == [("crashed", 10, 20), ("finished", ROWS, 2 * ROWS)]
    assert all(one["bytes"] > one["points"] * 8 and time.time() - 60 < one["first"] <= one["last"] <= time.time() for one in told["would_ship"])
    out, _ = synced(place, "--dry-run")
    assert "2 runs, 2 writers, 3,010 rows, 6,020 points" in out
    assert snapshot(place.journals) == before
    assert place.read("metric", MetricFrame) == []
    assert place.last_states() == {}


def test_living_writers_are_followed_only_when_asked(place: Place) -> None:
    """Without --watch a journal in use is skipped with a word; with it rows come as they are logged, and it ends with the writers it was given."""
    writer = offline_writer(place, 10)
    _, err = synced(place)
    assert "its writer is still running: --watch follows it" in err
    assert place.read("metric", MetricFrame) == []
    child = sync(place, writer.folder.path, "--watch", heartbeat_interval="0.2")
    try:
        wait_for(lambda: sum(frame.points for frame in place.read("metric", MetricFrame)) == 20, 20, "the first rows")
        wait_for(lambda: [one.state for one in place.last_states().values()] == ["running"], 20, "a heartbeat")
        for number in range(10, 20):
            writer.log({"loss": number * 0.5, f"layer-{number % 7}": float(number)}, step=number)
        writer.close("finished", "")
        out, _ = child.communicate(timeout=30)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 0
    assert "1 journals shipped with 20 rows" in out
    assert ledger_of(place.read("metric", MetricFrame)) == logged(20)


def test_watching_takes_up_journals_that_come_and_ends_at_a_signal(place: Place) -> None:
    """With a folder, --watch waits for new journals; SIGTERM ends it well."""
    base = offline_folder(place.settings)
    base.mkdir(parents=True)
    child = sync(place, base, "--watch")
    try:
        writer = offline_writer(place, 10)
        writer.close("finished", "")
        wait_for(lambda: not writer.folder.path.exists(), 30, "the journal to be shipped")
        child.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=20)
    finally:
        child.kill()
        child.communicate()
    assert child.returncode == 0, err
    assert "1 journals shipped" in out


def test_leftovers_are_shipped_and_what_an_agent_serves_is_not(place: Place) -> None:
    """Without an agent, journals in its folder count as leftovers of the default; while one serves the folder, sync says so and leaves it alone."""
    live = make_writer(place.folder)
    live.log({"a": 1.0})
    left = make_writer(place.folder)
    left.log({"a": 2.0})
    left.close("finished", "")
    out, err = synced(place)
    assert "1 journals shipped" in out
    assert "still running" in err
    assert ledger_of(place.read("metric", MetricFrame)) == {0: {("", "", "a", 0, struct.pack("<d", 2.0))}}
    agent = start_agent(place)
    place.wait_for_agent()
    out, err = synced(place, live.folder.path)
    assert f"skipped {place.folder}: an agent ships it already" in err
    assert out == "nothing to ship\n"
    crash(live)
    assert agent.wait(20) == 0


def test_what_an_agent_cannot_ship_can_be_taken_elsewhere(place: Place) -> None:
    """Of a folder whose agent waits for a Kafka that is not there, sync says which process that is and what it waits for; once it is ended, the folder can be shipped."""
    writer = make_writer(place.folder)
    writer.log({"a": 1.0})
    writer.close("finished", "")
    agent = start_agent(place, kafka="127.0.0.1:1")
    wait_for(lambda: trouble_of(place.folder) != "", 20, place.log)
    _, err = synced(place, place.folder)
    assert f"an agent (process {agent.pid}) ships it once it can: Kafka cannot be reached" in err
    agent.kill()
    agent.wait(15)
    assert "1 journals shipped with 1 rows" in synced(place, place.folder)[0]


def test_journals_of_other_settings_are_not_sent_to_this_cluster(place: Place) -> None:
    """The journal root as DIR ships what belongs here, and names the folders of other connection settings; naming one ships it."""
    other = place.journals / "v1-0123456789ab"
    elsewhere = make_writer(other)
    (other / LOCK_NAME).touch()
    elsewhere.log({"a": 1.0})
    elsewhere.close("finished", "")
    here = offline_writer(place, 5)
    here.close("finished", "")
    out, err = synced(place, place.journals)
    assert "1 journals shipped with 5 rows" in out
    assert f"skipped {other}: its journals belong to other connection settings" in err
    assert "1 journals shipped with 1 rows" in synced(place, other)[0]


def test_a_half_removed_journal_is_swept(place: Place) -> None:
    """What a sync that was killed had begun to remove is removed by the next one, and not shipped again."""
    base = offline_folder(place.settings)
    half = base / (GONE + "w-1")
    half.mkdir(parents=True)
    (half / "ack").write_bytes(b"")
    synced(place)
    assert list(base.iterdir()) == []


def test_a_journal_that_cannot_be_read_keeps_no_other_back(place: Place) -> None:
    """It is named, the others are shipped, and the exit code is 1."""
    broken = offline_folder(place.settings) / fmt.folder_name(5)
    broken.mkdir(parents=True)
    (broken / "writer.json").write_text("{")
    writer = offline_writer(place, 5)
    writer.close("finished", "")
    out, _ = synced(place, code=1)
    assert f"left {broken}: cannot be read" in out
    assert "1 journals shipped with 5 rows and 10 points, 1 left" in out
    assert broken.exists()


def test_kafka_away_is_one_sentence_and_loses_nothing(place: Place) -> None:
    """Where nobody answers, sync ends within its timeout with exit code 2 and one sentence; the journal is as it was, and a later sync ships it."""
    writer = offline_writer(place, 50)
    writer.close("finished", "")
    began = time.monotonic()
    _, err = synced(place, code=2, kafka="127.0.0.1:9", sync_timeout="2")
    assert time.monotonic() - began < 12
    assert err.count("\n") == 1
    assert err.startswith("runstream sync: Kafka at 127.0.0.1:9 has acknowledged nothing for 2 s (sync_timeout)")
    _, err = synced(place, code=2, kafka_options="no.such.option=1")
    assert (err.count("\n"), "no.such.option" in err) == (1, True)
    assert "1 journals shipped" in synced(place)[0]
    assert ledger_of(place.read("metric", MetricFrame)) == logged(50)


def test_a_missing_metric_topic_ends_in_a_sentence_too(place: Place) -> None:
    """Kafka that answers but has no topic for frames: nothing is removed, and the sentence carries Kafka's own word."""
    drop_topic(place, "metric")
    writer = offline_writer(place, 50)
    writer.close("finished", "")
    _, err = synced(place, code=2, sync_timeout="4", kafka_options="topic.metadata.propagation.max.ms=500;topic.metadata.refresh.interval.ms=500")
    assert "topic" in err
    assert f"{place.prefix}.metric" in err
    assert writer.folder.path.exists()


def test_a_folder_that_is_not_there_is_refused(place: Place) -> None:
    """A wrong DIR is one sentence that names it, and exit code 2."""
    _, err = synced(place, place.journals / "nowhere", code=2)
    assert "nowhere" in err
    assert err.count("\n") == 1


def steps(work: Sync, sender: ListSender, count: int, refuse: int | None = None) -> None:
    """So many rounds against a scripted sender."""
    for number in range(count):
        work._step(float(number))
        sender.settle(lambda _one: refuse)


def test_progress_grows_to_its_end(place: Place) -> None:
    """Rows done never fall, never pass what is known, and meet it at the end; a journal that cannot be shipped is left and counted."""
    writers = [offline_writer(place, 500) for _ in range(3)]
    for writer in writers:
        writer.close("finished", "")
    sender = ListSender()
    work = Sync(plan((), place.settings, watch=False), place.settings, sender, watch=False, another=ListSender)
    done: list[int] = []
    for number in range(40):
        steps(work, sender, 1)
        progress = work.progress
        done.append(progress.rows_done)
        assert progress.rows_done <= progress.rows
        assert number or progress.rows == 1500
    assert done == sorted(done)
    assert (work.progress.rows, done[-1], work.progress.journals_done) == (1500, 1500, 3)


def test_rows_are_counted_once_where_another_sender_takes_over(place: Place) -> None:
    """In the middle, with rows under way that are never answered: they are shipped anew, and progress neither falls nor counts one twice."""
    for writer in [offline_writer(place, 500) for _ in range(3)]:
        writer.close("finished", "")
    first, second = ListSender(), ListSender()
    first.room = 4
    settings = place.settings.model_copy(update={"batch_size": 2048})
    work = Sync(plan((), settings, watch=False), settings, first, watch=False, another=lambda: second)
    steps(work, first, 2)
    work._step(2.0)
    before = work.progress
    assert 0 < before.rows_done < 1500
    work._renew(3.0)
    assert (work.progress.rows_done, work.progress.journals) == (before.rows_done, 3)
    steps(work, second, 60)
    assert work.progress == Progress(3, 3, 1500, 1500)


def test_a_sync_that_is_stopped_leaves_the_rest(place: Place) -> None:
    """Closing in the middle counts nothing as shipped that Kafka did not acknowledge; the claim is free afterwards, and the journal goes on from there."""
    writer = offline_writer(place, 500)
    writer.close("finished", "")
    sender = ListSender()
    work = Sync(plan((), place.settings, watch=False), place.settings, sender, watch=False, another=ListSender)
    work._step(0.0)
    work.close(0.0)
    assert [(one.outcome, one.rows) for one in work.results] == [("left", 0)]
    assert extent_of(open_journal(writer.folder.path)).rows_waiting == 500
    assert "1 journals shipped with 500 rows" in synced(place)[0]


def test_a_last_state_that_is_refused_does_not_keep_the_journal_for_ever(place: Place) -> None:
    """As with the agent: after a few refusals of its record the journal goes, since its rows are stored."""
    writer = offline_writer(place, 5)
    writer.close("finished", "")
    sender = ListSender()
    work = Sync(plan((), place.settings, watch=False), place.settings, sender, watch=False, another=ListSender)
    for number in range(30):
        work._step(float(2 * number))
        sender.settle(lambda one: UNKNOWN_TOPIC if one.topic.endswith(".writer") else None)
    assert not writer.folder.path.exists()


def test_a_sender_that_is_broken_ends_the_sync(place: Place) -> None:
    """A fatal error of the client ends in one sentence at once, whatever time is left."""
    writer = offline_writer(place, 5)
    writer.close("finished", "")
    sender = ListSender()
    sender.broken, sender.last_error = True, "fenced"
    work = Sync(Plan((writer.folder.path,), (), ()), place.settings, sender, watch=False, another=ListSender)
    with pytest.raises(SyncError, match="fenced"):
        work.run()
    work.close(0.0)


def test_a_terminal_sees_a_bar(place: Place) -> None:
    """On a terminal a bar is drawn and wiped; what a program reads, the lines on standard output, has none of it."""
    offline_writer(place).close("finished", "")
    master, slave = os.openpty()
    argv = [sys.executable, "-m", "runstream.cli", "sync"]
    with subprocess.Popen(argv, env=place.environ, stdout=subprocess.PIPE, stderr=slave, text=True) as child:
        os.close(slave)
        out, _ = child.communicate(timeout=60)
    drawn = os.read(master, 1 << 16).decode()
    os.close(master)
    assert child.returncode == 0
    assert "[##############################] 100%  3,000 of 3,000 rows, 1 of 1 journals" in drawn
    assert drawn.endswith("\r\x1b[K")
    assert "\r" not in out
    assert len(out.splitlines()) == 2
