"""When the agent's loop does what: things of several intervals meet in one round, since a round that wakes up costs more than what it does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runstream_producers.loop import EARLY_S, LOOK_S, SCAN_S, next_due


@given(st.floats(0.0, 1e8), st.floats(0.001, 60.0))
def test_something_is_due_again_within_its_interval(now: float, interval_s: float) -> None:
    """What is done a moment early is not due again at once, and never later than an interval and that moment."""
    due = next_due(now, interval_s)
    assert now + EARLY_S - 1e-6 * (1.0 + now / 1e6) <= due <= now + interval_s + EARLY_S + 1e-6 * (1.0 + now / 1e6)


def test_without_an_interval_it_is_always_due() -> None:
    """`batch_interval=0` ships in every round."""
    assert next_due(12.3, 0.0) == 12.3


def test_rounds_are_as_many_as_the_shortest_interval_needs() -> None:
    """Looking, scanning and shipping, each begun at another moment, need no rounds of their own, though each round wakes a little late."""
    due = {LOOK_S: 100.013, SCAN_S: 100.031, 0.1: 100.048}
    now, rounds = 100.0, 0
    while now < 110.0:
        now = max(now, min(due.values())) + 0.0003
        rounds += 1
        for interval_s, at in due.items():
            if now + EARLY_S >= at:
                due[interval_s] = next_due(now, interval_s)
    assert rounds <= 10.0 / LOOK_S + 3
