"""Lines: what is appended to which. Pure; raises BadValue with the shapes that were expected and that came.

A list is points whose steps are counted on; `{"steps": [...], "values": [...]}` gives them. Several lines are a mapping of names to either, and may share `steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from runstream.media import _plain
from runstream.media._types import BadValue, Line
from runstream_producers.journal import values as val

# Of one record: about a megabyte, well within a message.
POINTS_MAX = 50_000
POINT_BYTES = 16


def lines(data: Any, step: int | None = None) -> list[Line]:
    """The lines of a call. A single number is the point at the call's step, where that has one."""
    if not isinstance(data, Mapping):
        alone = not getattr(data, "shape", ()) and val.number_of(data) is not None
        return [_line("", [data] if alone else data, [step] if alone and step is not None else None)]
    given = _plain.mapping("data of line", data, "names of lines, or steps and values")
    if not given:
        raise BadValue("data of line must be a list, steps and values, or lines by name, got an empty mapping")
    values = given.get("values")
    if set(given) == {"steps", "values"} and not isinstance(values, Mapping):
        return [_line("", values, given["steps"])]
    if isinstance(values, Mapping) and set(given) <= {"steps", "values"}:
        named, steps = _plain.mapping("values of line", values, "names of lines"), given.get("steps")
    else:
        named, steps = {key: one for key, one in given.items() if key != "steps"}, given.get("steps")
    if not named:
        raise BadValue("data of line must have values beside its steps, got steps alone")
    return [_named(name, one, steps) for name, one in named.items()]


def _named(name: str, data: Any, steps: Any) -> Line:
    if isinstance(data, Mapping):
        one = _plain.mapping(f"line {name!r}", cast("Any", data), "values, and steps if wanted")
        _plain.known(f"line {name!r}", one, ("values",), ("steps",))
        return _line(name, one["values"], one.get("steps", steps))
    return _line(name, data, steps)


def _line(series: str, data: Any, steps: Any) -> Line:
    where = f"line {series!r}" if series else "data of line"
    points = _plain.numbers(where, data)
    if steps is None:
        return Line(series, points.astype("f8").tolist())
    given = _plain.numbers(f"steps of {where}", steps)
    if given.shape != points.shape:
        raise BadValue(f"steps and values of {where} must have the same shape, got steps of shape {given.shape} and values of shape {points.shape}")
    whole = [None if isinstance(one, bool) else val.step_of(one) for one in given.tolist()]
    if None in whole:
        raise BadValue(f"steps of {where} must be integers of at most 64 bits, got {val.shown(given.tolist()[whole.index(None)])} among them")
    return Line(series, points.astype("f8").tolist(), cast("list[int]", whole))


def pieces(line: Line) -> list[Line]:
    """The line in as many records as it takes, in order."""
    starts = range(0, max(1, len(line.points)), POINTS_MAX)
    return [Line(line.series, line.points[at : at + POINTS_MAX], None if line.steps is None else line.steps[at : at + POINTS_MAX]) for at in starts]
