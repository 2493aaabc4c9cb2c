"""Schedules of faults: the same from the same seed everywhere, bounded, and over many seeds of every kind at every part."""

from __future__ import annotations

import pytest

from tests.faults.schedule import AHEAD_S, CLOCKS, DEATHS, KINDS, LINKS, PARTS, POINTS, RESTARTED, SENDERS, Blow, Kind, every_part_once, plan_of

MANY = [plan_of(seed) for seed in range(1, 2001)]


def test_a_seed_is_its_plan() -> None:
    """A plan follows from its seed alone; seeds differ."""
    assert [plan_of(seed) for seed in range(1, 2001)] == MANY
    assert len({plan.blows for plan in MANY}) == len(MANY)


def test_what_a_machine_cannot_do_is_left_out_and_nothing_else_moves() -> None:
    """Without small disks and clocks the other blows of a seed are the same, at the same times."""
    able: list[Kind] = [kind for kind in KINDS if kind not in ("clock", "disk full")]
    for plan in MANY:
        assert plan_of(plan.seed, able).blows == tuple(blow for blow in plan.blows if blow.kind in able)
        assert plan.needs("disk full") == (plan.rate > 500)


@pytest.mark.parametrize("number", range(4))
def test_each_seed_proves_something_and_ends(number: int) -> None:
    """Somebody is killed between sending and knowing, somebody dies at a named point, the broker is lost once at most, blows come in order and within the life of the ranks."""
    for plan in MANY[number::4]:
        assert any(blow.kind == "unknowing" for blow in plan.blows)
        assert any(blow.kind == "die" for blow in plan.blows)
        assert sum(blow.kind in ("kill", "die", "restart") and blow.part == "kafka" for blow in plan.blows) <= 1
        assert len({blow.point for blow in plan.blows if blow.kind == "die"}) == sum(blow.kind == "die" for blow in plan.blows)
        assert list(plan.blows) == sorted(plan.blows, key=lambda blow: blow.at_s)
        assert all(blow.at_s > 0 and blow.at_s + blow.lasts_s < plan.life_s <= 17 for blow in plan.blows)
        assert 2 <= plan.ranks <= 4


def test_all_kinds_befall_all_parts() -> None:
    """Over many seeds each part is killed and stopped, each sender is killed unknowing, each link suffers each fault, each part dies at each of its points, is started again in order,
    and each clock is set back and ahead.
    """
    blows = [blow for plan in MANY for blow in plan.blows]

    def parts(kind: str) -> set[str]:
        return {blow.part for blow in blows if blow.kind == kind}

    assert {blow.kind for blow in blows} == set(KINDS)
    assert parts("kill") == parts("stop") == set(PARTS)
    assert parts("unknowing") == set(SENDERS)
    assert parts("restart") == set(RESTARTED)
    assert {(blow.part, blow.amount) for blow in blows if blow.kind == "clock"} == {(part, ahead_s) for part in CLOCKS for ahead_s in AHEAD_S}
    assert {blow.point for blow in blows if blow.kind == "die"} == {f"{part} {point}" for part, points in DEATHS.items() for point in points}
    for kind in ("delay", "reset", "half open", "cut after request"):
        assert parts(kind) == set(LINKS)
    assert {(blow.part, blow.detail) for blow in blows if blow.kind == "rebalance"} == {(part, point) for part, points in POINTS.items() for point in points}


def test_the_fixed_plan_kills_every_part() -> None:
    """What runs with every test holds a hard kill of each part."""
    assert {blow.part for blow in every_part_once().blows if blow.kind in ("kill", "unknowing")} == set(PARTS)


def test_a_blow_is_said_in_a_line() -> None:
    """People read plans."""
    assert str(Blow(1.25, "rebalance", "sinks", for_s=3.0, detail="commit")) == " 1.2 s rebalance sinks commit for 3.0 s"
    assert str(Blow(0.5, "die", "clickhouse", for_s=5.0, detail="insert", amount=15)) == " 0.5 s die clickhouse insert +15 within 5.0 s"
    assert str(Blow(0.5, "clock", "rank", amount=-3)) == " 0.5 s clock rank -3"
