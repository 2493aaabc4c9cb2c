"""What one channel decides: grouping, rates, tries again. No clock, no threads: `now` is given."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runstream_processors.notify.bucket import Bucket
from runstream_processors.notify.channels import Policy
from runstream_processors.notify.firing import Firing
from runstream_processors.notify.lane import Item, Lane
from runstream_processors.notify.message import message_of
from runstream_processors.notify.outcome import Accepted, Again, Outcome, Refused
from tests.processors.notify_servers import ALERT

if TYPE_CHECKING:
    from runstream_processors.notify.lane import Batch
    from runstream_schemas.records import Alert


def item(number: int, **changes: object) -> Item:
    """An alert of its own, on rank `number`."""
    fields: dict[str, object] = {"alert_id": f"a{number}", "rank": number, "value": float(number), "text": f"loss is {number}", **changes}
    return Item(replace(ALERT, **fields), 0, number, 1_700_000_000_500)


def alerts_of(batch: Batch | None) -> list[Alert]:
    """What a message tells."""
    return [] if batch is None else [one.alert for one in batch.items]


class TestGrouping:
    def test_a_lone_alert_goes_after_a_moment(self) -> None:
        """It waits for others for `wait_s`, and no longer."""
        lane = Lane("ops", Policy(wait_s=0.3), 100.0)
        assert lane.wait_s(100.0) is None
        assert lane.add(item(1), 100.0)
        assert lane.take(100.2) is None
        assert lane.wait_s(100.2) == pytest.approx(0.1)
        assert [alert.alert_id for alert in alerts_of(lane.take(100.3))] == ["a1"]

    def test_a_storm_is_one_message_and_so_is_its_end(self) -> None:
        """500 ranks of one rule within the window make one message that says how many, the first ranks and the worst value."""
        lane = Lane("ops", Policy(), 0.0)
        for rank in range(500):
            lane.add(item(rank), rank / 1000)
        batch = lane.take(1.0)
        assert batch is not None
        message = message_of(batch, "ops")
        assert (message.kind, message.state, message.body["count"], message.still_firing) == ("group", "firing", 500, 500)
        assert message.title == "[CRITICAL] loss is high firing on 500 ranks"
        assert "500 alerts firing, on 500 ranks: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 490 more" in message.text
        assert "worst: rank 499 at step 70: loss is 499" in message.text
        [group] = message.body["groups"]
        assert (group["count"], group["ranks_total"], group["ranks"], group["worst"]["value"]) == (500, 500, list(range(10)), 499.0)
        assert len(message.body["alerts"]) == 20
        assert lane.settle(Accepted(), 1.1, 0.5) is not None
        for rank in range(499):
            lane.add(item(rank, state="resolved", version=1), 5.0)
        over = lane.take(6.0)
        assert over is not None
        told = message_of(over, "ops")
        assert (told.state, told.body["count"], told.still_firing) == ("resolved", 499, 1)
        assert "still firing: 1 alert of this rule and run" in told.text
        assert lane.settle(Accepted(), 6.0, 0.5) is not None
        lane.add(item(499, state="resolved", version=1), 60.0)
        last = lane.take(61.0)
        assert last is not None
        assert message_of(last, "ops").still_firing == 0

    def test_a_storm_that_trickles_waits_no_longer_than_its_bound(self) -> None:
        """With something new all the time, the message goes `wait_max_s` after the first; the next of the group `group_s` after that."""
        lane = Lane("ops", Policy(wait_s=0.3, wait_max_s=3.0, group_s=10.0), 0.0)
        gone: list[tuple[float, int]] = []
        for tick in range(300):
            now = tick / 10
            lane.add(item(tick), now)
            batch = lane.take(now)
            if batch is not None:
                gone.append((now, len(batch.items)))
                lane.settle(Accepted(), now, 0.0)
        assert gone == [(3.0, 31), (13.0, 100), (23.0, 100)]

    def test_what_fires_is_told_before_it_is_over(self) -> None:
        """The end of an alert pulls its beginning forward, though that should still wait."""
        lane = Lane("ops", Policy(wait_s=0.0, group_s=10.0), 0.0)
        lane.add(item(1), 0.0)
        lane.take(0.0)
        lane.settle(Accepted(), 0.0, 0.0)
        lane.add(item(2), 1.0)
        lane.add(item(2, state="resolved", version=1), 1.5)
        assert [alert.state for alert in alerts_of(lane.take(1.5))] == ["firing"]
        lane.settle(Accepted(), 1.5, 0.0)
        assert [alert.state for alert in alerts_of(lane.take(1.5))] == ["resolved"]

    def test_runs_and_rules_are_told_apart(self) -> None:
        """A group has one rule and one run; what no rule decided goes by its name. The worst severity goes first."""
        lane = Lane("ops", Policy(wait_s=0.0), 0.0)
        for one in (item(1, severity="info"), item(2, run_id="b", severity="info"), item(3, rule_id="", rule_name="x"), item(4, rule_id="", rule_name="y")):
            lane.add(one, 0.0)
        told: list[list[str]] = []
        while (batch := lane.take(0.0)) is not None:
            told.append([alert.alert_id for alert in alerts_of(batch)])
            lane.settle(Accepted(), 0.0, 0.0)
        assert told == [["a3"], ["a4"], ["a1"], ["a2"]]


class TestRates:
    def test_what_exceeds_the_rate_is_told_in_one_summary(self) -> None:
        """The last token tells everything that is due; what comes then waits for a token and is summed up as well."""
        lane = Lane("ops", Policy(wait_s=0.0, per_minute=6, burst=2), 0.0)
        for number in range(30):
            lane.add(item(number, rule_id=f"r{number}", rule_name=f"rule {number}"), 0.0)
        first, second = (told(lane, 0.0) for _ in range(2))
        assert (len(first), len(second)) == (1, 29)
        lane.add(item(31, rule_id="x"), 1.0)
        lane.add(item(32, rule_id="y", state="resolved", version=1), 1.0)
        assert lane.take(1.0) is None
        assert lane.wait_s(1.0) == pytest.approx(9.0)
        batch = lane.take(10.0)
        assert batch is not None
        message = message_of(batch, "ops")
        assert (message.kind, message.state, message.body["groups_total"], message.title) == ("summary", "mixed", 2, "[CRITICAL] 2 alerts of 2 rules")

    def test_a_full_lane_refuses_and_says_so_later(self) -> None:
        """Nothing disappears in silence: whoever adds is told, and so are people."""
        lane = Lane("ops", Policy(wait_s=0.0, pending_max=2), 0.0)
        assert [lane.add(item(number), 0.0) for number in range(5)] == [True, True, False, False, False]
        batch = lane.take(0.0)
        assert batch is not None
        assert "3 more alerts came than could be kept" in message_of(batch, "ops").text
        lane.settle(Accepted(), 0.0, 0.0)
        assert lane.add(item(9), 1.0)
        assert lane.pending == 1

    @given(st.lists(st.tuples(st.floats(0, 100), st.booleans()), max_size=60), st.integers(1, 5), st.floats(1, 600))
    def test_no_span_holds_more_than_the_rate_and_the_burst(self, asks: list[tuple[float, bool]], burst: int, per_minute: float) -> None:
        """Whenever tokens are asked for, clocks that go back included: so many at once, and at the rate after that."""
        bucket = Bucket(per_minute, burst, 0.0)
        taken: list[float] = []
        for at, back in asks:
            now = at if back else max([at, *taken])
            if bucket.take(now):
                taken.append(now)
        latest = max([at for at, _ in asks], default=0.0)
        assert len(taken) <= burst + latest * per_minute / 60 + 1e-6


def told(lane: Lane, now: float) -> list[Alert]:
    """Takes what is there and has it accepted."""
    batch = lane.take(now)
    if batch is not None:
        lane.settle(Accepted(), now, 0.0)
    return alerts_of(batch)


class TestTries:
    def test_a_try_that_fails_is_made_again_as_the_same_message(self) -> None:
        """The pauses double and jitter, the message and its id stay, and what comes meanwhile waits."""
        lane = Lane("ops", Policy(wait_s=0.0, budget_s=60.0), 0.0)
        lane.add(item(1), 0.0)
        first = lane.take(0.0)
        assert lane.settle(Again("busy"), 0.0, 0.0) is None
        assert lane.wait_s(0.0) == 0.5
        lane.add(item(2), 0.1)
        assert lane.take(0.4) is None
        assert lane.take(0.5) == first
        assert lane.settle(Again("busy"), 0.5, 1.0) is None
        assert lane.wait_s(0.5) == 0.5  # A second, and all of the luck halves it.
        assert lane.take(1.0) == first
        settled = lane.settle(Accepted(), 1.0, 0.0)
        assert settled is not None
        assert (settled.outcome, settled.tries) == ("delivered", 3)

    def test_being_asked_to_wait_is_heard(self) -> None:
        """Retry-After is the least pause; where it goes past the budget, the message is given up at once."""
        lane = Lane("ops", Policy(wait_s=0.0, budget_s=60.0), 0.0)
        lane.add(item(1), 0.0)
        lane.take(0.0)
        assert lane.settle(Again("it answered 429", 20.0), 0.0, 0.0) is None
        assert lane.wait_s(0.0) == 20.0
        lane.take(20.0)
        settled = lane.settle(Again("it answered 429", 41.0), 20.0, 0.0)
        assert settled is not None
        assert (settled.outcome, settled.reason, settled.tries) == ("failed", "it answered 429", 2)
        assert lane.pending == 0

    def test_a_refusal_ends_it_at_once(self) -> None:
        """What will not help is not tried again, and the lane goes on."""
        lane = Lane("ops", Policy(wait_s=0.0), 0.0)
        lane.add(item(1), 0.0)
        lane.take(0.0)
        settled = lane.settle(Refused("it answered 410"), 0.0, 0.0)
        assert settled is not None
        assert (settled.outcome, settled.tries) == ("failed", 1)
        lane.add(item(2, rule_id="other"), 1.0)
        assert lane.take(1.0) is not None

    def test_a_channel_that_is_dead_costs_each_message_its_budget(self) -> None:
        """However long it is dead: a message's tries end within the budget, and those that wait become one."""
        lane = Lane("ops", Policy(wait_s=0.0, budget_s=120.0), 0.0)
        now, ends = 0.0, list[tuple[float, int]]()
        for number in range(200):
            lane.add(item(number), now)
            while lane.take(now) is not None:
                settled = lane.settle(Again("busy"), now, 0.0)
                if settled is not None:
                    ends.append((now, len(settled.batch.items)))
            now += 5.0
        assert all(later - earlier <= 120.0 + 35.0 for (earlier, _), (later, _) in itertools.pairwise(ends))
        assert sum(count for _, count in ends) + lane.pending == 200
        assert lane.pending < 60

    def test_partitions_that_go_take_their_alerts_along(self) -> None:
        """What waits is taken back; a message on its way stays."""
        lane = Lane("ops", Policy(wait_s=0.0), 0.0)
        lane.add(item(1), 0.0)
        lane.take(0.0)
        lane.add(item(2), 0.0)
        lane.add(item(3)._replace(partition=5), 0.0)
        assert [one.offset for one in lane.drop(lambda one: one.partition == 0)] == [2]
        assert lane.pending == 2
        assert lane.settle(Accepted(), 0.0, 0.0) is not None


OUTCOMES: list[Outcome] = [Accepted(), Again("busy"), Again("busy", 30.0), Refused("it answered 410")]
STEPS = st.lists(
    st.tuples(st.floats(0, 20), st.integers(0, 3), st.integers(0, 2), st.booleans(), st.sampled_from(OUTCOMES), st.floats(0, 1)),
    max_size=25,
)
POLICIES = st.builds(
    Policy,
    wait_s=st.floats(0, 2),
    wait_max_s=st.floats(0, 5),
    group_s=st.floats(0, 30),
    per_minute=st.floats(1, 600),
    burst=st.integers(1, 5),
    budget_s=st.floats(0, 100),
    pending_max=st.integers(1, 50),
)


@settings(max_examples=60, deadline=None)
@given(STEPS, POLICIES)
def test_every_alert_has_one_end(steps: list[tuple[float, int, int, bool, Outcome, float]], policy: Policy) -> None:
    """Whatever comes when, and whatever a channel answers: each alert taken is told of by one message that ends, no alert by two, and the lane comes to rest."""
    lane, now = Lane("ops", policy, 0.0), 0.0
    taken: list[str] = []
    ended: list[str] = []
    messages: list[float] = []

    def work(outcome: Outcome, luck: float) -> None:
        batch = lane.take(now)
        if batch is None:
            return
        assert batch.items
        json.dumps(message_of(batch, "ops").body, allow_nan=False)
        settled = lane.settle(outcome, now, luck)
        if settled is not None:
            messages.append(now)
            ended.extend(one.alert.alert_id + one.alert.state for one in settled.batch.items)

    for number, (pause_s, rule, run, over, outcome, luck) in enumerate(steps):
        now += pause_s
        one = item(number, rule_id=f"r{rule}", run_id=f"run{run}", state="resolved" if over else "firing", version=int(over))
        if lane.add(one, now):
            taken.append(one.alert.alert_id + one.alert.state)
        work(outcome, luck)
    for _ in range(2000):
        wait_s = lane.wait_s(now)
        if wait_s is None:
            break
        now += wait_s + 1e-6
        work(Accepted(), 0.0)
    assert sorted(ended) == sorted(taken)
    assert lane.pending == 0
    assert len(messages) <= policy.burst + 1 + now * policy.per_minute / 60


class TestFiring:
    def test_the_end_of_one_is_not_the_end_of_all(self) -> None:
        """What was told to fire and is not over counts, by rule and run."""
        firing = Firing()
        for alert in ("a", "b", "b"):
            firing.told("r", "run", alert, "firing")
        firing.told("r", "other", "c", "firing")
        assert firing.left("r", "run", {"a"}) == 1
        firing.told("r", "run", "a", "resolved")
        firing.told("r", "run", "never seen", "resolved")
        assert (firing.left("r", "run", set()), firing.left("r", "other", set()), firing.left("x", "run", set())) == (1, 1, 0)

    def test_it_is_bounded(self) -> None:
        """The oldest rule and run is forgotten first."""
        firing = Firing(most=3)
        for number in range(5):
            firing.told("r", f"run{number}", f"a{number}", "firing")
        assert [firing.left("r", f"run{number}", set()) for number in range(5)] == [0, 0, 1, 1, 1]
