"""The wall clock is set while a run goes on: durations do not follow it, and everything arrives."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from runstream_producers.claims import holder
from runstream_producers.topics import ensure_topics
from runstream_schemas import records as rec
from runstream_schemas.records import MetricFrame
from runstream_schemas.settings import load
from tests.clock import Clock
from tests.producers.cluster import Place, settle
from tests.producers.ledger import check_account, ledger_of
from tests.producers.test_sync import logged, offline_writer
from tests.sdk.forwarder import Forwarder
from tests.sdk.rank import expected
from tests.waiting import wait_for

pytestmark = pytest.mark.stack

HOUR_S = 3600
ROWS = 300
# Logs, is idle until it may go on, and logs again.
SCRIPT = """
import pathlib, sys, time, runstream
from tests.sdk.rank import row
run = runstream.init("tests")
for number in range({rows}):
    run.log(row(number), step=number)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.05)
for number in range({rows}, 2 * {rows}):
    run.log(row(number), step=number)
print(run.finish(20))
"""


@pytest.mark.parametrize("ahead_s", [-HOUR_S, 3 * HOUR_S], ids=["back", "ahead"])
def test_the_clock_is_set_in_the_middle_of_a_run(place: Place, tmp_path: Path, ahead_s: int) -> None:
    """An hour back and three ahead: what is logged then arrives as ever, heartbeats go on and the newest holds, the run ends as finished and its agent by itself."""
    clock = Clock(tmp_path)
    go_on = tmp_path / "go"
    environ = place.environ | clock.environ | {"RUNSTREAM_HEARTBEAT_INTERVAL": "3"}
    argv = [sys.executable, "-c", SCRIPT.format(rows=ROWS), str(go_on)]
    with subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, text=True) as rank:
        wait_for(lambda: sum(frame.points for frame in place.read("metric", MetricFrame)) == 3 * ROWS, 20, place.log)
        clock.set(ahead_s)
        # By then the agent waits for nothing but the time, in C code of librdkafka's as well.
        time.sleep(0.3)
        go_on.touch()
        out, _ = rank.communicate(timeout=60)
    assert "shipped=True" in out, out + place.log()
    frames = place.read("metric", MetricFrame)
    check_account(frames, until=2 * ROWS + 1)
    assert ledger_of(frames) == expected(2 * ROWS, first_seq=1)
    states = place.read("writer", rec.Writer)
    assert [one.version for one in states] == sorted({one.version for one in states})
    assert (states[-1].state, states[-1].points_shipped) == ("finished", 6 * ROWS)


def test_the_clock_is_set_back_while_kafka_is_away(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is logged arrives once Kafka is there, and not an hour later: threads of librdkafka that wait to connect again wait by the wall clock, so their producer is given up."""
    clock, forwarder, stop = Clock(tmp_path), Forwarder(kafka), tmp_path / "go"
    place = settle(forwarder.address, tmp_path, monkeypatch)
    ensure_topics(load({"kafka": kafka}))
    environ = place.environ | clock.environ
    try:
        with subprocess.Popen([sys.executable, "-c", SCRIPT.format(rows=ROWS), str(stop)], env=environ, stdout=subprocess.PIPE, text=True) as rank:
            wait_for(lambda: "kind=unreachable" in place.log(), 20, place.log)
            clock.set(-HOUR_S)
            time.sleep(0.3)
            forwarder.open()
            stop.touch()
            out, _ = rank.communicate(timeout=60)
        assert "shipped=True" in out, out + place.log()
        assert place.log().count("the clock was set back") == 1
        place.kafka = kafka
        frames = place.read("metric", MetricFrame)
        check_account(frames, until=2 * ROWS + 1)
        assert ledger_of(frames) == expected(2 * ROWS, first_seq=1)
    finally:
        place.kill_agents()
        forwarder.close()


def test_the_clock_is_set_back_while_a_sync_waits_for_kafka(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`runstream sync` ships once Kafka is there: it neither waits for an hour nor gives up after `sync_timeout`."""
    clock, forwarder = Clock(tmp_path), Forwarder(kafka)
    place = settle(forwarder.address, tmp_path, monkeypatch, sync_timeout="15")
    ensure_topics(load({"kafka": kafka}))
    writer = offline_writer(place, ROWS)
    writer.close("finished", "")
    try:
        with subprocess.Popen([sys.executable, "-m", "runstream.cli", "sync"], env=place.environ | clock.environ, stdout=subprocess.PIPE, text=True) as work:
            # From then on its producer tries to connect, and waits in between.
            wait_for(lambda: holder(writer.folder.path / "shipper.lock") == work.pid, 20, "the journal to be in hand")
            clock.set(-HOUR_S)
            time.sleep(0.3)
            forwarder.open()
            out, _ = work.communicate(timeout=60)
        assert work.returncode == 0, out
        assert f"1 journals shipped with {ROWS:,} rows" in out
        place.kafka = kafka
        frames = place.read("metric", MetricFrame)
        check_account(frames, until=ROWS)
        assert ledger_of(frames) == logged(ROWS)
        [state] = place.last_states().values()
        assert (state.state, state.points_logged, state.points_shipped) == ("finished", 2 * ROWS, 2 * ROWS)
    finally:
        forwarder.close()
