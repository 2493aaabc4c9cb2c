"""What a simulated fleet logs: deterministic, and with the troubles that were promised."""

from __future__ import annotations

import math

import pytest

from runstream_local.simulate.signals import NAMED, RANKS_A_NODE, Fleet, names_of


def test_the_same_seed_gives_the_same_values() -> None:
    """Two fleets of one seed log the same, whatever was asked before; another seed's log something else."""
    one, other, third = (Fleet(16, 30, 200, 1.0, seed) for seed in (5, 5, 6))
    other.row(3, 100)
    assert [repr(one.row(rank, step)) for rank in range(16) for step in (0, 57, 199)] == [
        repr(other.row(rank, step)) for rank in range(16) for step in (0, 57, 199)
    ]
    assert one.row(0, 0) != third.row(0, 0)
    assert one.attempts() == other.attempts()


def test_the_loss_falls_and_is_once_not_a_number() -> None:
    """Noise does not hide that a training gets better; one value of one rank is NaN and no other."""
    fleet = Fleet(16, 20, 400, 1.0, 0)
    losses = {(rank, step): fleet.row(rank, step)["train/loss"] for rank in range(16) for step in range(400)}
    assert [place for place, loss in losses.items() if math.isnan(loss)] == [(fleet.nan_rank, fleet.nan_step)]
    assert all(losses[rank, 399] < 0.5 * losses[rank, 0] for rank in range(16))


def test_one_rank_is_slow_for_a_while() -> None:
    """Its step time stands out from all others' in a tenth of the run, and in no other part."""
    fleet = Fleet(16, 20, 400, 2.0, 3)

    def slow(step: int) -> list[int]:
        return [rank for rank in range(16) if fleet.row(rank, step)["perf/step_time_s"] > 1.3 * 2.0]

    assert slow(120) == [fleet.straggler]
    assert slow(50) == slow(300) == []


def test_a_node_is_lost_once() -> None:
    """The job starts again from a checkpoint before the loss and goes on to the end; one of a single node is not interrupted."""
    first, second = Fleet(24, 20, 1000, 1.0, 1).attempts()
    assert (first.first, second.end, second.lost_node) == (0, 1000, -1)
    assert 0 <= first.lost_node < 24 // RANKS_A_NODE
    assert second.first <= first.end < 1000
    assert second.first % 50 == 0
    assert [one.end for one in Fleet(8, 20, 1000, 1.0, 1).attempts()] == [1000]


def test_what_befalls_a_fleet_is_told() -> None:
    """Where the NaN, the straggler and the loss are, as the values have them; what does not happen to a small one is None."""
    fleet = Fleet(24, 20, 1000, 2.0, 1)
    first, second = fleet.attempts()
    troubles = fleet.troubles()
    assert math.isnan(fleet.row(*troubles.nan)["train/loss"])
    assert troubles.lost == (first.lost_node, first.end, second.first)
    assert troubles.straggler is not None
    rank, begin, end = troubles.straggler
    assert [fleet.row(rank, step)["perf/step_time_s"] > 1.3 * 2.0 for step in (begin - 1, begin, end - 1, end)] == [False, True, True, False]
    assert fleet.starts_s() == [0.0, 2.0 * first.end + 60.0, 2.0 * (first.end + 1000 - second.first) + 60.0]
    assert fleet.points == (first.end + 1000 - second.first) * 24 * 20
    small = Fleet(1, 1, 1, 1.0, 0)
    assert (small.troubles().straggler, small.troubles().lost, small.starts_s(), small.points) == (None, None, [0.0, 1.0], 1)


@pytest.mark.parametrize("metrics", [1, 3, len(NAMED), 1000, 20_000])
def test_as_many_names_as_asked_for(metrics: int) -> None:
    """All different, with a value each."""
    assert len(set(names_of(metrics))) == metrics
    assert len(Fleet(1, metrics, 10, 1.0, 0).row(0, 5)) == metrics


def test_what_is_no_fleet() -> None:
    """Says what was expected and what came."""
    with pytest.raises(ValueError, match=r"at least one rank, metric and step .* got 0, 5, 10"):
        Fleet(0, 5, 10, 1.0, 0)
