"""The second stage: what ranks come to together, whatever comes first, twice, late or never."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_rules import DigestRefused, Item, Policy, RuleBook, Series, StateUnreadable
from runstream_rules.digests import Digester
from runstream_rules.fleet import RunWatch, TrackKey, pack_head, pack_track, unpack
from runstream_rules.fleet.track import RankTrack
from runstream_rules.state import Head
from runstream_schemas import wire
from runstream_schemas.records import Digest
from tests.rules.histories import rule
from tests.rules.test_lives import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from runstream_schemas.records import Alert, Rule, State

RUN = "0190f0aa-0000-7000-8000-000000000001"
LOSS = Series("loss", "training", "")
NOW_MS = 10_000_000


def head(rank: int, started: int = 0, attempt: str = "a") -> Head:
    """What a writer's frames say of it."""
    return Head(RUN, "p", started, attempt, rank)


@dataclass
class Watch:
    """A run with its rules, a clock that is set by hand, and everything that it said."""

    book: RuleBook
    run: RunWatch
    now_ms: int
    alerts: list[Alert]

    def figures(self, block: int, values: Sequence[float | None], *, key: tuple[str, int] = ("r", 1), times: Sequence[int] | None = None) -> None:
        """Each rank's figure of a block, None where a rank says nothing; all at one time unless told otherwise."""
        digester = Digester(RUN, "p")
        for rank, value in enumerate(values):
            if value is not None:
                time_ms = NOW_MS + block * 1000 if times is None else times[rank]
                digester.say(100 + rank, head(rank), [Item(key, LOSS, block, value if times is None else float(time_ms), time_ms)])
        self.take(digester.take())

    def live(
        self, states: Iterable[str], *, world: int | None = None, started: int = 0, attempt: str = "a", first_writer: int = 100, beat_ms: int | None = None
    ) -> None:
        """States of all ranks, with a heartbeat now."""
        digester = Digester(RUN, "p")
        every = list(states)
        for rank, state in enumerate(every):
            beat = self.now_ms if beat_ms is None else beat_ms
            size = len(every) if world is None else world
            record = replace(
                RECORD,
                writer=first_writer + rank,
                run_id=RUN,
                rank=rank,
                state=cast("State", state),
                heartbeat_ms=beat,
                started_ms=started,
                attempt=attempt,
                world_size=size,
            )
            digester.live(record)
        self.take(digester.take())

    def take(self, digests: Iterable[Digest]) -> None:
        """Digests as they come over the topic."""
        for digest in digests:
            back = wire.decode(wire.encode(digest))
            assert isinstance(back, Digest)
            self.alerts += self.run.take(back, self.book, self.now_ms, Policy())

    def wait(self, millis: int, *, hears: bool = True) -> None:
        """Time passes."""
        self.now_ms += millis
        self.alerts += self.run.tick(self.book, self.now_ms, Policy(), hears=hears)

    def said(self) -> list[tuple[str, int, int, float]]:
        """State, step, rank and value of all alerts, the value rounded."""
        return [(alert.state, alert.step, alert.rank, round(alert.value, 6)) for alert in self.alerts]


def watch(*rules: Rule) -> Watch:
    """A run under these rules."""
    book = RuleBook()
    for one in rules:
        assert book.learn(one) is None
    return Watch(book, RunWatch(RUN, "p", NOW_MS), NOW_MS, [])


STRAGGLER = rule("r", "straggler", threshold=1.5, measure="value", window=10)


class TestStraggler:
    def test_a_slow_rank_fires_and_recovers(self) -> None:
        """Block 1: the median of 1, 1.2, 1, 2 is 1.1, and 2 is 1.8 times that. Block 2: 1.5 of 1 is not more than 1.5 times."""
        world = watch(STRAGGLER)
        world.live(["running"] * 4)
        world.figures(0, [1.0, 1.2, 1.0, 1.1])
        world.figures(1, [1.0, 1.2, 1.0, 2.0])
        world.figures(2, [1.0, 1.0, 1.0, 1.5])
        assert world.said() == [("firing", 10, 3, 2.0), ("resolved", 20, 3, 1.5)]
        fired, resolved = world.alerts
        assert (fired.baseline, fired.writer, fired.seq, fired.time_ms, fired.metric) == (1.1, 103, 10, NOW_MS + 1000, "loss")
        assert fired.alert_id == resolved.alert_id

    def test_each_rank_has_its_own_episode(self) -> None:
        """Two slow ranks are two alerts with two ids; a rank that says nothing changes nothing."""
        world = watch(STRAGGLER)
        world.live(["running"] * 5)
        world.figures(0, [1.0, 1.0, 1.0, 2.0, 3.0])
        world.figures(1, [1.0, 1.0, 1.0, 1.0, 3.0])
        assert world.said() == [("firing", 0, 3, 2.0), ("firing", 0, 4, 3.0), ("resolved", 10, 3, 1.0)]
        assert len({alert.alert_id for alert in world.alerts}) == 2

    def test_two_ranks_have_no_straggler(self) -> None:
        """Of two, either may be the odd one."""
        world = watch(STRAGGLER)
        world.live(["running"] * 2)
        world.figures(0, [1.0, 9.0])
        assert world.said() == []

    def test_for_and_clear_count_across_blocks(self) -> None:
        """Blocks end a second apart: slow for two seconds fires at block 2; 1.3 times is not calm yet, 1.1 times is."""
        world = watch(replace(STRAGGLER, for_s=2.0, clear=1.2))
        world.live(["running"] * 3)
        for block, slow in enumerate([2.0, 2.0, 2.0, 1.3, 1.1]):
            world.figures(block, [1.0, 1.0, slow])
        assert world.said() == [("firing", 20, 2, 2.0), ("resolved", 40, 2, 1.1)]
        assert world.alerts[0].seq == 0


class TestDisagreement:
    def test_relative(self) -> None:
        """0.2 between greatest and least of a median of 10 is 2 %; the rank farthest from the median is named."""
        world = watch(rule("r", "disagreement", threshold=0.015))
        world.live(["running"] * 3)
        world.figures(0, [10.0, 10.1, 10.0])
        world.figures(1, [10.0, 9.8, 10.0])
        world.figures(2, [5.0, 5.0, 5.0])
        assert world.said() == [("firing", 1, 1, 0.02), ("resolved", 2, 0, 0.0)]
        assert world.alerts[0].baseline == 10.0

    def test_absolute_and_around_zero(self) -> None:
        """A median of 0 has no relative spread; an absolute one it has."""
        relative, absolute = watch(rule("r", "disagreement", threshold=0.1)), watch(rule("r", "disagreement", threshold=0.1, measure="absolute"))
        for world in (relative, absolute):
            world.live(["running"] * 3)
            world.figures(0, [0.0, 0.5, 0.0])
        assert relative.said() == []
        assert absolute.said() == [("firing", 0, 1, 0.5)]


class TestDesync:
    RULE = rule("r", "desync", threshold=20.0, window=10)

    def test_the_fastest_is_too_far_ahead(self) -> None:
        """When rank 1 has block 0 behind it at 9 s, rank 0 has had block 3: 30 steps ahead. At block 3 they are together."""
        world = watch(self.RULE)
        world.live(["running"] * 2)
        for block in range(4):
            world.figures(block, [1.0, None], times=[NOW_MS + 1000 * block, 0])
        world.figures(0, [None, 1.0], times=[0, NOW_MS + 9000])
        assert world.said() == [("firing", 0, 1, 30.0)]
        for block in (1, 2, 3):
            world.figures(block, [None, 1.0], times=[0, NOW_MS + 9000 + block])
        assert world.said()[1:] == [("resolved", 10, 1, 20.0)]

    def test_a_rank_that_hangs_is_given_up(self) -> None:
        """Rank 1 lives and logs nothing any more: 30 s after the first rank had block 1, it is 40 steps behind."""
        world = watch(self.RULE)
        world.live(["running"] * 2)
        world.figures(0, [1.0, 1.0], times=[NOW_MS, NOW_MS])
        for block in (1, 2, 3, 4):
            world.figures(block, [1.0, None], times=[NOW_MS + block, 0])
        assert world.said() == []
        world.wait(29_000)
        world.live(["running"] * 2)
        assert world.said() == []
        world.wait(1_000)
        assert world.said() == [("firing", 10, 1, 40.0)]


class TestClosing:
    def test_a_block_waits_for_the_ranks_of_the_world(self) -> None:
        """Rank 2 was not heard of yet, and is waited for; once it has ended it is not."""
        world = watch(STRAGGLER)
        world.live(["running"] * 3, world=4)
        world.figures(0, [1.0, 1.0, 9.0])
        assert world.said() == []
        world.live(["running"] * 3 + ["finished"])
        assert world.said() == [("firing", 0, 2, 9.0)]

    def test_figures_may_come_before_what_their_ranks_say_of_themselves(self) -> None:
        """How many there are is not known until a rank has said it: the first one that is read is not judged alone. After 30 s it is not waited for any more."""
        told, untold = watch(STRAGGLER), watch(STRAGGLER)
        for world in (told, untold):
            for rank in range(3):
                world.figures(0, [9.0 if one == rank == 2 else 1.0 if one == rank else None for one in range(3)])
            assert world.said() == []
        told.live(["running"] * 3)
        assert told.said() == [("firing", 0, 2, 9.0)]
        untold.wait(29_999)
        assert untold.said() == []
        untold.wait(1)
        assert untold.said() == [("firing", 0, 2, 9.0)]
        assert (told.run.late, untold.run.late) == (0, 0)

    def test_a_late_rank_is_counted_and_changes_nothing(self) -> None:
        """The block was closed without rank 3 after 30 s; what it says then is late."""
        world = watch(STRAGGLER)
        world.live(["running"] * 4)
        world.figures(0, [1.0, 1.0, 1.0, None])
        world.wait(30_000)
        world.figures(0, [None, None, None, 9.0])
        assert (world.said(), world.run.late) == ([], 1)

    def test_a_silent_rank_is_not_waited_for(self) -> None:
        """A minute without a sign of life; the others are judged without it."""
        world = watch(replace(STRAGGLER, window_s=1_000.0))
        world.live(["running"] * 4)
        world.wait(59_000)
        world.live(["running"] * 3)
        world.figures(0, [1.0, 1.0, 9.0, None])
        assert world.said() == []
        world.wait(1_000)
        assert world.said() == [("firing", 0, 2, 9.0)]

    def test_a_rank_may_leave_a_block_out(self) -> None:
        """Who has a later block behind it has this one behind it too."""
        world = watch(STRAGGLER)
        world.live(["running"] * 4)
        world.figures(0, [1.0, 1.0, 9.0, None])
        world.figures(1, [None, None, None, 1.0])
        assert world.said() == [("firing", 0, 2, 9.0)]

    def test_blocks_close_in_their_order(self) -> None:
        """Later blocks wait for earlier ones. At most 256 are open: one more gives up about half of them unjudged, and whoever comes for those later opens none."""
        world = watch(replace(STRAGGLER, window_s=1_000_000.0))
        world.live(["running"] * 4)
        for block in range(256):
            world.figures(block, [1.0, 1.0, 1.0 + block, None])
        track = next(iter(world.run.tracks.values()))
        assert (world.said(), len(track.open)) == ([], 256)
        world.figures(256, [1.0, 1.0, 1.0, None])
        left = sorted(track.open)
        assert (world.said(), len(left), left[0], left[-1]) == ([], 128, 0, 256)
        assert max(after - before for before, after in pairwise(left)) <= 3
        for block in range(257):
            world.figures(block, [None, None, None, 1.0])
        assert (len(track.open), track.late) == (0, 0)
        # The first block that stayed and in which rank 2 is slow, and the last, in which it is not.
        assert world.said() == [("firing", 10 * left[1], 2, 1.0 + left[1]), ("resolved", 2560, 2, 1.0)]

    def test_who_is_read_later_is_not_behind(self) -> None:
        """Two ranks in step whose rows come in frames of a thousand steps, one rank after the other: they are as near as their rows' times say, and nothing fires."""
        track = RankTrack(0)
        desync = rule("r", "desync", threshold=20.0, window=1)
        for second in range(3):
            blocks = np.arange(second * 1000, second * 1000 + 1000)
            for rank in (0, 1):
                now_ms = second * 1000 + rank
                track.take(np.full(1000, rank), blocks, (blocks * 10).astype(np.float64), blocks * 10, 2, now_ms)
                assert len(track.open) <= 256
                assert track.close(desync, np.array([True, True]), now_ms) == []
        assert not track.open
        assert track.closed == 2999

    def test_ranks_that_are_apart_are_found_where_they_are_read_in_any_order(self) -> None:
        """Rank 1 reaches a step 500 steps after rank 0 did: found with what was given up in between, to within the distance of those that stayed."""
        track = RankTrack(0)
        blocks = np.arange(1000)
        for rank in (0, 1):
            times = blocks * 10 + 5000 * rank
            track.take(np.full(1000, rank), blocks, times.astype(np.float64), times, 2, rank)
        [verdict] = track.close(rule("r", "desync", threshold=20.0, window=1, clear=0.0), np.array([True, True]), 2)[:1]
        assert verdict.change.firing
        assert (verdict.rank, 490 <= verdict.value <= 500) == (1, True)

    def test_a_restart_begins_its_steps_again(self) -> None:
        """The later process stands for the rank, from whichever block it goes on; what the older one says is not heard any more."""
        world = watch(STRAGGLER)
        world.live(["running"] * 3)
        for block in range(4):
            world.figures(block, [1.0, 1.0, 1.0])
        world.live(["running"] * 3, started=50, attempt="b", first_writer=200)
        world.figures(4, [9.0, 9.0, 9.0])
        assert not next(iter(world.run.tracks.values())).open
        digester = Digester(RUN, "p")
        for rank, value in enumerate([1.0, 1.0, 5.0]):
            digester.say(200 + rank, head(rank, 50, "b"), [Item(("r", 1), LOSS, block, value, NOW_MS) for block in (3, 4)])
        world.take(digester.take())
        assert world.said() == [("firing", 40, 2, 5.0)]
        assert world.run.late == 3

    def test_figures_may_come_before_their_rule(self) -> None:
        """The rule topic may be behind: they are kept for a minute."""
        world = watch()
        world.live(["running"] * 3)
        world.figures(0, [1.0, 1.0, 5.0])
        world.book.learn(STRAGGLER)
        world.wait(1_000)
        assert world.said() == [("firing", 0, 2, 5.0)]
        world.figures(0, [1.0, 1.0, 5.0], key=("other", 1))
        world.wait(60_001)
        assert [key[0] for key in world.run.tracks] == ["r"]


class TestRunState:
    def rule(self, *states: str, **fields: object) -> Rule:
        """A rule on states."""
        return rule("s", "run_state", metric="*", states=list(states), **fields)

    def test_the_first_rank_that_fails_fires_for_the_run(self) -> None:
        """One alert for the run and its attempt, with the lowest rank and how many there are; more of them change nothing; a restart resolves."""
        world = watch(self.rule("failed", "crashed"))
        world.live(["running", "running", "running"])
        world.live(["running", "crashed", "failed"])
        world.live(["failed", "crashed", "failed"])
        assert world.said() == [("firing", 0, 1, 2.0)]
        world.live(["running"] * 3, started=60, attempt="b", first_writer=200)
        assert world.said()[1:] == [("resolved", 0, 1, 0.0)]
        world.live(["failed"] * 3, started=60, attempt="b", first_writer=200)
        assert [alert.state for alert in world.alerts] == ["firing", "resolved", "firing"]
        assert len({alert.alert_id for alert in world.alerts}) == 2
        assert "2 ranks are failed or crashed, the first is rank 1" in world.alerts[0].text

    def test_silence_by_heartbeats(self) -> None:
        """A minute without a sign of life is silence, and the next sign ends it; who could not listen has heard nobody, and says nothing."""
        world = watch(self.rule("silent"))
        world.live(["running"] * 2)
        world.wait(3_600_000, hears=False)
        world.wait(59_000)
        assert world.said() == []
        world.wait(1_000)
        assert world.said() == [("firing", 0, 0, 2.0)]
        world.live(["running"] * 2)
        assert [alert.state for alert in world.alerts] == ["firing", "resolved"]
        world.wait(60_000)
        assert len({alert.alert_id for alert in world.alerts}) == 2, "another silence is another alert"

    def test_selected_ranks(self) -> None:
        """A rule for one rank sees that rank."""
        world = watch(self.rule("failed", rank=1))
        world.live(["failed", "running"])
        world.live(["failed", "failed"])
        assert world.said() == [("firing", 0, 1, 1.0)]

    def test_a_synced_run_is_late(self) -> None:
        """What failed long ago notifies nobody."""
        world = watch(self.rule("failed"))
        world.live(["failed"], beat_ms=NOW_MS - 3_700_000)
        assert [alert.late for alert in world.alerts] == [True]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_order_repeats_and_restarts_do_not_show(data: st.DataObject) -> None:
    """Digests of ranks in any order between ranks, twice, with the state through its bytes in between: the same alerts by id, figure and text."""
    rules = [STRAGGLER, rule("d", "disagreement", threshold=0.3), rule("y", "desync", threshold=1.0)]
    ranks, blocks = data.draw(st.integers(3, 5)), data.draw(st.integers(1, 6))
    values = data.draw(st.lists(st.lists(st.sampled_from([1.0, 1.25, 2.0, 3.0]), min_size=ranks, max_size=ranks), min_size=blocks, max_size=blocks))
    # Every rank is through with a block before any is with the next, so that blocks close with all ranks whatever comes first.
    sources = [[(rank, block) for block in range(blocks)] for rank in range(ranks)]

    def said(order: Sequence[tuple[int, int]], *, stored_between: bool) -> set[str]:
        world = watch(*rules)
        world.live(["running"] * ranks)
        for rank, block in order:
            digester = Digester(RUN, "p")
            items = [
                Item(
                    (one.rule_id, 1),
                    LOSS,
                    block,
                    float(NOW_MS + block * 100 + rank) if one.kind == "desync" else values[block][rank],
                    NOW_MS + block * 100 + rank,
                )
                for one in rules
            ]
            digester.say(100 + rank, head(rank), items)
            world.take(digester.take())
            if stored_between:
                packed = {key: pack_track(track) for key, track in world.run.tracks.items()}
                world.run = unpack(pack_head(world.run), packed.get)
        return {repr(alert) for alert in world.alerts}

    plain = said([(rank, block) for block in range(blocks) for rank in range(ranks)], stored_between=False)
    order: list[tuple[int, int]] = []
    left = [list(one) for one in sources]
    while any(left):
        source = data.draw(st.sampled_from([one for one in left if one]))
        order.append(source.pop(0))
        if data.draw(st.booleans()):
            order.append(data.draw(st.sampled_from(order)))
    assert said(order, stored_between=True) == plain


def test_ten_thousand_ranks() -> None:
    """Blocks of a run of 10,000 ranks come in digests of 1,250 writers: one slow rank in each block is found; the state of three rules stays within 2 MB and their open blocks close."""
    ranks, blocks = 10_000, 12
    rules = [STRAGGLER, rule("d", "disagreement", threshold=5.0), rule("y", "desync", threshold=50.0), rule("s", "run_state", metric="*", states=["failed"])]
    world = watch(*rules)
    world.live(["running"] * ranks)
    random = np.random.default_rng(7)
    for block in range(blocks):
        values = 1.0 + 0.05 * random.random(ranks)
        values[block] = 3.0
        for start in range(0, ranks, 1250):
            digester = Digester(RUN, "p")
            for rank in range(start, start + 1250):
                time_ms = NOW_MS + block * 1000 + rank % 7
                items = [Item((one.rule_id, 1), LOSS, block, float(time_ms) if one.kind == "desync" else float(values[rank]), time_ms) for one in rules[:3]]
                digester.say(100 + rank, head(rank), items)
            world.take(digester.take())
    fired = [alert for alert in world.alerts if alert.state == "firing"]
    assert [(alert.rule_id, alert.rank, alert.step) for alert in fired] == [("r", block, block * 10) for block in range(blocks)]
    assert sum(alert.state == "resolved" for alert in world.alerts) == blocks - 1
    assert all(not track.open for track in world.run.tracks.values())
    size = len(pack_head(world.run)) + sum(len(pack_track(track)) for track in world.run.tracks.values())
    assert size < 2_000_000


class TestBytes:
    def test_other_bytes_are_refused(self) -> None:
        """Bytes cut short, of another version, or of something else are said."""
        world = watch(STRAGGLER)
        world.live(["running"] * 4)
        world.figures(0, [1.0, 1.0, 9.0, None])
        packed = pack_head(world.run)
        (track,) = (pack_track(one) for one in world.run.tracks.values())
        nothing: dict[TrackKey, bytes] = {}
        for wrong in (b"", b"\x07" + packed[1:], packed[:-1], packed[:20]):
            with pytest.raises(StateUnreadable):
                unpack(wrong, nothing.get)
        with pytest.raises(StateUnreadable):
            unpack(packed, lambda _: track[:-1])
        assert unpack(packed, nothing.get).tracks == {}

    @pytest.mark.parametrize(
        "change",
        [
            {"ranks": (1, 2)},
            {"metrics": ()},
            {"blocks": (1,)},
            {"places": (9, 9, 9)},
            {"tracks": (-1, 0, 0)},
        ],
    )
    def test_a_digest_that_does_not_fit_itself_is_refused(self, change: dict[str, object]) -> None:
        """Lists of different lengths, and items that point beyond them, are refused whole."""
        world = watch(STRAGGLER)
        digester = Digester(RUN, "p")
        for rank in range(3):
            digester.say(100 + rank, head(rank), [Item(("r", 1), LOSS, 0, 1.0, 0)])
        (digest,) = digester.take()
        with pytest.raises(DigestRefused):
            world.run.take(replace(digest, **change), world.book, NOW_MS, Policy())
        assert not world.run.tracks

    def test_hostile_ranks_and_figures(self) -> None:
        """A rank beyond all bounds, a negative one and a figure that is no number are left out; the others count."""
        world = watch(STRAGGLER)
        digester = Digester(RUN, "p")
        for rank, value in ((0, 1.0), (1, 1.0), (2, 5.0), (2_000_000_000, 1.0), (-1, 1.0), (3, math.nan)):
            digester.say(100 + rank % 7, head(rank), [Item(("r", 1), LOSS, 0, value, NOW_MS)])
        world.take(digester.take())
        world.wait(30_000)
        assert world.said() == [("firing", 0, 2, 5.0)]
        assert len(world.run.ranks) < 100


def test_attempts_that_nobody_has_any_more_are_forgotten() -> None:
    """A run that is started again for ever keeps the names of some attempts, and always those that its ranks are of."""
    watch = Watch(RuleBook(), RunWatch(RUN, "p", NOW_MS), NOW_MS, [])
    for number in range(3_000):
        watch.live(["running"] * 2, started=number, attempt=f"attempt-{number}", first_writer=100 + 2 * number)
    ranks = watch.run.ranks
    assert len(ranks.names) <= 1_024
    assert [ranks.attempt(rank) for rank in range(2)] == ["attempt-2999"] * 2
