"""SIGKILL of the training process at random moments: every call that returned is in Kafka, exactly once by identity, and nothing that was not logged is.

A seed says what a process logs and when it is killed; `KILL_SEEDS` sets how many there are and `KILL_FIRST` the first of them, so that a failure is repeated by
`KILL_FIRST=N KILL_SEEDS=1`, or a longer soak made. The instant of the kill is the machine's, so a seed that failed may have to be repeated some times.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path

import pytest

import runstream
from runstream_schemas import ids
from runstream_schemas import records as rec
from tests.faults import calls
from tests.faults.calls import Item
from tests.producers.cluster import Place, settled
from tests.producers.ledger import check_account
from tests.told import told
from tests.waiting import wait_for

SEEDS = int(os.environ.get("KILL_SEEDS", "200"))
FIRST = int(os.environ.get("KILL_FIRST", "0"))
TOGETHER = 6
OF_TYPES = -2  # In the place of a thread: whichever logs a name first says of what type its values are.

pytestmark = [pytest.mark.stack, pytest.mark.timeout(120 + SEEDS)]


@pytest.fixture
def place(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Topics and journals of one test, and no agent left at its end."""
    yield from settled(kafka, tmp_path, monkeypatch)


@dataclass
class Found:
    """What the topics hold of one writer."""

    frames: list[rec.MetricFrame] = field(default_factory=list[rec.MetricFrame])
    by_seq: dict[int, Item] = field(default_factory=dict[int, Item])
    rules: dict[int, str] = field(default_factory=dict[int, str])
    points: int = 0
    repeats: int = 0

    def take(self, seq: int, item: Item, points: int = 0) -> None:
        """Takes an item under its seq, which must be the same if it comes again."""
        if seq in self.by_seq:
            assert self.by_seq[seq] == item, f"seq {seq} came with {self.by_seq[seq]}, then with {item}"
            self.repeats += 1
        else:
            self.by_seq[seq] = item
            self.points += points


def read_all(place: Place) -> dict[int, Found]:
    """Everything on the topics, by writer; repeats collapsed by identity."""
    found: dict[int, Found] = {}

    def of(writer: int) -> Found:
        return found.setdefault(writer, Found())

    for frame in place.read("metric", rec.MetricFrame, timeout_s=60):
        one = of(frame.writer)
        one.frames.append(frame)
        for group in frame.groups:
            for seq, step, time_ms, values in zip(group.seqs.tolist(), group.steps.tolist(), group.times.tolist(), group.values, strict=True):
                one.take(seq, calls.row_item(group.context, group.subject, step, time_ms, group.keys, values.tobytes()), len(group.keys))
    for event in place.read("event", rec.Event):
        thread = calls.thread_of(event.source)
        of(event.writer).take(event.seq, (thread, "event", (event.name, event.step, event.metadata["number"])))
    for param in place.read("param", rec.Param):
        thread = calls.thread_of(param.key.rpartition("-")[0]) if param.key.startswith("thread") else -1
        of(param.writer).take(param.seq, (thread, "param", (param.key, param.value)))
    for value in place.read("value", rec.Value):
        assert value.role == "type", "these calls log no other values than numbers"
        of(value.writer).take(value.seq, (OF_TYPES, "type", (value.name, value.value)))
    for change in place.read("run", rec.Run):
        thread = calls.thread_of(change.notes.split()[0]) if change.notes else -1
        of(change.writer).take(change.seq, (thread, "run", change.notes))
    for rule in place.read("rule", rec.Rule):
        names = of(rule.writer).rules
        assert names.setdefault(rule.ordinal, rule.name) == rule.name, f"rule {rule.ordinal} came as {names[rule.ordinal]}, then as {rule.name}"
    return found


def check_seed(seed: int, numbers: tuple[int, ...], states: Iterable[rec.Writer], found: dict[int, Found]) -> None:
    """Checks one seed: what it told of itself against what the topics hold of its run."""
    writer, *returned = numbers
    mine = [state for state in states if state.run_id == ids.run_id_of(calls.PROJECT, calls.run_name(seed))]
    if not mine:
        assert writer == 0, "init returned, and no state of the writer is there"
        return
    [state] = mine
    assert writer in (0, state.writer)
    one = found.pop(state.writer, Found())
    assert state.state == "crashed"
    check_account(one.frames, until=state.next_seq)
    # Rules carry no seq: theirs are what the other records leave.
    others = set(range(state.next_seq)) - one.by_seq.keys()
    assert len(one.by_seq) + len(others) == state.next_seq, "a seq beyond the writer's account"
    assert sorted(one.rules) == list(range(1, len(others) + 1)), f"seqs {sorted(others)} hold nothing, and there are rules {sorted(one.rules)}"
    for frame in one.frames:
        assert frame.rules_seen == sum(seq < frame.next_seq for seq in others)
    assert (state.rows_logged, state.rows_shipped) == (state.next_seq, state.next_seq)
    assert (state.points_logged, state.points_shipped, state.points_dropped) == (one.points, one.points, {})
    check_calls(seed, -1, 1 if writer else 0, iter([calls.said_by_init()]), one)
    for thread, count in enumerate(returned):
        check_calls(seed, thread, count, calls.said_by_calls(seed, thread), one)
    assert {item[0] for item in one.by_seq.values()} <= {-1, OF_TYPES, *range(len(returned))}


def check_calls(seed: int, thread: int, returned: int, said: Iterator[list[Item]], one: Found) -> None:
    """The records of a thread are those of the calls that returned, in their order, and at most the beginning of what one more call says."""
    must = list(chain.from_iterable(islice(said, returned)))
    none: list[Item] = []
    may = next(said, none)
    for are_rules in (False, True):
        wanted = [item for item in must if (item[1] == "rule") == are_rules]
        in_flight = [item for item in may if (item[1] == "rule") == are_rules]
        in_order = [(0, "rule", one.rules[number]) for number in sorted(one.rules)] if are_rules else [one.by_seq[seq] for seq in sorted(one.by_seq)]
        have: list[Item] = [item for item in in_order if item[0] == thread]
        assert have[: len(wanted)] == wanted, difference(have, wanted)
        beyond = have[len(wanted) :]
        assert beyond == in_flight[: len(beyond)], f"thread {thread}: {returned} calls returned, and beyond them there are {beyond}"


def difference(have: list[Item], wanted: list[Item]) -> str:
    """Where two lists part, in words."""
    place = next((number for number, pair in enumerate(zip(have, wanted, strict=False)) if pair[0] != pair[1]), min(len(have), len(wanted)))
    return f"of {len(wanted)} records {len(have)} are there; number {place} is {have[place : place + 1]}, expected {wanted[place : place + 1]}"


def test_every_call_that_returned_is_in_kafka_once(place: Place, tmp_path: Path) -> None:
    """Processes of many shapes are killed while they log; one agent ships what they left, and the topics hold what returned, whole, in order and accounted for."""
    ledgers = tmp_path / "ledgers"
    ledgers.mkdir()
    argv = [sys.executable, "-m", "tests.faults.killed", str(ledgers), str(FIRST), str(SEEDS), str(TOGETHER)]
    ended = subprocess.run(argv, env=place.environ, capture_output=True, text=True, timeout=60 + SEEDS, check=False)
    assert ended.returncode == 0, ended.stderr
    # The last may have been killed before it had started an agent, which the next run then does.
    assert runstream.init("after").finish(60).shipped, place.log()
    wait_for(lambda: not list(place.folder.glob("w-*")), 60, place.log)
    found, states = read_all(place), place.last_states().values()
    wrong: list[str] = []
    for seed in range(FIRST, FIRST + SEEDS):
        try:
            check_seed(seed, told(ledgers / str(seed)), states, found)
        except AssertionError as error:
            wrong.append(f"seed {seed} ({calls.plan_of(seed)}): {error}")
    assert not wrong, "\n".join([f"{len(wrong)} of {SEEDS} seeds, repeat one with KILL_FIRST=N KILL_SEEDS=1:", *wrong[:20]])
