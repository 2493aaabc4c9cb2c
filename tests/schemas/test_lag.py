"""How far behind, and whether it gets on: figures and the verdict from offsets and times alone."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from runstream_schemas.lag import ENDS_S_MAX, Lag, Lags


class Place(NamedTuple):
    """A partition."""

    topic: str
    partition: int


A, B = Place("t.metric", 0), Place("t.metric", 1)


def stored(lags: Lags[Place], place: Place, offset: int, now: float, *, written: float | None = None) -> None:
    """Everything before an offset is stored."""
    lags.stored({place: offset}, {} if written is None else {place: written}, now)


def test_a_partition_that_is_caught_up_has_no_lag() -> None:
    """However long ago its last record came."""
    lags = Lags[Place](0.0)
    lags.assigned([A], 0.0)
    stored(lags, A, 5, 1.0, written=0.5)
    lags.ends({A: 5}, {}, 2.0)
    assert lags.lags(100.0) == {A: Lag(0, 0.0, 0.0)}


def test_what_waits_is_counted_and_as_old_as_it_can_be() -> None:
    """A backlog is as old as the record that was stored last; after a quiet hour a new record is no hour old."""
    lags = Lags[Place](0.0)
    lags.assigned([A, B], 0.0)
    lags.ends({A: 100, B: 100}, {}, 0.0)
    stored(lags, A, 40, 1000.0, written=-500.0)
    assert lags.lags(1010.0)[A] == Lag(60, 1010.0, 10.0)
    stored(lags, A, 60, 1010.0, written=700.0)
    assert lags.lags(1010.0)[A] == Lag(40, 310.0, 0.0)
    stored(lags, B, 100, 1000.0, written=999.0)
    lags.ends({B: 100}, {}, 4600.0)
    lags.ends({B: 103}, {}, 4605.0)
    assert lags.lags(4606.0)[B] == Lag(3, 6.0, 6.0)


def test_partitions_of_which_nothing_is_known_are_left_out() -> None:
    """The group's own offsets count until something is stored; a partition that went away is forgotten."""
    lags = Lags[Place](0.0)
    lags.assigned([A, B], 0.0)
    assert lags.lags(1.0) == {}
    lags.ends({A: 9, B: 9, Place("t.metric", 7): 1}, {A: 4}, 1.0)
    assert lags.lags(3.0) == {A: Lag(5, 3.0, 3.0)}
    lags.revoked([A])
    assert lags.lags(3.0) == {}
    assert lags.places == [B]


def test_offsets_that_stand_still_while_records_wait_are_trouble() -> None:
    """Not while nothing waits, not while they move, and no longer once they move again."""
    lags = Lags[Place](0.0)
    assert "not in its group yet" in lags.trouble(1.0, 60.0)
    lags.assigned([A, B], 0.0)
    stored(lags, A, 5, 1.0)
    stored(lags, B, 5, 1.0)
    lags.ends({A: 5, B: 8}, {}, 50.0)
    assert lags.trouble(60.0, 60.0) == ""
    lags.ends({A: 5, B: 8}, {}, 62.0)
    said = lags.trouble(62.0, 60.0)
    assert "1 of 2 partitions stand still" in said
    assert "partition 1 of t.metric" in said
    assert "3 records" in said
    stored(lags, B, 6, 63.0)
    assert lags.trouble(64.0, 60.0) == ""
    lags.revoked([B])
    assert lags.trouble(90.0, 20.0) == ""


def test_a_worker_without_partitions_is_well() -> None:
    """There may be more workers than partitions."""
    lags = Lags[Place](0.0)
    lags.assigned([], 1.0)
    assert lags.trouble(1e6, 60.0) == ""
    lags.assigned([A], 1e6)
    assert lags.trouble(1e6 + 1, 60.0) == ""


@pytest.mark.parametrize(("silent_s", "is_trouble"), [(ENDS_S_MAX - 1, False), (ENDS_S_MAX + 1, True)])
def test_kafka_that_does_not_say_where_partitions_end_is_trouble(silent_s: float, is_trouble: bool) -> None:  # a table of cases
    """Nobody knows then whether records wait."""
    lags = Lags[Place](0.0)
    lags.assigned([A], 0.0)
    lags.ends({A: 0}, {A: 0}, 10.0)
    assert bool(lags.trouble(10.0 + silent_s, 60.0)) == is_trouble
