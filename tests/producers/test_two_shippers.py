"""Two shippers at one journal, each with frames of its own cut: at a copy of the folder, or at the same folder where the lock was lost.

Whatever comes of their race, a reader that takes each row of a writer once by its seq, and one that keeps a mark and leaves out what is below it, have every row once.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from runstream_producers.journal import format as fmt
from runstream_producers.shipper import Shipment
from runstream_rules import Policy, RuleBook, decide, dump
from runstream_schemas.records import Alert, Event, MetricFrame, Record, Rule
from tests.producers.journals import identity, make_writer, segments
from tests.producers.ledger import check_account, ledger_of
from tests.producers.senders import ListSender, Sent

ROWS = 1200
CUTS = ((1024, 40_000), (3000, 5000), (200_000, 9000))
TIMED_OUT = KafkaError._MSG_TIMED_OUT


class Broker:
    """Takes what arrives, in the order in which it does. Answers get lost, or time out though the record is there."""

    def __init__(self, seed: int) -> None:
        self._chance = random.Random(seed)
        self.records: list[Record] = []

    def take(self, sender: ListSender) -> None:
        """Takes what a sender has sent. A producer that keeps the order sends nothing on behind a record that failed."""
        failed = False

        def answer(one: Sent) -> int | None:
            nonlocal failed
            if failed or self._chance.random() < 0.01:
                failed = True
                return TIMED_OUT
            self.records.append(one.record)
            failed = self._chance.random() < 0.01
            return TIMED_OUT if failed else None

        sender.settle(answer)


class Shipper:
    """A shipper of a journal; one that dies begins again at what the journal says is acknowledged."""

    def __init__(self, folder: Path, end: fmt.End, cut_bytes: int) -> None:
        self._folder, self._end, self._cut_bytes = folder, end, cut_bytes
        self._begin()

    def _begin(self) -> None:
        self.sender = ListSender()
        self._shipment = Shipment(self._folder, identity(writer=int(self._folder.name[2:], 16)), self.sender, "t", self._cut_bytes)

    def step(self, now: float) -> bool:
        """One round; True once everything is acknowledged."""
        moved = self._shipment.step(now, self._end.next_seq)
        return self._shipment.drained and not moved

    def die(self) -> None:
        """Begins again."""
        self._shipment.close()
        self._begin()


def race(shippers: Sequence[Shipper], seed: int) -> list[Record]:
    """Lets them work by turns as chance will have it, until both are done; what arrived, in order."""
    chance, broker = random.Random(seed), Broker(seed)
    now = 0.0
    left = list(shippers)
    while left:
        one = chance.choice(left)
        now += chance.choice((0.01, 10.0))
        if chance.random() < 0.02:
            one.die()
        if one.step(now):
            left.remove(one)
        broker.take(one.sender)
        assert now < 100_000, "they never come to an end"
    return broker.records


def taken(frames: Sequence[MetricFrame]) -> tuple[list[tuple[int, bytes]], list[Alert]]:
    """What a processor has of frames: its state, and every alert."""
    book, state, alerts = RuleBook(), None, list[Alert]()
    book.learn(Rule(rule_id="high", version=1, time_ms=0, name="high", kind="threshold", metric="loss", operator=">", threshold=50.0))
    for frame in frames:
        outcome = decide(state, [frame], book, 2_000_000_000_000, Policy())
        assert outcome.gaps == ()
        state = outcome.state
        alerts += outcome.alerts
    assert state is not None
    return dump(state, range(len(state.blocks))), alerts


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("copied", [True, False], ids=["a copy of the folder", "the lock lost"])
def test_every_row_counts_once(tmp_path: Path, seed: int, *, copied: bool) -> None:
    """Rows and records are there with the values that were logged, no seq is missing in the order of arrival, and state and alerts are those of one shipper alone."""
    writer = make_writer(tmp_path / "one")
    for number in range(ROWS):
        writer.log({"loss": float(number * 37 % 101), **{f"layer-{one}": float(number) for one in range(20 + number % 2)}}, step=number)
        if number % 100 == 7:
            writer.record(fmt.Kind.EVENT, {"event_id": str(number), "time_ms": 1, "name": "n"})
    writer.close("finished", "")
    end = fmt.End.from_json((writer.folder.path / "end.json").read_text())
    assert len(segments(writer.folder.path)) > 2
    for name in ("two", "alone"):
        shutil.copytree(tmp_path / "one", tmp_path / name)
    folders = [tmp_path / base / writer.folder.path.name for base in ("one", "two" if copied else "one", "alone")]
    cuts = CUTS[seed % len(CUTS)]

    records = race([Shipper(folder, end, cut) for folder, cut in zip(folders, cuts, strict=False)], seed)
    alone = race([Shipper(folders[2], end, 20_000)], seed)

    frames, once = ([one for one in some if isinstance(one, MetricFrame)] for some in (records, alone))
    assert ledger_of(frames) == ledger_of(once)
    assert len(ledger_of(once)) == ROWS
    assert check_account(frames, until=end.next_seq) > 0, "nothing was repeated, so nothing was proved"
    assert {(one.writer, one.seq, one.event_id) for one in records if isinstance(one, Event)} == {
        (one.writer, one.seq, one.event_id) for one in alone if isinstance(one, Event)
    }
    state, alerts = taken(frames)
    assert (state, alerts) == taken(once)
    assert alerts
    assert fmt.read_ack((folders[0] / "ack").read_bytes()).next_seq == end.next_seq
