"""The fault harness over many seeds: what was logged while parts of the pipeline were killed, stopped and cut off, and what of it was lost, doubled or wrong (docs/faults.md)."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.broker import temporary_folder
from benchmarks.figures import Bar, Figure
from tests.faults.harness import able, live
from tests.faults.schedule import every_part_once, plan_of

if TYPE_CHECKING:
    from collections.abc import Iterator

# Where journals usually are; the folder is on a disk, since a small file system of its own is mounted for full disks.
_DISK = Path("/var/tmp")
_SEED_S = 20.0  # About what one takes, where `seconds` says how long to measure and nothing how many.
_FOUND = Bar("==", 0)
_PROOF = Bar(">=", 1)
# What each seed does by its plan, on the average of all: two ranks and more log 150 rows of four points a second for 8 s, of which each 200 hold an episode; one hard kill and one death at a
# named point stand in each plan, and may not be seen.
_A_SEED = {"points_logged": 1000, "kills_done": 1, "deaths_at_points": 0.5, "alerts_expected": 1}
# Shares say something where there are so many seeds. A killed sender had something under way that is stored twice in most seeds and not in all (9 of 57 had no repeats); of all blows one
# in fifty is not seen.
_SHARES_FROM = 10
_WITH_REPEATS, _NOT_SEEN = Bar(">=", 0.6), Bar("<=", 0.06)
_NOTHING = (
    "lost",
    "doubled",
    "invented",
    "wrong",
    "summaries_wrong",
    "alerts_missing",
    "alerts_twice",
    "dead_letters_wrong",
    "drops_wrong",
    "own_ends_unexplained",
)


def run(seconds: float) -> Iterator[Figure]:
    """As many seeds as about fit, from the fixed plan on; that and a drawn one at least."""
    return over_seeds(max(2, round(seconds / _SEED_S)), 0)


def over_seeds(seeds: int, first: int) -> Iterator[Figure]:
    """Lives through so many seeds from the first on; seed 0 is the fixed plan that kills every part. Tells each on the standard error as it ends."""
    kinds, missing = able()
    for sentence in missing:
        _say(f"this machine takes {sentence}")
    plans = (plan_of(seed, kinds) if seed else every_part_once() for seed in range(first, first + seeds))
    began = time.monotonic()
    failed: list[int] = []
    lived = repeated = 0
    totals: dict[str, int] = {}
    points: Counter[str] = Counter()
    kinds_done: Counter[str] = Counter()
    with temporary_folder(_DISK if _DISK.is_dir() else None) as name:
        for one in live(plans, Path(name), keep=Path("faults-failed")):
            lived += not one.later
            failed += [] if one.held else [one.plan.seed]
            found = one.findings
            repeated += found.repeats > 0
            points += one.points
            kinds_done += one.done
            counts = {
                "points_logged": found.points_logged,
                "kills_done": one.kills,
                "deaths_at_points": one.points.total(),
                "alerts_expected": found.alerts_expected,
                "repeats_seen": found.repeats,
                "lost": found.lost,
                "doubled": found.doubled,
                "invented": found.invented,
                "summaries_wrong": found.summaries_wrong,
                "alerts_missing": found.alerts_missing,
                "alerts_twice": found.alerts_twice,
                "wrong": found.wrong,
                "dead_letters_wrong": found.letters_wrong,
                "drops_wrong": found.drops_wrong,
                "own_ends_unexplained": found.own_ends_unexplained,
                "poison_injected": found.poison,
                "points_dropped": found.dropped,
                "restarts": one.done["restart"],
                "clocks_set": one.done["clock"],
                "blows": one.done.total(),
                "blows_not_seen": len(one.missed),
                "own_ends": one.own_ends,
            }
            for figure, value in counts.items():
                totals[figure] = totals.get(figure, 0) + value
            _say(f"[{lived}/{seeds}, {time.monotonic() - began:.0f} s] {one.report()}")
    if failed:
        _say(f"failed seeds: {' '.join(map(str, dict.fromkeys(failed)))}; what the parts said is in faults-failed/")
    _say(f"seen: {_listed(kinds_done)}")
    _say(f"died at named points: {_listed(points)}")
    yield Figure("seeds", lived, "seeds", lived, _PROOF)
    for figure in (*_A_SEED, "repeats_seen"):
        yield Figure(figure, totals[figure], "count", lived, _PROOF)
    for figure, least in _A_SEED.items():
        yield Figure(f"{figure}_a_seed", totals[figure] / max(1, lived), "count", lived, Bar(">=", least))
    yield Figure("seeds_with_repeats", repeated / max(1, lived), "share", lived, _WITH_REPEATS if lived >= _SHARES_FROM else None)
    for figure in _NOTHING:
        yield Figure(figure, totals[figure], "count", lived, _FOUND)
    yield Figure("seeds_failed", len(set(failed)), "seeds", lived, _FOUND)
    missed = totals["blows_not_seen"] / max(1, totals["blows"] + totals["blows_not_seen"])
    yield Figure("not_seen", missed, "share", lived, _NOT_SEEN if lived >= _SHARES_FROM else None)
    for figure in ("poison_injected", "points_dropped", "restarts", "clocks_set", "own_ends", "blows", "blows_not_seen"):
        yield Figure(figure, totals[figure], "count", lived)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{what} {count}" for what, count in sorted(counts.items())) or "nothing"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
