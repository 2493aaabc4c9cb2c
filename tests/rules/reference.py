"""All kinds that watch a series once more, in plain Python, point by point, the slowest and plainest way: what the vectorised kinds are held against."""

from __future__ import annotations

import itertools
import math
import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from runstream_schemas.records import Rule

RELATIONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True)
class Point:
    """One point of one series."""

    seq: int
    step: int
    time_ms: int
    value: float


Said = tuple[float | None, bool, bool]  # Figure (None says nothing), whether the condition holds, whether all is calm.
Flip = tuple[bool, int, int]  # Firing, seq that opened, seq of the row.


def transitions(rule: Rule, points: Sequence[Point]) -> list[Flip]:
    """Firings and resolvings that some points of one series come to."""
    out: list[Flip] = []
    opened: tuple[int, int] | None = None  # Seq and time of the row that opened what waits or fires.
    firing = False
    fired_ms: int | None = None
    for point, (figure, hot, calm) in zip(points, said(rule, points), strict=True):
        now_ms = point.time_ms
        if firing:
            if calm:
                assert opened is not None
                out.append((False, opened[0], point.seq))
                firing, opened = False, None
                fired_ms = None if fired_ms is None else min(fired_ms, now_ms)
        elif hot:
            fired_ms = None if fired_ms is None else min(fired_ms, now_ms)
            opened = (point.seq, now_ms) if opened is None else (opened[0], min(opened[1], now_ms))
            rested = fired_ms is None or now_ms - fired_ms >= rule.cooldown_s * 1000
            if now_ms - opened[1] >= rule.for_s * 1000 and rested:
                out.append((True, opened[0], point.seq))
                firing, fired_ms = True, now_ms
        elif figure is not None or (opened is None and fired_ms is not None):
            fired_ms = None if fired_ms is None else min(fired_ms, now_ms)
            opened = None
        if not firing and opened is None and fired_ms is not None and now_ms - fired_ms >= rule.cooldown_s * 1000:
            fired_ms = None
    return out


def said(rule: Rule, points: Sequence[Point]) -> list[Said]:
    """What each point says to a rule."""
    figures = figures_of(rule, points)
    return [(figure, figure is not None and _hot(rule, figure), figure is not None and _calm(rule, figure)) for figure in figures]


def figures_of(rule: Rule, points: Sequence[Point]) -> list[float | None]:
    """The figure of each point; None where it says nothing."""
    if rule.kind == "non_finite":
        return [0.0 if math.isfinite(point.value) else 1.0 for point in points]
    if rule.kind == "threshold":
        return [None if math.isnan(point.value) else point.value for point in points]
    if rule.kind == "throughput":
        return [_throughput(rule, points[: at + 1]) for at in range(len(points))]
    out: list[float | None] = []
    seen: list[Point] = []
    for point in points:
        if not math.isfinite(point.value):
            out.append(None)
            continue
        seen.append(point)
        out.append(_FIGURES[rule.kind](rule, seen))
    return out


def _hot(rule: Rule, figure: float) -> bool:
    assert rule.threshold is not None or rule.kind in ("non_finite", "plateau", "divergence")
    if rule.kind in ("threshold", "aggregate"):
        return RELATIONS[rule.operator](figure, rule.threshold or 0.0)
    if rule.kind in ("plateau", "divergence"):
        return figure >= rule.window
    if rule.kind == "non_finite":
        return figure > 0
    return _toward(rule, figure) > (rule.threshold or 0.0)


def _calm(rule: Rule, figure: float) -> bool:
    clear = rule.threshold if rule.clear is None else rule.clear
    if rule.kind in ("threshold", "aggregate"):
        return not RELATIONS[rule.operator](figure, clear or 0.0)
    if rule.kind in ("plateau", "divergence", "non_finite"):
        return figure == 0
    return _toward(rule, figure) <= (clear or 0.0)


def _toward(rule: Rule, figure: float) -> float:
    direction = "down" if rule.kind == "throughput" else rule.direction
    return {"up": figure, "down": -figure}.get(direction, abs(figure))


def _aggregate(rule: Rule, seen: Sequence[Point]) -> float | None:
    if rule.window:
        values = [point.value for point in seen[-rule.window :]]
        return _AGGREGATES[rule.aggregate](values) if len(values) == rule.window else None
    return _aggregate_s(rule, seen)


def _aggregate_s(rule: Rule, seen: Sequence[Point]) -> float | None:
    """By the page: thirtieths by the clock, a window that begins anew after a pause, older rows counted in the newest thirtieth."""
    part_ms = rule.window_s * 1000 / 30
    newest, began = 0, 0
    held: list[tuple[int, float]] = []
    for at, point in enumerate(seen):
        number = math.floor(point.time_ms / part_ms)
        if at == 0 or not newest - 30 <= number < newest + 30:
            held, newest, began = [], number, point.time_ms
        newest = max(newest, number)
        held = [one for one in held if one[0] > newest - 30] + [(newest, point.value)]
    if seen[-1].time_ms - began < rule.window_s * 1000:
        return None
    if rule.aggregate == "median":
        return statistics.median(statistics.fmean(value for number, value in held if number == one) for one in {number for number, _ in held})
    return _AGGREGATES[rule.aggregate]([value for _, value in held])


_AGGREGATES: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "mean": statistics.fmean,
    "median": statistics.median,
    "last": lambda values: values[-1],
}


def _change(rule: Rule, seen: Sequence[Point]) -> float | None:
    window, baseline = rule.window or 10, rule.baseline or 50
    if len(seen) < window + baseline:
        return None
    values = [point.value for point in seen]
    past = statistics.fmean(values[-window - baseline : -window])
    change = statistics.fmean(values[-window:]) - past
    if rule.measure == "absolute":
        return change
    return None if past == 0 else change / abs(past)


def _zscore(rule: Rule, seen: Sequence[Point]) -> float | None:
    window = rule.window or 30
    values = [point.value for point in seen]
    past = values[-window - 1 : -1]
    if len(past) < window or (spread := statistics.pstdev(past)) == 0:
        return None
    return (values[-1] - statistics.fmean(past)) / spread


def _plateau(rule: Rule, seen: Sequence[Point]) -> float:
    sign = 1.0 if rule.goal == "min" else -1.0
    best, since = math.inf, 0
    for point in seen:
        since += 1
        if point.value * sign < best - (rule.threshold or 0.0):
            best, since = point.value * sign, 0
    return float(since)


def _divergence(rule: Rule, seen: Sequence[Point]) -> float:
    run = 0
    for before, point in itertools.pairwise(seen):
        worse = point.value < before.value if rule.goal == "max" else point.value > before.value
        run = run + 1 if worse else 0
    return float(run)


def _throughput(rule: Rule, rows: Sequence[Point]) -> float | None:
    window, baseline = rule.window or 20, rule.baseline or 200
    if len(rows) <= window + baseline:
        return None
    last, middle, first = rows[-1], rows[-1 - window], rows[-1 - window - baseline]
    now, past = _rate(middle, last), _rate(first, middle)
    return None if now is None or past is None else now / past - 1.0


def _rate(first: Point, last: Point) -> float | None:
    steps, seconds = last.step - first.step, (last.time_ms - first.time_ms) / 1000
    return steps / seconds if steps > 0 and seconds > 0 else None


_FIGURES: dict[str, Callable[[Rule, Sequence[Point]], float | None]] = {
    "aggregate": _aggregate,
    "change": _change,
    "zscore": _zscore,
    "plateau": _plateau,
    "divergence": _divergence,
}
