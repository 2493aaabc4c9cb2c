"""The order that keeps outputs, tried without a broker: each port fails in turn, and partitions are taken away at every place."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest

from runstream_processors.engine import Entry, Output, Received
from runstream_processors.knowledge import Knowledge
from runstream_processors.letters import Followed
from runstream_processors.pipeline import Stage
from runstream_processors.series_engine import SeriesEngine, entry_key
from runstream_rules import Policy, load
from runstream_schemas import wire
from runstream_schemas.catalogue import bundled
from runstream_schemas.records import Alert, MetricFrame, MetricGroup, Rule, Run, Schema, SummaryFrame
from runstream_schemas.topics import writer_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_schemas.topics import Name

RULE = Rule(rule_id="high", version=1, time_ms=0, name="high", kind="threshold", metric="loss", operator=">", threshold=1.0, writer=5, ordinal=1)


def frame(first: int, *losses: float, writer: int = 5, rules_seen: int = 0) -> MetricFrame:
    """A frame with one row a loss."""
    seqs = np.arange(first, first + len(losses), dtype=np.int64)
    group = MetricGroup("", "", ("loss",), seqs, seqs, seqs, np.array(losses, dtype=np.float64)[:, None])
    return MetricFrame("run", writer, 0, "a", 0, "n", "", first, first + len(losses), rules_seen, (group,))


def received(*frames: MetricFrame) -> list[Received]:
    """Frames as records of one partition."""
    return [Received("t.metric", 0, offset, writer_key(one.writer), wire.encode(one)) for offset, one in enumerate(frames)]


def learn(known: Knowledge, name: Name, key: bytes, value: bytes | None) -> None:
    """What a follower hands on."""
    known.learn(name, Followed(f"t.{name}", 0, 7, 1_000, key, value), 2_000)


class Lists:
    """Ports backed by lists: what was sent and stored, in order; each can be told to fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sent: list[object] = []
        self.table: dict[bytes, bytes] = {}
        self.tombstones: list[tuple[str, bytes]] = []
        self.fail_at = ""
        self.owned_for = 1_000_000

    def read(self, key: bytes) -> bytes | None:
        """From the dictionary."""
        return self.table.get(key)

    async def send(self, outputs: Sequence[Output]) -> None:
        """Decoded, into the list."""
        if outputs:
            self.calls.append("send")
        if outputs and self.fail_at == "send":
            raise OSError("send")
        self.sent += [wire.decode(output.value) for output in outputs if output.value is not None]
        self.tombstones += [(output.topic, output.key) for output in outputs if output.value is None]

    async def store(self, entries: Sequence[Entry]) -> None:
        """Into the dictionary."""
        self.calls.append("store")
        if self.fail_at == "store":
            raise OSError("store")
        for entry in entries:
            if entry.value is None:
                self.table.pop(entry.key, None)
            else:
                self.table[entry.key] = entry.value

    def owned(self) -> bool:
        """For a number of questions."""
        self.owned_for -= 1
        return self.owned_for >= 0

    def alerts(self) -> list[tuple[str, int]]:
        """Alerts that were sent."""
        return [(one.alert_id, one.version) for one in self.sent if isinstance(one, Alert)]

    def marks(self) -> list[int]:
        """How far the summaries that were sent reach."""
        return [one.next_seq for one in self.sent if isinstance(one, SummaryFrame)]


def run(
    ports: Lists, records: Sequence[Received], *, knowledge: Knowledge | None = None, wait_s: float = 0.3, during: Callable[[Knowledge], None] | None = None
) -> bool:
    """One take, and storing it; `during` happens a little later, while it may be waiting."""

    async def main() -> bool:
        known = knowledge or Knowledge()
        if knowledge is None:
            learn(known, "rule", b"high", wire.encode(RULE))
        stage = Stage(SeriesEngine(known, Policy(), "t", int(wait_s * 1000)), known, lambda: time.time_ns() // 1_000_000, wait_s)
        if during is not None:
            asyncio.get_running_loop().call_later(0.05, during, known)
        return await asyncio.wait_for(stage.take(records, ports), 10) and await asyncio.wait_for(stage.store(ports), 10)

    return asyncio.run(main())


class TestOrder:
    def test_send_comes_before_store(self) -> None:
        """Outputs are acknowledged before the state that says they were made is stored, and the records go last."""
        ports = Lists()
        assert run(ports, received(frame(0, 2.0), frame(1, 0.0)))
        assert ports.calls == ["send", "send", "store"]
        assert len(ports.alerts()) == 2
        assert ports.marks() == [2]

    @pytest.mark.parametrize("where", ["send", "store"])
    def test_a_failure_anywhere_repeats_and_loses_nothing(self, where: str) -> None:
        """What raised is not acknowledged; done again, the same alerts go out under the same ids and the state is as if nothing had been."""
        records, plain, ports = received(frame(0, 2.0), frame(1, 0.0)), Lists(), Lists()
        assert run(plain, records)
        ports.fail_at = where
        with pytest.raises(OSError, match=where):
            run(ports, records)
        assert not ports.table
        ports.fail_at = ""
        assert run(ports, records)
        assert set(ports.alerts()) == set(plain.alerts())
        assert ports.table == plain.table

    @pytest.mark.parametrize("questions", range(3))
    def test_partitions_taken_away_stop_the_take(self, questions: int) -> None:
        """Nothing is stored after the partitions went, and nothing is acknowledged; the next owner makes the same of the records."""
        records, ports = received(frame(0, 2.0), frame(1, 0.0)), Lists()
        ports.owned_for = questions
        done = run(ports, records)
        assert done == bool(ports.table)
        ports.owned_for = 1_000_000
        assert run(ports, records)
        state = load(5, lambda number: ports.table.get(entry_key(5, number)))
        assert state is not None
        assert state.head.mark == 2

    def test_a_repeated_take_sends_nothing(self) -> None:
        """Records that the state holds already are acknowledged without a word."""
        ports = Lists()
        assert run(ports, received(frame(0, 2.0)))
        before = len(ports.sent)
        assert run(ports, received(frame(0, 2.0)))
        assert len(ports.sent) == before


class TestBadRecords:
    def test_what_is_no_frame_is_skipped(self) -> None:
        """Bytes that do not decode, records of another type, a missing value and a wrong key hold nobody up."""
        good = frame(0, 2.0)
        other = wire.encode(Run(run_id="r", writer=1, seq=0, time_ms=0, project="p"))
        bad = [Received("t.metric", 0, 9, writer_key(5), value) for value in (b"nonsense", None, other, wire.encode(good)[:-1])]
        bad.append(Received("t.metric", 0, 10, b"wrong", wire.encode(good)))
        ports = Lists()
        assert run(ports, [*bad, *received(good)])
        assert ports.marks() == [1]

    def test_an_unknown_schema_is_waited_for_and_then_skipped(self) -> None:
        """A record whose schema never comes costs one bounded wait."""
        strange = Received("t.metric", 0, 0, writer_key(5), b"\x00\x7f\xff\xff\xff rest")
        ports = Lists()
        assert run(ports, [strange, *received(frame(0, 0.5))])
        assert ports.marks() == [1]

    def test_ids_of_somebodys_invention_hold_nobody_up_for_long(self) -> None:
        """Takes that each name another unknown schema are waited for a few times a minute, and then not at all."""
        known, waits = Knowledge(), 0
        for second in range(60):
            waits += known.schema_patience_s(second * 1_000) > 0
        assert waits == 3
        assert known.schema_patience_s(61_000) > 0, "a minute later there is patience again"
        spent = Knowledge()
        for _ in range(3):
            spent.schema_patience_s(time.monotonic_ns() // 1_000_000)
        ports = Lists()
        strange = Received("t.metric", 0, 0, writer_key(5), b"\x00\x7f\xff\xff\xff rest")
        begun = time.monotonic()
        assert run(ports, [strange, *received(frame(0, 0.5))], knowledge=spent, wait_s=8.0)
        assert time.monotonic() - begun < 1.5, "without patience there is no wait"
        assert ports.marks() == [1]


class TestRules:
    def test_a_frame_waits_for_a_rule_on_its_way(self) -> None:
        """`alert_on` cannot lose the race with the first points: the frame is decided once the rule has come; others are not held up."""
        known, ports = Knowledge(), Lists()
        records = received(frame(0, 2.0, rules_seen=1), frame(0, 3.0, writer=6))
        assert run(ports, records, knowledge=known, wait_s=5.0, during=lambda one: learn(one, "rule", b"high", wire.encode(RULE)))
        assert [one.writer for one in ports.sent if isinstance(one, SummaryFrame)] == [6, 5]
        assert [one.writer for one in ports.sent if isinstance(one, Alert)] == [5]

    def test_a_rule_that_never_comes_costs_one_wait(self) -> None:
        """After the bound the frame goes through, and later frames of the writer do not wait for that rule again."""
        known, ports = Knowledge(), Lists()
        assert run(ports, received(frame(0, 2.0, rules_seen=1)), knowledge=known)
        assert ports.marks() == [1]
        ports.calls.clear()
        assert run(ports, received(frame(1, 2.0, rules_seen=1)), knowledge=known, wait_s=1000.0)
        assert ports.marks() == [1, 2]

    def test_a_rule_for_a_project_applies_to_frames_that_name_it(self) -> None:
        """A frame says which project its run belongs to; a withdrawn key forgets a rule."""
        known, ports = Knowledge(), Lists()
        rule = Rule(rule_id="p", version=1, time_ms=0, name="p", kind="threshold", metric="*", project="mine", operator=">", threshold=1.0)
        learn(known, "rule", b"p", wire.encode(rule))
        assert run(ports, received(frame(0, 2.0)), knowledge=known)
        assert not ports.alerts()
        assert run(ports, received(frame(0, 2.0, writer=6)._replace(project="mine")), knowledge=known)
        assert len(ports.alerts()) == 1
        learn(known, "rule", b"p", None)
        assert len(known.book) == 0

    def test_records_that_teach_nothing_do_no_harm(self) -> None:
        """A refused rule, nonsense and a schema under a taken id are logged and skipped."""
        known = Knowledge()
        learn(known, "rule", b"x", b"nonsense")
        learn(known, "rule", b"x", wire.encode(Rule(rule_id="x", version=1, time_ms=0, name="x", kind="threshold", metric="*")))
        newest = bundled().newest("Alert")
        learn(known, "schema", b"1", wire.encode(Schema(schema_id=newest.schema_id, name="Alert", version=7, schema=newest.text)))
        assert len(known.book) == 0
