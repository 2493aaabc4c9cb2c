"""Every part of the pipeline is killed hard while two ranks log; nothing is lost, nothing is doubled, and repeats did happen.

The broker is held still while the agent and the sink are killed, so that each dies between sending and learning that it was stored: whoever takes over must repeat rows.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runstream_local.stack import Stack
from runstream_schemas.ids import new_uuid
from tests.answers import Answers
from tests.faults import known
from tests.summaries import check_summaries
from tests.told import told
from tests.waiting import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.faults, pytest.mark.timeout(420)]

ROOT = Path(__file__).resolve().parents[2]
RATE = 150.0  # Rows a second of one rank; each has four points.
BETWEEN_S = 3.0  # What the pipeline is given to go on after each blow.


@dataclass
class Rank:
    """A rank's process, with its ledger."""

    rank: int
    first: int
    process: subprocess.Popen[bytes]
    ledger: Path

    def steps(self) -> range:
        """The steps whose calls returned."""
        return range(self.first, max(self.first, told(self.ledger)[0]))


class Job:
    """Two ranks of one run, beside a stack."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.run_id = new_uuid()
        self.ranks: list[Rank] = []
        self._folder = folder
        self._stop = folder / "stop"
        self.journals = folder / "journals"
        own = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
        self._environment = own | {
            "RUNSTREAM_HOME": str(folder / "home"),
            "RUNSTREAM_KAFKA": stack.kafka,
            "RUNSTREAM_RUN_ID": self.run_id,
            "RUNSTREAM_JOURNAL_DIR": str(self.journals),
            "RUNSTREAM_AGENT_IDLE_TIMEOUT": "3",
            "RUNSTREAM_HARDWARE_INTERVAL": "1",
            "RUNSTREAM_HEARTBEAT_INTERVAL": "1",
            "PYTHONPATH": str(ROOT),
            "WORLD_SIZE": "2",
        }

    def start(self, rank: int, first: int = 0) -> Rank:
        """Starts a rank that logs from a step on."""
        ledger = self._folder / f"ledger-{len(self.ranks)}"
        command = [sys.executable, "-m", "tests.faults.rank", "--ledger", str(ledger), "--stop", str(self._stop), "--first", str(first), "--rate", str(RATE)]
        log = self._folder / f"rank-{len(self.ranks)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=self._environment | {"RANK": str(rank)}, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT)
        one = Rank(rank, first, process, ledger)
        self.ranks.append(one)
        wait_for(
            lambda: ledger.exists() and ledger.stat().st_size == 8 and len(one.steps()) > 0,
            30,
            lambda: f"rank {rank} to log; it said: {log.read_text()[-500:]}",
        )
        return one

    def stop(self) -> None:
        """Lets the ranks finish."""
        self._stop.touch()
        for one in self.ranks:
            one.process.wait(timeout=90)

    def end(self) -> None:
        """Leaves no rank behind, however the test went."""
        for one in self.ranks:
            one.process.kill()
            one.process.wait(timeout=10)

    def agent(self) -> int:
        """The process id of the agent that ships this job's journals, once there is one."""
        found: list[int] = []

        def look() -> bool:
            for entry in Path("/proc").iterdir():
                if entry.name.isdecimal():
                    try:
                        argv = (entry / "cmdline").read_bytes().split(b"\0")
                    except OSError:
                        continue
                    if b"runstream_producers.agent" in argv and any(str(self.journals).encode() in part for part in argv):
                        found.append(int(entry.name))
            return bool(found)

        wait_for(look, 15, "an agent")
        return found[-1]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A whole stack of this test's own, since it will be killed piece by piece."""
    with Stack(data=tmp_path / "stack") as started:
        yield started


@pytest.fixture
def job(stack: Stack, tmp_path: Path) -> Iterator[Job]:
    """A job beside the stack, without ranks yet."""
    made = Job(stack, tmp_path)
    try:
        yield made
    finally:
        made.end()


def kill_between_sending_and_knowing(stack: Stack, victim: Callable[[], int], still_s: float) -> None:
    """Holds the broker still for a while, kills the victim meanwhile, and lets the broker go on: what was sent is stored, and the sender never learned it."""
    broker = stack.pid("kafka")
    os.kill(broker, signal.SIGSTOP)
    try:
        time.sleep(still_s)
        os.kill(victim(), signal.SIGKILL)
    finally:
        os.kill(broker, signal.SIGCONT)


def balanced(answers: Answers, run_id: str, writers: int) -> bool:
    """Whether the account knows all rank writers, none of them runs any more, and everybody's counts agree."""
    rows = answers.rows("SELECT kind, state, balanced FROM account WHERE run_id = {run:UUID}", run=run_id)
    ended = [row for row in rows if row["state"] != "running"]
    return sum(row["kind"] == "rank" for row in rows) == writers and len(ended) == len(rows) and all(row["balanced"] for row in rows)


def test_each_part_is_killed_once_while_two_ranks_log(stack: Stack, job: Job) -> None:
    """After a hard kill of agent, sink, Faust worker, ClickHouse, broker and a rank: the account balances, no row is doubled, summaries equal the recomputation, each alert is there once."""
    answers = Answers(stack.clickhouse_url)
    # Background merges would collapse the repeats that this test wants to count.
    answers.command("ALTER TABLE metric_points MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1")
    job.start(0)
    second = job.start(1)
    wait_for(lambda: answers.count("metrics", job.run_id) > 0, 30, "the first points to be stored")

    kill_between_sending_and_knowing(stack, job.agent, still_s=0.7)
    time.sleep(BETWEEN_S)
    # Longer than the sink's interval, so that it has inserted what it had and waits to commit.
    kill_between_sending_and_knowing(stack, lambda: stack.pid("sinks"), still_s=2.5)
    time.sleep(BETWEEN_S)
    stack.kill("processors")
    time.sleep(BETWEEN_S)
    stack.kill("clickhouse")
    time.sleep(BETWEEN_S)
    stack.kill("kafka")
    time.sleep(BETWEEN_S)
    second.process.kill()
    second.process.wait(timeout=10)
    job.start(1, first=len(second.steps()))
    time.sleep(BETWEEN_S)
    stack.wait_healthy(90)
    job.stop()

    assert [one.process.returncode for one in job.ranks] == [0, -signal.SIGKILL, 0]
    wait_for(
        lambda: balanced(answers, job.run_id, writers=3),
        120,
        lambda: f"the account to balance: {answers.rows('SELECT * FROM account WHERE run_id = {run:UUID}', run=job.run_id)}",
    )
    check_points(answers, job)
    check_summaries(answers, job.run_id)
    check_alerts(answers, job)


def check_points(answers: Answers, job: Job) -> None:
    """Every call that returned is stored once with its values; only a call in whose middle a rank was killed may be there beyond that."""
    stored = answers.rows("SELECT rank, name, step, value FROM metrics WHERE run_id = {run:UUID} AND context = 'training'", run=job.run_id)
    seen = Counter((row["rank"], row["name"], row["step"]) for row in stored)
    assert max(seen.values()) == 1, "a row is doubled"
    expected = {(one.rank, name, step) for one in job.ranks for step in one.steps() for name in known.METRICS}
    assert not expected - seen.keys(), "a row is lost"
    extra = {(rank, step) for rank, _, step in seen.keys() - expected}
    assert extra <= {(one.rank, one.steps().stop) for one in job.ranks if one.process.returncode}, "a row was invented"
    for row in stored:
        value = known.row(row["rank"], row["step"])[row["name"]]
        assert row["value"] == value or (row["value"] != row["value"] and value != value)
    states = answers.rows("SELECT state, count() AS n FROM writers WHERE run_id = {run:UUID} AND kind = 'rank' GROUP BY state", run=job.run_id)
    assert {row["state"]: row["n"] for row in states} == {"finished": 2, "crashed": 1}
    doubled = answers.rows("SELECT count() AS n, uniqExact(writer, seq, name, context, subject) AS d FROM metrics WHERE run_id = {run:UUID}", run=job.run_id)[0]
    assert doubled["n"] == doubled["d"]
    before = answers.rows("SELECT count() AS n FROM metric_points WHERE run_id = {run:UUID}", run=job.run_id)[0]["n"]
    assert before - len(stored) > 0, "no row was repeated, so nothing was proved"


def check_alerts(answers: Answers, job: Job) -> None:
    """Each episode that the data holds fired once, and its alert is there once."""
    expected: Counter[tuple[str, int]] = Counter()
    for one in job.ranks:
        last = (
            answers.rows("SELECT max(step) AS step FROM metrics WHERE run_id = {run:UUID} AND rank = {rank:UInt32}", run=job.run_id, rank=one.rank)[0]["step"]
            + 1
        )
        steps = one.steps()
        after = steps.stop if one.process.returncode == 0 else min(steps.stop + 1, last)
        expected["spike", one.rank] += known.spikes(steps.start, after)
        expected["not finite", one.rank] += known.nans(steps.start, after)

    def found() -> Counter[tuple[str, int]]:
        rows = answers.rows("SELECT rule, rank, count() AS n FROM alerts WHERE run_id = {run:UUID} GROUP BY rule, rank", run=job.run_id)
        return Counter({(row["rule"], row["rank"]): row["n"] for row in rows})

    assert sum(expected.values()) > 0
    wait_for(lambda: found() == expected, 30, lambda: f"the alerts {expected}, found {found()}")
    opened = answers.rows("SELECT count() AS n, uniqExact(writer, seq, rule_id) AS d FROM alerts WHERE run_id = {run:UUID}", run=job.run_id)[0]
    assert opened["n"] == opened["d"]
