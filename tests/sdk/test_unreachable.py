"""Kafka cannot be reached: training does not notice, finish keeps its time, and everything arrives once it can."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import runstream
from runstream_producers.topics import ensure_topics
from runstream_schemas.records import MetricFrame
from runstream_schemas.settings import load
from tests.producers.cluster import Place, settle
from tests.producers.ledger import check_account, ledger_of
from tests.sdk.forwarder import Forwarder
from tests.sdk.rank import expected, row
from tests.waiting import wait_for


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place whose broker nobody answers for; its agent has to be ended, since it waits."""
    forwarder = Forwarder("127.0.0.1:9")
    place = settle(forwarder.address, tmp_path, monkeypatch)
    try:
        yield place
    finally:
        place.kill_agents()
        forwarder.close()


def test_init_log_and_finish_keep_their_time(nowhere: Place, caplog: pytest.LogCaptureFixture) -> None:
    """init takes less than 50 ms at its best of three, logging works, finish(timeout=1) returns within 1.2 s and says how many rows are left, and where."""
    inits: list[float] = []
    runs: list[runstream.Run] = []
    for _ in range(3):
        began = time.perf_counter()
        runs.append(runstream.init("tests", config={"lr": 0.1}))
        inits.append(time.perf_counter() - began)
    assert min(inits) < 0.05
    for number in range(1000):
        runs[0].log(row(number), step=number)
    nowhere.wait_for_agent()
    began = time.perf_counter()
    done = runs[0].finish(timeout=1)
    assert time.perf_counter() - began < 1.2
    assert (done.shipped, done.rows_left) == (False, 1002)
    assert done.folder is not None
    assert done.folder.exists()
    [told] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert "1002 rows" in told
    assert str(done.folder) in told
    for run in runs[1:]:
        run.finish(timeout=0)


def test_ctrl_c_ends_the_waiting_for_good(nowhere: Place) -> None:
    """Ctrl-C while finish waits comes out of it, and the end of the process does not begin to wait again."""
    run = runstream.init("tests")
    run.log({"a": 1.0})
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run.finish(timeout=30)
    finally:
        signal.signal(signal.SIGALRM, before)
    began = time.perf_counter()
    done = run.finish(timeout=30)
    assert time.perf_counter() - began < 0.1
    assert (done.shipped, done.rows_left) == (False, 2)


@pytest.mark.stack
def test_everything_arrives_once_kafka_is_back(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of a run that ended during an outage wait in their journal, though the agent was killed as well; the next run on the node ships them with its own."""
    forwarder = Forwarder(kafka)
    place = settle(forwarder.address, tmp_path, monkeypatch)
    ensure_topics(load({"kafka": kafka}))
    try:
        early = runstream.init("tests")
        for number in range(1000):
            early.log(row(number), step=number)
        assert not early.finish(timeout=0.2).shipped
        place.wait_for_agent()
        place.kill_agents()
        assert early.rows_shipped == 0
        forwarder.open()
        late = runstream.init("tests")
        for number in range(100):
            late.log(row(number), step=number)
        assert late.finish(timeout=30).shipped, place.log()
        wait_for(lambda: not list(place.folder.glob("w-*")), 20, place.log)
        place.kafka = kafka
        frames = place.read("metric", MetricFrame)
        states = {state.run_id: state for state in place.last_states().values()}
        for run, rows in ((early, 1000), (late, 100)):
            mine = [frame for frame in frames if frame.run_id == run.id]
            assert ledger_of(mine) == expected(rows, first_seq=1)
            check_account(mine, until=rows + 1)
            assert (states[run.id].state, states[run.id].points_shipped) == ("finished", 3 * rows)
        place.end()
    finally:
        place.kill_agents()
        forwarder.close()


@pytest.mark.stack
def test_an_outage_in_the_middle_of_a_run_is_not_noticed(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that begins before Kafka can be reached ships all of it by its end, with the agent it began with."""
    forwarder = Forwarder(kafka)
    place = settle(forwarder.address, tmp_path, monkeypatch)
    ensure_topics(load({"kafka": kafka}))
    try:
        run = runstream.init("tests")
        agent = place.wait_for_agent()
        for number in range(2000):
            run.log(row(number), step=number)
            if number == 1000:
                time.sleep(0.5)
                forwarder.open()
        assert run.finish(timeout=30).shipped, place.log()
        assert place.agent() in (agent, 0)
        place.kafka = kafka
        frames = place.read("metric", MetricFrame)
        assert ledger_of(frames) == expected(2000, first_seq=1)
        assert check_account(frames, until=2001) == 0
        place.end()
    finally:
        place.kill_agents()
        forwarder.close()
