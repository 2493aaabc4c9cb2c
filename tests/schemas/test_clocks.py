"""A wall clock that is set back is noticed, and one that is set ahead or goes on is not."""

from __future__ import annotations

from runstream_schemas.clocks import SET_BACK_S, WallClock


def test_only_a_clock_that_is_set_back_is_noticed() -> None:
    """By how much, once, and again when it happens again; small corrections and leaps ahead are nothing."""
    clock = WallClock(1000.0)
    looks = [(1001.0, 1.0), (1002.0 - SET_BACK_S + 0.5, 2.0), (90_000.0, 3.0), (90_001.0 - 3600.0, 4.0), (90_002.0 - 3600.0, 5.0), (80_000.0, 6.0)]
    assert [round(clock.set_back_s(*look)) for look in looks] == [0, 0, 0, 3600, 0, 6403]
