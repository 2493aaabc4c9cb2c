"""A minute without Kafka while ranks log, and agents that are killed meanwhile: training does not notice, and everything arrives, in order.

One broker is held still for one minute, and all that is to be shown about it happens in that minute, in places of their own; each test looks at one of them. A broker that is
held still keeps its connections and answers nobody, and takes in afterwards what has been sent to it: the outage in which most is repeated.
"""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runstream_producers.journal import format as fmt
from runstream_producers.shipper import ASIDE_NAME
from runstream_producers.topics import ensure_topics
from runstream_schemas import records as rec
from tests.broker import Broker
from tests.faults import known
from tests.producers.cluster import Place, place_of
from tests.producers.ledger import Ledger, check_account, ledger_of
from tests.told import told
from tests.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.faults, pytest.mark.timeout(300)]

OUTAGE_S = 60.0
RATE = 100.0  # Rows a second of one rank.
MESSAGE_TIMEOUT_S = 1.0
# Short outages, in which some messages run out of time and those behind them do not.
STALLS_S = (1.3, 1.8, 2.3)
BEFORE = 3 + len(known.params(RATE, 0))  # Records of a rank before its first row: the run, two rules, its params.
# Far more than a call takes, far less than the outage: what a machine that does three things at once may make of a call that waits for nobody.
LONGEST_S = 5.0


@dataclass
class Rank:
    """A rank's process, and its files: the ledger, the one that lets it finish, and what it printed."""

    process: subprocess.Popen[bytes]
    ledger: Path
    stop: Path
    output: Path

    @property
    def rows(self) -> int:
        """How many calls returned."""
        return told(self.ledger)[0] if self.ledger.exists() and self.ledger.stat().st_size else 0

    def end(self, timeout_s: float = 90.0) -> None:
        """Lets it finish."""
        self.stop.touch()
        self.process.wait(timeout_s)

    @property
    def answer(self) -> dict[str, Any]:
        """What it said at its end."""
        lines = self.output.read_text().splitlines()
        assert lines, f"the rank said nothing, and ended with {self.process.poll()}"
        return json.loads(lines[-1])


@dataclass
class Scenario:
    """The places of the minute, with their ranks by name, and the agents that were killed."""

    folder: Path
    places: dict[str, Place] = field(default_factory=dict[str, Place])
    ranks: dict[str, Rank] = field(default_factory=dict[str, Rank])
    killed: list[int] = field(default_factory=list[int])

    def settle(self, name: str, kafka: str, **settings: str) -> Place:
        """A place on the broker."""
        place = self.places[name] = place_of(kafka, self.folder / name, heartbeat_interval="1", **settings)
        ensure_topics(place.settings)
        return place

    def start(self, name: str, place: Place, number: int, *arguments: str) -> None:
        """Starts a rank; `number` is its rank."""
        ledger, stop, output = (self.folder / f"{name}.{kind}" for kind in ("ledger", "stop", "log"))
        argv = [sys.executable, "-m", "tests.faults.rank", "--ledger", str(ledger), "--stop", str(stop), "--rate", str(RATE), *arguments]
        environ = place.environ | {"RANK": str(number), "WORLD_SIZE": "2", "RUNSTREAM_RUN_ID": "outage"}
        with output.open("wb") as file:
            self.ranks[name] = Rank(subprocess.Popen(argv, env=environ, stdout=file, stderr=file), ledger, stop, output)

    def kill_agent(self, place: Place) -> None:
        """Kills an agent, and waits for the one that the rank's watch starts."""
        agent = place.wait_for_agent()
        os.kill(agent, signal.SIGKILL)
        self.killed.append(agent)
        place.wait_for_agent(other_than=agent)


def shipped(place: Place) -> int:
    """Rows that Kafka has acknowledged of the journals that are there now."""
    return sum(fmt.read_ack(path.read_bytes()).rows for path in place.folder.glob("w-*/ack"))


def wait_for_progress(place: Place) -> None:
    """Waits until more is acknowledged than by now."""
    before = shipped(place)
    wait_for(lambda: shipped(place) > before, 30, place.log)


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """The minute, from before it until everything has arrived."""
    scenario = Scenario(tmp_path_factory.mktemp("outage"))
    broker = Broker(scenario.folder / "kafka")
    try:
        live_through(scenario, broker)
        yield scenario
    finally:
        for rank in scenario.ranks.values():
            rank.process.kill()
            rank.process.wait()
        for place in scenario.places.values():
            place.kill_agents()
        broker.stop()


def live_through(scenario: Scenario, broker: Broker) -> None:
    """What happens, in its order."""
    plain, killed = scenario.settle("plain", broker.servers), scenario.settle("killed", broker.servers)
    timed = scenario.settle("timed", broker.servers, kafka_options=f"message.timeout.ms={MESSAGE_TIMEOUT_S * 1000:.0f}")
    scenario.start("plain", plain, 0)
    scenario.start("killed", killed, 0)
    scenario.start("timed", timed, 0)
    scenario.start("ends in it", timed, 1, "--until", "100", "--linger", "--finish-timeout", "1")
    for place in (plain, killed, timed):
        wait_for_progress(place)
    scenario.kill_agent(killed)
    wait_for_progress(killed)
    idle = scenario.ranks["ends in it"]
    [journal] = (path.parent for path in timed.folder.glob("w-*/writer.json") if fmt.Identity.from_json(path.read_text()).rank == 1)
    wait_for(lambda: fmt.read_ack((journal / "ack").read_bytes()).rows == BEFORE + 100 + 1, 30, "all rows of the idle rank")

    with broker.held():
        over_at = time.monotonic() + OUTAGE_S
        time.sleep(0.5)  # Frames have been sent and not answered: what this agent knows of them dies with it.
        scenario.kill_agent(killed)
        idle.end(timeout_s=30)
        scenario.start("begins in it", plain, 1)
        scenario.kill_agent(killed)
        scenario.kill_agent(killed)
        time.sleep(max(0.0, over_at - time.monotonic()))
    for place in (plain, killed, timed):
        wait_for_progress(place)
    scenario.kill_agent(killed)
    for stall_s in STALLS_S:
        with broker.held():
            time.sleep(stall_s)
        wait_for_progress(timed)
    for name in ("plain", "begins in it", "killed", "timed"):
        scenario.ranks[name].end()
    for place in scenario.places.values():
        wait_for(lambda place=place: not list(place.folder.glob("w-*")), 30, place.log)


def expected(number: int, rows: int) -> Ledger:
    """The points of a rank, by seq."""
    return {BEFORE + step: {("training", "", name, step, struct.pack("<d", value)) for name, value in known.row(number, step).items()} for step in range(rows)}


def check_rank(scenario: Scenario, where: str, name: str, number: int) -> int:
    """Everything that a rank logged is on the topics, in order, and its account balances; returns how many seqs came more than once."""
    place, rank = scenario.places[where], scenario.ranks[name]
    [state] = [one for one in place.last_states().values() if one.rank == number]
    rows = rank.rows
    assert rows >= 100
    assert (state.state, state.exit_reason, state.points_dropped) == ("finished", "", {})
    assert state.next_seq == state.rows_logged == state.rows_shipped == BEFORE + rows + 1
    assert state.points_logged == state.points_shipped == rows * len(known.METRICS)
    frames = [frame for frame in place.read("metric", rec.MetricFrame) if frame.writer == state.writer]
    repeats = check_account(frames, until=state.next_seq)
    assert ledger_of(frames) == expected(number, rows)
    assert {(one.seq, one.name) for one in place.read("event", rec.Event) if one.writer == state.writer} == {(BEFORE + rows, "stopped")}
    assert {one.seq for one in place.read("param", rec.Param) if one.writer == state.writer} == set(range(3, BEFORE))
    assert {one.ordinal for one in place.read("rule", rec.Rule) if one.writer == state.writer} == {1, 2}
    assert not (place.folder / ASIDE_NAME).exists()
    return repeats


def test_training_does_not_notice_a_minute_without_kafka(minute: Scenario, record_property: Callable[[str, object], None]) -> None:
    """No call of a rank waits for Kafka, everything arrives once it is back, in order and each row once, and the account balances."""
    answer = minute.ranks["plain"].answer
    record_property("longest_ms", answer["longest_ms"])
    assert answer["longest_ms"] < LONGEST_S * 1000
    assert minute.ranks["plain"].rows > RATE * OUTAGE_S / 2
    assert answer["shipped"]
    assert check_rank(minute, "plain", "plain", 0) == 0


def test_a_run_begins_without_kafka(minute: Scenario) -> None:
    """A rank that starts in the middle of the minute logs at once, and loses nothing."""
    answer = minute.ranks["begins in it"].answer
    assert answer["init_ms"] < LONGEST_S * 1000
    assert answer["longest_ms"] < LONGEST_S * 1000
    check_rank(minute, "plain", "begins in it", 1)


def test_an_outage_longer_than_the_message_timeout(minute: Scenario) -> None:
    """Where librdkafka gives messages up after three seconds, nothing is lost or set aside, and no frame overtakes the one ahead of it."""
    assert "_MSG_TIMED_OUT" in minute.places["timed"].log(1 << 20)
    assert minute.ranks["timed"].answer["longest_ms"] < LONGEST_S * 1000
    check_rank(minute, "timed", "timed", 0)


def test_a_run_that_ends_in_the_outage_is_told_as_finished(minute: Scenario) -> None:
    """All of its rows had arrived before; its last state is sent until Kafka takes it, though librdkafka gives it up again and again, and finish keeps its time."""
    assert not minute.ranks["ends in it"].answer["shipped"]
    check_rank(minute, "timed", "ends in it", 1)


def test_an_agent_that_is_killed_five_times(minute: Scenario) -> None:
    """The rank's watch starts another each time, before, in and after the outage; each goes on from what is acknowledged, and what was under way is repeated."""
    assert len(set(minute.killed)) == 5
    assert minute.ranks["killed"].answer["shipped"]
    assert check_rank(minute, "killed", "killed", 0) > 0
