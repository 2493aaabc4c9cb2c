"""What happens to a seed: a list of timed blows, drawn from the seed and from nothing else. Nothing here touches a process; `blows` does what stands in it.

Which blows a machine can take (a small disk needs root, a moved clock a C compiler) is chosen by the caller; a seed draws alike on every machine and then leaves out what cannot be.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

from tests.faults.trap import AGENT_POINTS, RANK_POINTS

Kind = Literal["kill", "die", "restart", "stop", "unknowing", "delay", "reset", "half open", "cut after request", "poison", "rebalance", "disk full", "clock"]
Part = Literal["rank", "agent", "kafka", "clickhouse", "sinks", "processors"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PARTS: tuple[Part, ...] = get_args(Part)
LINKS: tuple[Part, ...] = ("kafka", "clickhouse")
WORKERS: tuple[Part, ...] = ("sinks", "processors")
# Who may be killed between sending something and learning that it was taken.
SENDERS: tuple[Part, ...] = ("agent", "sinks", "processors")
# Where a worker that joins its group may die by its own hand, see `tests.sinks.dies_at` and `tests.processors.dies_at`; "" lives until it is asked to leave.
POINTS: dict[Part, tuple[str, ...]] = {
    "sinks": ("", "poll", "commit"),
    "processors": ("", "decided", "sent", "halfway", "stored", "acknowledged"),
}
# Where a part may be made to die while it works: see `tests.faults.trap` for ranks and agents, `tests.faults.deaths` for the others.
DEATHS: dict[Part, tuple[str, ...]] = {
    "rank": RANK_POINTS,
    "agent": AGENT_POINTS,
    "clickhouse": ("insert", "answered"),
    "kafka": ("produce", "stored", "commit"),
    "sinks": ("insert", "answered", "commit", "committed"),
}
# Within which a part must come by its point: a rank fills a segment in some seconds, and a worker that was killed just before comes back in some more.
WITHIN_S = 15.0
RESTARTED: tuple[Part, ...] = ("kafka", "clickhouse", "sinks", "processors", "agent")
CLOCKS: tuple[Part, ...] = ("rank", *WORKERS)
AHEAD_S = (-86_400, -600, -3, 3, 600, 86_400)
# Below it the pipeline must come up first; what begins within it still shows before the ranks end.
FIRST_S, LAST_S = 0.5, 7.0


@dataclass(frozen=True, slots=True)
class Blow:
    """One fault: when it begins (seconds after all ranks log), of what kind, at which part, how long it lasts, and what else there is to say of it.

    Attributes:
        for_s: of a death at a named point the time within which the part must come by it.
        detail: the point at which a part dies, or of a rebalance the worker who joins; else empty.
        amount: records of poison, seconds that a clock is set ahead, milliseconds of a delay, or between a request and a death amid it; else 0.
    """

    at_s: float
    kind: Kind
    part: Part
    for_s: float = 0.0
    detail: str = ""
    amount: int = 0

    @property
    def lasts_s(self) -> float:
        """How long it lasts in any case."""
        return 0.0 if self.kind == "die" else self.for_s

    @property
    def point(self) -> str:
        """The part and the named point at which it dies; empty where it does not at any."""
        return f"{self.part} {self.detail}" if self.detail else ""

    def __str__(self) -> str:
        """The blow in a line."""
        word = "within" if self.kind == "die" else "for"
        more = " ".join(
            [*([self.detail] if self.detail else []), *([f"{self.amount:+d}"] if self.amount else []), *([f"{word} {self.for_s:.1f} s"] if self.for_s else [])]
        )
        return f"{self.at_s:4.1f} s {self.kind} {self.part} {more}".rstrip()


@dataclass(frozen=True, slots=True)
class Plan:
    """A seed: how many ranks log at which rate for how long, what befalls them, and whether blows wait until the first points are stored."""

    seed: int
    ranks: int
    rate: float
    life_s: float
    blows: tuple[Blow, ...]
    warm: bool = False

    def needs(self, kind: Kind, parts: Collection[Part] = PARTS) -> bool:
        """Whether a blow of a kind, at one of these parts, is in it."""
        return any(blow.kind == kind and blow.part in parts for blow in self.blows)


def plan_of(seed: int, able: Collection[Kind] = KINDS) -> Plan:
    """The plan of a seed, without the kinds of blows that this machine is not able to take.

    Each holds at least one hard kill between sending and knowing, so that something must be repeated, a death at a named point, and at most one loss of the broker, since everybody waits
    for its return.
    """
    draw = random.Random(seed)
    blows = [_unknowing(draw, draw.choice(("agent", "sinks")))]
    blows += [_blow(draw) for _ in range(draw.randint(3, 5))]
    if draw.random() < 0.2:
        blows.append(Blow(_at(draw), "clock", "rank", amount=draw.choice((-86_400, -600, -3, 3, 600, 86_400))))
    if draw.random() < 0.2:
        blows.append(Blow(_at(draw), "disk full", "rank", for_s=draw.uniform(1.5, 3.0)))
    blows += _further(random.Random(f"further blows of {seed}"), lost=any(map(_loses_the_broker, blows)))
    lost = [blow for blow in blows if _loses_the_broker(blow)]
    kept = [blow for blow in blows if blow.kind in able and blow not in lost[1:]]
    life_s = max(8.0, max(blow.at_s + blow.lasts_s for blow in kept) + 0.5)
    rate = 600.0 if any(blow.kind == "disk full" for blow in kept) else 150.0
    ranks = draw.choice((2, 3, 4))
    if any(blow.detail == "halfway" for blow in kept):
        ranks = 4  # Half of a store takes a worker that keeps the states of several writers.
    return Plan(seed, ranks, rate, life_s, tuple(sorted(kept, key=lambda blow: blow.at_s)))


def every_part_once() -> Plan:
    """A plan that is not drawn: each part is killed, agent, sink and processor between sending and knowing, and a bit of all the rest; seed 0."""
    return Plan(
        seed=0,
        ranks=2,
        rate=150.0,
        life_s=16.0,
        warm=True,
        blows=(
            # First of all, while the sinks insert: later they are away for long.
            Blow(0.1, "cut after request", "clickhouse"),
            Blow(1.5, "unknowing", "agent", for_s=0.7),
            Blow(2.2, "poison", "sinks", amount=7),
            Blow(2.5, "unknowing", "sinks", for_s=2.5),
            Blow(5.5, "die", "rank", for_s=WITHIN_S, detail="torn"),
            Blow(6.0, "kill", "processors"),
            Blow(6.5, "cut after request", "kafka"),
            Blow(7.0, "die", "agent", for_s=WITHIN_S, detail="answered"),
            Blow(7.5, "kill", "clickhouse"),
            Blow(8.5, "stop", "agent", for_s=0.7),
            Blow(9.5, "reset", "kafka"),
            Blow(10.0, "kill", "kafka"),
            Blow(14.0, "kill", "rank"),
        ),
    )


def _loses_the_broker(blow: Blow) -> bool:
    return blow.part == "kafka" and blow.kind in ("kill", "die", "restart")


def _further(draw: random.Random, *, lost: bool) -> list[Blow]:
    """Deaths at named points, restarts in order, clocks of workers; `lost` is whether the broker is lost already. From a draw of their own, so that the rest of a seed stays as it is."""
    deaths = [_death(draw, lost=lost)]
    if draw.random() < 0.4:
        more = _death(draw, lost=lost or deaths[0].part == "kafka")
        deaths += [more] if more.point != deaths[0].point else []
    if draw.random() < 0.25:
        part = draw.choices(RESTARTED, weights=(3, 1, 2, 2, 1))[0]
        deaths.append(Blow(_at(draw), "restart", part))
    if draw.random() < 0.3:
        deaths.append(Blow(_at(draw), "clock", draw.choice(WORKERS), amount=draw.choice(AHEAD_S)))
    return deaths


def _death(draw: random.Random, *, lost: bool) -> Blow:
    part = draw.choices(("rank", "agent", "clickhouse", "sinks", "kafka"), weights=(4, 5, 2, 3, 0 if lost else 1))[0]
    point = draw.choice(DEATHS[part])
    amount = draw.choice((0, 2, 15)) if point in ("insert", "produce", "commit") else 0
    return Blow(_at(draw), "die", part, WITHIN_S, point, amount)


def _at(draw: random.Random) -> float:
    return draw.uniform(FIRST_S, LAST_S)


def _unknowing(draw: random.Random, part: Part) -> Blow:
    """A sink has inserted what it had after its interval, and waits to commit; the others need less."""
    return Blow(_at(draw), "unknowing", part, for_s=draw.uniform(1.5, 2.5) if part == "sinks" else draw.uniform(0.3, 1.0))


def _blow(draw: random.Random) -> Blow:
    kind: Kind = draw.choices(
        ("kill", "stop", "unknowing", "delay", "reset", "half open", "cut after request", "poison", "rebalance"), weights=(8, 6, 2, 1, 2, 2, 3, 3, 3)
    )[0]
    at_s = _at(draw)
    match kind:
        case "kill":
            # The broker's return takes everybody's time.
            return Blow(at_s, kind, draw.choices(PARTS, weights=(3, 2, 1, 2, 3, 3))[0])
        case "stop":
            part = draw.choice(PARTS)
            # Now and then a worker sleeps past its session, and wakes up without partitions.
            return Blow(at_s, kind, part, for_s=9.0 if part in WORKERS and draw.random() < 0.15 else draw.uniform(0.2, 2.5))
        case "unknowing":
            return _unknowing(draw, draw.choice(SENDERS))
        case "delay":
            return Blow(at_s, kind, draw.choice(LINKS), for_s=draw.uniform(0.5, 2.0), amount=draw.choice((50, 300)))
        case "half open":
            return Blow(at_s, kind, draw.choice(LINKS), for_s=draw.uniform(0.5, 3.0))
        case "poison":
            return Blow(at_s, kind, "sinks", amount=draw.randint(3, 40))
        case "rebalance":
            part = draw.choice(WORKERS)
            return Blow(at_s, kind, part, for_s=draw.uniform(4.0, 7.0), detail=draw.choice(POINTS[part]))
        case _:
            return Blow(at_s, kind, draw.choice(LINKS))
