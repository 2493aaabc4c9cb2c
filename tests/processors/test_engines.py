"""The engines without a broker: what is sent at once and what is stored later, what becomes of writers that end or fall silent, and of rules that break."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from runstream_processors.engine import Entry, Received
from runstream_processors.knowledge import Knowledge
from runstream_processors.liveness_engine import LivenessEngine
from runstream_processors.pipeline import Pace, Stage
from runstream_processors.series_engine import SeriesEngine, entry_key
from runstream_rules import Policy, is_over, load
from runstream_rules.kinds import SERIES_KINDS
from runstream_rules.lives import Lives, Patience
from runstream_schemas import wire
from runstream_schemas.records import FINAL_VERSION, Alert, DeadLetter, Digest, Rule, Silence, SummaryFrame, Writer
from runstream_schemas.topics import writer_key
from tests.processors.test_pipeline import Lists, frame, learn, received
from tests.rules.test_lives import RECORD

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from runstream_schemas.records import MetricFrame

T = TypeVar("T")
HIGH = Rule(rule_id="high", version=1, time_ms=0, name="high", kind="threshold", metric="loss", operator=">", threshold=1.0)


class World:
    """Engines of metrics and of writers with ports backed by lists, and a clock that is set by hand."""

    def __init__(self, *rules: Rule) -> None:
        self.known = Knowledge("t")
        for rule in rules:
            learn(self.known, "rule", rule.rule_id.encode(), wire.encode(rule))
        self.ports, self.life_ports = Lists(), Lists()
        self.now_ms = 1_000_000
        self.start()

    def start(self) -> None:
        """As a worker that was started anew, with what the tables hold."""
        self.series = SeriesEngine(self.known, Policy(), "t", 0)
        hardware = SeriesEngine(self.known, Policy(), "t", 0)
        self.lives = LivenessEngine(self.known, Lives(Patience(crashed_ms=60_000, remembered_ms=1_000_000_000)), "t", self.series, hardware)
        self.stage = Stage(self.series, self.known, lambda: self.now_ms, 0.0)
        self.life_stage = Stage(self.lives, self.known, lambda: self.now_ms, 0.0)
        self.life_stage.recovered([Entry(3, key, value) for key, value in self.life_ports.table.items()])

    def run(self, work: Coroutine[object, object, T]) -> T:
        """One call."""
        return asyncio.run(_bounded(work))

    def frames(self, *frames: MetricFrame) -> None:
        """A take of frames."""
        assert self.run(self.stage.take(received(*frames), self.ports))

    def writers(self, *records: Writer) -> None:
        """A take of writers' records."""
        raw = [Received("t.writer", 3, 0, writer_key(one.writer), wire.encode(one)) for one in records]
        assert self.run(self.life_stage.take(raw, self.life_ports))

    def tick(self) -> None:
        """Time passes."""
        self.run(self.stage.tick(self.ports, hears=True))
        self.run(self.life_stage.tick(self.life_ports, hears=True))
        self.run(self.stage.tick(self.ports, hears=True))

    def store(self) -> None:
        """All that changed is stored."""
        assert self.run(self.stage.store(self.ports))
        assert self.run(self.life_stage.store(self.life_ports))


async def _bounded(work: Coroutine[object, object, T]) -> T:
    return await asyncio.wait_for(work, 10)


def of(kind: type[T], ports: Lists) -> list[T]:
    """What was sent of a kind."""
    return [one for one in ports.sent if isinstance(one, kind)]


class TestStoring:
    def test_alerts_do_not_wait_for_the_store(self) -> None:
        """Takes send their alerts and store nothing; one store then holds all of them, with one summary."""
        world = World(HIGH)
        world.frames(frame(0, 2.0))
        world.frames(frame(1, 0.0))
        assert [alert.state for alert in of(Alert, world.ports)] == ["firing", "resolved"]
        assert (world.ports.table, of(SummaryFrame, world.ports)) == ({}, [])
        world.store()
        assert [summary.next_seq for summary in of(SummaryFrame, world.ports)] == [2]
        calls = list(world.ports.calls)
        world.store()
        assert world.ports.calls == calls, "nothing changed, nothing is written"

    def test_what_was_not_stored_comes_again(self) -> None:
        """A worker that dies between two stores loses nothing: the records come again, the alerts go out again under the same ids, and the state is the same."""
        world, plain = World(HIGH), World(HIGH)
        for one in (world, plain):
            one.frames(frame(0, 2.0))
            one.store()
            one.frames(frame(1, 0.0), frame(2, 3.0))
        world.start()
        world.frames(frame(1, 0.0), frame(2, 3.0))
        for one in (world, plain):
            one.store()
        assert world.ports.table == plain.ports.table
        assert set(world.ports.alerts()) == set(plain.ports.alerts())

    def test_stores_come_less_often_where_they_take_long(self) -> None:
        """With a tenth of the time for storing, a store of 50 ms makes the next one due half a second later at the earliest."""

        class Slow(Lists):
            async def store(self, entries: Sequence[Entry]) -> None:
                assert entries
                await asyncio.sleep(0.05)

        world = World()
        world.frames(frame(0, 2.0))

        async def due_after() -> float:
            stage = Stage(world.series, world.known, lambda: 0, 0.0, Pace(store_s=0.01, late_s=10.0, share=0.1))
            assert stage.due
            await stage.store(Slow())
            began = asyncio.get_running_loop().time()
            while not stage.due:
                await asyncio.sleep(0.01)
            return asyncio.get_running_loop().time() - began

        assert world.run(due_after()) >= 0.4


class TestEnds:
    def test_a_writer_that_is_over_leaves_its_mark(self) -> None:
        """Once all of its rows are in and its last summary is sent, its state shrinks to the mark; rows that come again change nothing."""
        world = World(HIGH)
        world.frames(frame(0, 2.0, 3.0))
        world.writers(replace(RECORD, writer=5, state="finished", version=FINAL_VERSION, next_seq=3))
        world.tick()
        world.store()
        assert not is_over(world.ports.table[entry_key(5, 0)]), "a row is still to come"
        world.frames(frame(2, 0.5))
        world.tick()
        world.store()
        world.tick()
        world.store()
        assert is_over(world.ports.table[entry_key(5, 0)])
        assert [summary.next_seq for summary in of(SummaryFrame, world.ports)] == [2, 3]
        world.start()
        world.frames(frame(0, 2.0, 3.0))
        world.tick()
        world.store()
        assert len(of(Alert, world.ports)) == 2
        state = load(5, lambda number: world.ports.table.get(entry_key(5, number)))
        assert state is not None
        assert state.head.mark == 3

    def test_a_restart_remembers_who_is_over(self) -> None:
        """An end that was heard before a restart counts after it."""
        world = World()
        world.frames(frame(0, 2.0))
        world.writers(replace(RECORD, writer=5, state="finished", version=FINAL_VERSION, next_seq=1))
        world.store()
        world.start()
        world.tick()
        world.store()
        assert is_over(world.ports.table[entry_key(5, 0)])

    def test_what_ended_long_ago_leaves_nothing(self) -> None:
        """Once its rows have left the topic, mark and entry go, and the rules that it registered are taken off their topic."""
        world = World(replace(HIGH, run_id="run", writer=5, ordinal=1))
        world.frames(frame(0, 2.0))
        world.writers(replace(RECORD, writer=5, state="finished", version=FINAL_VERSION, next_seq=1))
        world.tick()
        world.store()
        world.now_ms += 1_000_000_001
        world.tick()
        world.store()
        assert (world.ports.table, world.life_ports.table) == ({}, {})
        assert world.life_ports.tombstones == [("t.rule", b"high/5")]

    def test_rows_after_the_end_are_judged_and_leave_the_summary_alone(self) -> None:
        """What nobody expected any more may still fire; a summary that begins anew would replace the right one and is not sent."""
        world = World(HIGH)
        world.frames(frame(0, 0.5))
        world.writers(replace(RECORD, writer=5, state="crashed", version=FINAL_VERSION, next_seq=1))
        for _ in range(2):
            world.tick()
            world.store()
        world.frames(frame(1, 9.0))
        world.store()
        assert [alert.step for alert in of(Alert, world.ports)] == [1]
        assert [summary.next_seq for summary in of(SummaryFrame, world.ports)] == [1]


class TestSilence:
    def test_a_silent_writer_is_told_as_crashed(self) -> None:
        """Its record goes to the topic of writers; a heartbeat makes it a running one again."""
        world = World()
        world.writers(replace(RECORD, writer=5))
        world.tick()
        world.now_ms += 60_000
        world.tick()
        (guess,) = of(Writer, world.life_ports)
        assert (guess.writer, guess.state, guess.next_seq) == (5, "crashed", 5)
        world.writers(guess, replace(RECORD, writer=5, version=guess.version + 5))
        world.tick()
        assert world.life_ports.sent == [guess]

    def test_a_stale_series_is_found_by_heartbeats(self) -> None:
        """Ten seconds without a loss while the writer lives; a heartbeat that is ahead of the rows waits for them."""
        world = World(Rule(rule_id="s", version=1, time_ms=0, name="s", kind="stale", metric="loss", window_s=10.0))
        world.frames(frame(0, 2.0))
        world.writers(replace(RECORD, writer=5, version=1, heartbeat_ms=10_000, next_seq=2))
        world.tick()
        assert not of(Alert, world.ports)
        world.frames(frame(1, 2.0))
        world.tick()
        assert not of(Alert, world.ports), "the newest row is 9,999 ms older"
        world.writers(replace(RECORD, writer=5, version=2, heartbeat_ms=10_001, next_seq=2))
        world.tick()
        assert [alert.state for alert in of(Alert, world.ports)] == ["firing"]
        world.writers(replace(RECORD, writer=5, state="finished", version=FINAL_VERSION, next_seq=2))
        world.tick()
        assert [alert.state for alert in of(Alert, world.ports)] == ["firing", "resolved"]


class TestSilenced:
    def test_alerts_say_which_silence_was_on(self) -> None:
        """At the decision, by the processor's clock; one that was ended, and one for other alerts, say nothing."""
        silence = Silence(silence_id="s", version=1, time_ms=0, author="", comment="", starts_ms=0, ends_ms=2_000_000, rule_id="high")
        world = World(HIGH)
        learn(world.known, "silence", b"s", wire.encode(silence))
        learn(world.known, "silence", b"o", wire.encode(replace(silence, silence_id="o", rule_id="other")))
        world.frames(frame(0, 2.0, 0.0))
        learn(world.known, "silence", b"s", None)
        world.frames(frame(2, 2.0))
        assert [(one.state, one.silence) for one in of(Alert, world.ports)] == [("firing", "s"), ("resolved", "s"), ("firing", "")]


class TestBrokenRules:
    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            ({"kind": "sorcery"}, "a rule's kind must be one of threshold, "),
            ({"metric": "x" * 5000}, "a rule's metric must be "),
            ({"operator": "=>"}, "a rule's operator must be "),
        ],
        ids=["kind", "pattern", "operator"],
    )
    def test_a_refused_rule_is_one_warning_and_one_letter(self, wrong: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture) -> None:
        """A kind or an operator that is unknown, a pattern that is none: the letter holds the rule and its place, and says which field does not fit; nothing else stops."""
        broken = replace(HIGH, rule_id="broken", **wrong)
        world = World(HIGH, broken)
        learn(world.known, "rule", b"broken/9", wire.encode(replace(broken, writer=9)))
        world.frames(frame(0, 2.0))
        (letter,) = of(DeadLetter, world.ports)
        assert wire.decode(letter.value) == broken
        assert (letter.topic, letter.offset, letter.key) == ("t.rule", 7, b"broken")
        assert letter.reason.startswith(reason)
        assert len(of(Alert, world.ports)) == 1
        assert [record.message for record in caplog.records] == ["rule refused"]

    def test_a_rule_that_breaks_at_work_is_one_warning_and_one_letter(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        """It is switched off; other rules, and later frames, go on."""
        world = World(HIGH, Rule(rule_id="broken", version=1, time_ms=0, name="b", kind="plateau", metric="*", goal="min", window=3))

        def breaks(*_: object) -> None:
            raise ZeroDivisionError("float division by zero")

        monkeypatch.setattr(type(SERIES_KINDS["plateau"]), "look", breaks)
        for first in range(3):
            world.frames(frame(first, 2.0))
        (letter,) = of(DeadLetter, world.ports)
        assert "rule 'broken' version 1 failed and is switched off until its next version: ZeroDivisionError" in letter.reason
        assert len(of(Alert, world.ports)) == 1
        assert [record.message for record in caplog.records] == ["rule switched off"]
        world.store()


class TestDigests:
    def test_ranks_are_told_of_where_a_rule_compares_them(self) -> None:
        """Blocks of steps that ended, and states of ranks, go out keyed by run; without such a rule nothing does."""
        rule = Rule(rule_id="slow", version=1, time_ms=0, name="slow", kind="straggler", metric="loss", window=2, measure="value", threshold=2.0)
        quiet, world = World(HIGH), World(HIGH, rule)
        for one in (quiet, world):
            one.frames(frame(0, 1.0, 3.0, 5.0, writer=5), frame(0, 4.0, 4.0, 4.0, writer=6))
            one.writers(replace(RECORD, writer=5, run_id="run"))
        assert not of(Digest, quiet.ports) + of(Digest, quiet.life_ports)
        (digest,) = of(Digest, world.ports)
        assert (digest.run_id, digest.writers, digest.rule_ids, digest.metrics) == ("run", (5, 6), ("slow",), ("loss",))
        assert (digest.places, digest.blocks, digest.figures) == ((0, 1), (0, 0), (2.0, 4.0))
        (life,) = of(Digest, world.life_ports)
        assert (life.writers, life.states, life.world_sizes, life.tracks) == ((5,), ("running",), (1,), ())
