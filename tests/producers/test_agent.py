"""The agent on a real broker: one for a folder, journals of the dead, topics that are missing, journals that cannot be read, and its end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from runstream_producers import agent as agents
from runstream_producers import claims
from runstream_producers.hands import FINALS_MAX
from runstream_producers.journal import format as fmt
from runstream_producers.journal.segments import locked
from runstream_producers.journal.writer import JournalWriter
from runstream_producers.loop import Agent
from runstream_producers.shipper import ASIDE_NAME
from runstream_schemas import records as rec
from runstream_schemas.records import MetricFrame
from tests.producers.cluster import Place
from tests.producers.journals import Reports, identity, make_writer
from tests.producers.ledger import check_account, ledger_of
from tests.producers.senders import UNKNOWN_TOPIC, ListSender, Sent
from tests.waiting import wait_for

# confluent_kafka annotates its futures without their type.
# pyright: reportUnknownMemberType=false

pytestmark = pytest.mark.stack


def start_agent(place: Place, **settings: str) -> subprocess.Popen[bytes]:
    """An agent on the place's folder, as the SDK starts it."""
    place.folder.mkdir(parents=True, exist_ok=True)
    environ = place.environ | {f"RUNSTREAM_{name.upper()}": value for name, value in settings.items()}
    with (place.folder / "agent.log").open("ab") as log:
        argv = [sys.executable, "-m", "runstream_producers.agent", "--folder", str(place.folder)]
        child = subprocess.Popen(argv, env=environ, stderr=log, start_new_session=True)
    place.note(child.pid)
    return child


def crash(writer: JournalWriter) -> None:
    """Gives up the lock without an end, as the death of the process does."""
    writer.folder.close()


def drop_topic(place: Place, topic: str) -> None:
    """Removes a topic of the place; waits until the broker knows, which takes records for it until then."""
    name = f"{place.prefix}.{topic}"
    admin = AdminClient({"bootstrap.servers": place.kafka})
    admin.delete_topics([name])[name].result(timeout=20)
    wait_for(lambda: name not in admin.list_topics(timeout=20).topics, 20, f"{name} to be gone")


def test_of_agents_that_race_for_a_folder_one_serves(place: Place) -> None:
    """Of five agents started at once one ships the journal and the others end at once without a fault."""
    writer = make_writer(place.folder)
    writer.log({"a": 1.0})
    racing = [start_agent(place) for _ in range(5)]
    serving = place.wait_for_agent()
    codes = {child.pid: child.wait(20) for child in racing if child.pid != serving}
    assert list(codes.values()) == [0] * 4, place.log()
    assert place.agent() == serving
    crash(writer)
    assert next(child for child in racing if child.pid == serving).wait(20) == 0
    assert sorted(ledger_of(place.read("metric", MetricFrame))) == [0]
    assert not writer.folder.path.exists()


def test_leftovers_of_the_dead_are_shipped(place: Place) -> None:
    """Journals that ended and journals whose writer died, from before any agent, are shipped by the next one, and it ends by itself."""
    finished, crashed = make_writer(place.folder), make_writer(place.folder)
    for number in range(5000):
        finished.log({"a": float(number)}, step=number)
        crashed.log({"b": float(number)}, step=number)
    finished.close("failed", "ValueError: no")
    crash(crashed)
    assert start_agent(place).wait(30) == 0
    states = place.last_states()
    assert (states[finished.identity.writer].state, states[finished.identity.writer].exit_reason) == ("failed", "ValueError: no")
    assert states[crashed.identity.writer].state == "crashed"
    frames = place.read("metric", MetricFrame)
    for writer in (finished, crashed):
        mine = [frame for frame in frames if frame.writer == writer.identity.writer]
        assert check_account(mine, until=5000) == 0
        assert sorted(ledger_of(mine)) == list(range(5000))
        assert states[writer.identity.writer].points_shipped == 5000
    assert list(place.folder.glob("*w-*")) == []


def test_a_missing_topic_holds_no_metrics_back(place: Place) -> None:
    """Events whose topic does not exist are set aside and counted; every metric arrives, and the writer's account says what is missing."""
    drop_topic(place, "event")
    writer = make_writer(place.folder)
    for number in range(300):
        writer.log({"a": float(number)})
        if number % 100 == 50:
            writer.record(fmt.Kind.EVENT, {"event_id": str(number), "time_ms": 1, "name": "n"})
    agent = start_agent(place, kafka_options="topic.metadata.propagation.max.ms=1000;topic.metadata.refresh.interval.ms=1000")
    wait_for(lambda: sum(frame.points for frame in place.read("metric", MetricFrame)) >= 300, 15, place.log)
    writer.close("finished", "")
    assert agent.wait(30) == 0, place.log()
    [state] = place.last_states().values()
    assert (state.state, state.rows_logged, state.rows_shipped, state.points_shipped) == ("finished", 303, 300, 300)
    assert len((place.folder / ASIDE_NAME).read_text().splitlines()) == 3
    assert check_account(place.read("metric", MetricFrame), until=303) == 0


def test_a_missing_metric_topic_keeps_the_journal(place: Place) -> None:
    """While the topic of frames is missing nothing is removed though the writer has ended; once it is there, all arrives."""
    from runstream_producers.topics import ensure_topics

    drop_topic(place, "metric")
    writer = make_writer(place.folder)
    for number in range(100):
        writer.log({"a": float(number)})
    writer.close("finished", "")
    agent = start_agent(place, kafka_options="topic.metadata.propagation.max.ms=500;topic.metadata.refresh.interval.ms=500")
    wait_for(lambda: "frame not delivered" in place.log(), 20, place.log)
    time.sleep(1.0)
    assert writer.folder.path.exists()
    ensure_topics(place.settings)
    assert agent.wait(40) == 0, place.log()
    assert sorted(ledger_of(place.read("metric", MetricFrame))) == list(range(100))
    [state] = place.last_states().values()
    assert (state.state, state.points_shipped) == ("finished", 100)


def test_a_journal_that_cannot_be_read_keeps_no_other_back(place: Place) -> None:
    """Folders with a broken identity, or none, are left alone and told; the others are shipped, and the agent ends for all that."""
    broken = place.folder / fmt.folder_name(5)
    broken.mkdir(parents=True)
    (broken / "writer.json").write_text("{")
    (place.folder / fmt.folder_name(6)).mkdir()
    later = make_writer(place.folder)
    (later.folder.path / "writer.json").write_text(later.identity.to_json().replace('"version": 1', '"version": 99'))
    crash(later)
    writer = make_writer(place.folder)
    writer.log({"a": 1.0})
    writer.close("finished", "")
    assert start_agent(place).wait(30) == 0, place.log()
    assert sorted(ledger_of(place.read("metric", MetricFrame))) == [0]
    assert sorted(path.name for path in place.folder.glob("w-*")) == sorted([broken.name, fmt.folder_name(6), later.folder.path.name])
    assert place.log().count("journal cannot be taken up") == 3


def test_the_agent_ends_when_its_folder_is_removed(place: Place) -> None:
    """`rm -rf` on the journals ends their agent, without a traceback."""
    import shutil

    writer = make_writer(place.folder)
    agent = start_agent(place)
    place.wait_for_agent()
    shutil.rmtree(place.folder)
    assert agent.wait(20) == 0
    crash(writer)


def test_sigterm_ends_the_agent_within_seconds(place: Place) -> None:
    """At SIGTERM it leaves what is not shipped to the next one, and readings of hardware are ended."""
    writer = make_writer(place.folder)
    writer.log({"a": 1.0})
    agent = start_agent(place, hardware_interval="1")
    wait_for(lambda: any(state.kind == "hardware" for state in place.last_states().values()), 15, place.log)
    began = time.monotonic()
    agent.send_signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    assert time.monotonic() - began < 6
    assert writer.folder.path.exists()
    crash(writer)
    assert start_agent(place).wait(30) == 0
    states = place.last_states()
    assert {(state.kind, state.state) for state in states.values()} == {("rank", "crashed"), ("hardware", "finished")}


def test_hardware_is_logged_for_each_run_by_itself(place: Place) -> None:
    """Each run on the node has readings of the machine, and of its own processes alone; they end with its last rank, their account balanced."""
    runs = {f"0193a1f0-0000-7000-8000-00000000000{number}": subprocess.Popen(["sleep", "60"]) for number in (1, 2)}
    writers: list[JournalWriter] = []
    try:
        for run_id, process in runs.items():
            from dataclasses import replace

            one = replace(identity(run_id=run_id), pid=process.pid)
            writers.append(JournalWriter(place.folder, lambda one=one: one, segment_bytes=1 << 16, bytes_max=1 << 30, report=Reports()))
        agent = start_agent(place, hardware_interval="1")
        wait_for(lambda: sum(len(group.seqs) for frame in place.read("hardware", MetricFrame) for group in frame.groups) > 8, 20, place.log)
        for writer in writers:
            writer.close("finished", "")
        assert agent.wait(20) == 0, place.log()
    finally:
        for process in runs.values():
            process.kill()
            process.wait()
    frames = place.read("hardware", MetricFrame)
    states = [state for state in place.last_states().values() if state.kind == "hardware"]
    assert {state.run_id for state in states} == {frame.run_id for frame in frames} == set(runs)
    for state in states:
        mine = [frame for frame in frames if frame.writer == state.writer]
        assert (state.state, state.points_shipped) == ("finished", sum(frame.points for frame in mine))
        assert check_account(mine, until=state.next_seq) == 0
        names = {key for frame in mine for group in frame.groups for key in group.keys}
        assert {"cpu.utilization", "memory.used_bytes", 'process.memory.rss_bytes{rank="3"}'} <= names
        rss = {float(value) for frame in mine for group in frame.groups for value in group.values[:, group.keys.index('process.memory.rss_bytes{rank="3"}')]}
        assert all(0 < value < 50e6 for value in rss)


def test_a_done_journal_that_was_not_removed_is_removed(place: Place) -> None:
    """An agent killed between a writer's last record and the removal leaves nothing that another would ship again."""
    from runstream_producers.shipper import Shipment

    writer = make_writer(place.folder)
    writer.log({"a": 1.0})
    writer.close("finished", "")
    sender = ListSender()
    shipment = Shipment(writer.folder.path, writer.identity, sender, place.prefix, 1000)
    shipment.step(0.0)
    sender.settle()
    shipment.settle(0.0)
    shipment.finish()
    shipment.close()
    half = place.folder / (claims.GONE + "w-half")
    half.mkdir()
    (half / "ack").write_bytes(b"")
    assert start_agent(place).wait(30) == 0
    assert place.read("metric", MetricFrame) == []
    assert list(place.folder.glob("*w-*")) == []


@pytest.mark.parametrize("failures", [1, 3, 100])
def test_a_last_state_that_is_refused_is_tried_again_and_not_for_ever(place: Place, failures: int) -> None:
    """The record of a writer's end is sent again when refused; after a few times its journal goes without, since all its rows are stored."""
    writer = make_writer(place.folder)
    writer.log({"a": 1.0})
    writer.close("finished", "")
    sender = ListSender()
    agent = Agent(place.folder, place.settings, sender, None)
    refused = 0
    for now in range(40):
        agent.step(float(now))

        def refuse(one: Sent) -> int | None:
            nonlocal refused
            record = one.record
            if isinstance(record, rec.Writer) and record.state == "finished" and refused < failures:
                refused += 1
                return UNKNOWN_TOPIC
            return None

        sender.settle(refuse)
    assert not writer.folder.path.exists()
    finals = [one.record for one in sender.sent if isinstance(one.record, rec.Writer) and one.record.state == "finished"]
    assert len(finals) == min(failures + 1, FINALS_MAX)
    agent.close(0.0)


def test_heartbeats_tell_the_account_and_do_not_pile_up(place: Place) -> None:
    """A live writer's record comes at the interval with what is shipped by then; while one has no answer, no other is sent."""
    writer = make_writer(place.folder)
    writer.log({"a": 1.0, "b": None})
    writer.flush_drops()
    sender = ListSender()
    agent = Agent(place.folder, place.settings, sender, None)
    for now in range(100, 160):
        agent.step(float(now))
    assert sum(one.topic.endswith(".writer") for one in sender.sent) == 1
    for now in range(200, 260):
        agent.step(float(now))
        sender.settle()
    beats = [one.record for one in sender.sent if isinstance(one.record, rec.Writer)]
    assert 8 <= len(beats) <= 14
    assert isinstance(beats[-1], rec.Writer)
    last = beats[-1]
    assert (last.state, last.rows_logged, last.rows_shipped, last.points_logged, last.points_shipped) == ("running", 1, 1, 1, 1)
    assert last.points_dropped == {"bad_value": 1}
    assert [beat.version for beat in beats] == sorted(beat.version for beat in beats)
    agent.close(0.0)
    writer.close("finished", "")


def test_an_agent_may_open_the_files_of_many_ranks() -> None:
    """However few files the shell allows at first, the agent takes what it may have: a journal beyond them could not be taken up."""
    few = "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))"
    look = "from runstream_producers.agent import allow_files; allow_files(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    said = subprocess.run([sys.executable, "-c", f"{few}; {look}"], capture_output=True, text=True, timeout=30, check=True).stdout
    soft, hard = map(int, said.split())
    assert soft == (1 << 16 if hard < 0 else min(hard, 1 << 16))


def test_a_lock_tells_who_holds_it(tmp_path: Path) -> None:
    """One agent takes a folder's lock, another does not get it, and `locked` sees it from outside."""
    script = (
        "import sys, time, pathlib; from runstream_producers.agent import take_lock; print(take_lock(pathlib.Path(sys.argv[1])), flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert int(holder.stdout.readline()) > 0
        assert claims.holder(tmp_path / agents.LOCK_NAME) == holder.pid
        assert locked(tmp_path / agents.LOCK_NAME)
        assert agents.take_lock(tmp_path) is None
        holder.kill()
    assert not locked(tmp_path / agents.LOCK_NAME)
    assert not locked(tmp_path / "nothing")


def test_what_cannot_be_opened_counts_as_locked(tmp_path: Path) -> None:
    """A process out of descriptors must not take a living writer for dead: what it cannot open counts as held."""
    import resource

    path = tmp_path / "lock"
    path.touch()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        held = locked(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert held
    assert not locked(path)


def test_a_broken_producer_ends_the_loop(place: Place) -> None:
    """After a fatal error librdkafka's producer sends nothing any more: the loop ends, so that another producer takes the journals up where they stand."""
    writer = make_writer(place.folder)
    writer.log({"a": 1.0})
    sender = ListSender()
    sender.broken = True
    agent = Agent(place.folder, place.settings, sender, None)
    began = time.monotonic()
    agent.run()
    agent.close(0.0)
    assert time.monotonic() - began < 5
    assert fmt.read_ack((writer.folder.path / "ack").read_bytes()).next_seq == 0
    crash(writer)
    assert start_agent(place).wait(30) == 0
    assert sorted(ledger_of(place.read("metric", MetricFrame))) == [0]
