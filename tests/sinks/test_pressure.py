"""When to take no more, and when to fetch no more."""

from __future__ import annotations

from runstream_sinks.pressure import PATIENCE_S, Pressure


def test_full_is_until_half_is_gone() -> None:
    """Neither just below the bound nor just below it again."""
    pressure = Pressure(100)
    pressure.look(99, 0.0)
    assert not pressure.holds(0.0)
    pressure.look(100, 1.0)
    pressure.look(51, 1.1)
    assert pressure.holds(1.1)
    pressure.look(50, 1.2)
    assert not pressure.holds(1.2)


def test_partitions_are_paused_only_if_it_lasts() -> None:
    """A moment is waited out with what was fetched ahead; then the worker polls again, and nothing is fetched."""
    pressure = Pressure(100)
    pressure.look(150, 10.0)
    for now in (10.0, 10.0 + 0.9 * PATIENCE_S):
        assert (pressure.holds(now), pressure.pauses(now)) == (True, False)
    pressure.look(80, 10.0 + PATIENCE_S)
    assert (pressure.holds(10.0 + PATIENCE_S), pressure.pauses(10.0 + PATIENCE_S)) == (False, True)
    pressure.look(0, 20.0)
    assert not pressure.pauses(20.0)
