"""Histories of one writer for the tests of the core: rows with seqs, cut into frames in any way, and a plain oracle of which alerts they must give."""

from __future__ import annotations

import itertools
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from hypothesis import strategies as st

from runstream_rules import Series
from runstream_schemas.records import MetricFrame, MetricGroup, Rule

if TYPE_CHECKING:
    from collections.abc import Sequence

RUN_ID = "0190f0aa-0000-7000-8000-000000000001"
WRITER = 77
COMPARE = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}
# Lists of names that share some names, in two contexts and two subjects: what makes rows of one series come in several groups.
SHAPES = (
    ("training", "", ("loss", "lr")),
    ("training", "", ("loss", "accuracy", "grad/norm")),
    ("training", "", ("accuracy",)),
    ("validation", "", ("loss",)),
    ("training", "model/m/1", ("loss", "lr")),
    ("training", "", tuple(f"wide/{n}" for n in range(20))),
)


@dataclass(frozen=True)
class Row:
    """One log call; a row without names stands for a record of another kind, which has a seq and no metrics."""

    seq: int
    step: int
    time_ms: int
    context: str
    subject: str
    names: tuple[str, ...]
    values: tuple[float, ...]


VALUES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 2.0, math.nan, math.inf, -math.inf]),
    st.floats(min_value=-1e3, max_value=1e3),
    st.floats(allow_nan=True, allow_infinity=True),
)


@st.composite
def histories(draw: st.DrawFn, rows_max: int = 30) -> list[Row]:
    """Rows with seqs 0, 1, 2 ...; times rise and fall, steps come in any order."""
    rows: list[Row] = []
    for seq in range(draw(st.integers(1, rows_max))):
        context, subject, names = draw(st.sampled_from([*SHAPES, ("", "", ())]))
        values = tuple(draw(VALUES) for _ in names)
        rows.append(Row(seq, draw(st.integers(-5, 50)), 1_000_000 + draw(st.integers(0, 10_000)), context, subject, names, values))
    return rows


def frame(rows: Sequence[Row], first_seq: int, next_seq: int, *, rules_seen: int = 0, run_id: str = RUN_ID) -> MetricFrame:
    """The frame that accounts for [first_seq, next_seq) of a history."""
    by_shape: dict[tuple[str, str, tuple[str, ...]], list[Row]] = {}
    for row in rows:
        if first_seq <= row.seq < next_seq and row.names:
            by_shape.setdefault((row.context, row.subject, row.names), []).append(row)
    groups = tuple(
        MetricGroup(
            context,
            subject,
            names,
            np.array([row.seq for row in alike], dtype=np.int64),
            np.array([row.step for row in alike], dtype=np.int64),
            np.array([row.time_ms for row in alike], dtype=np.int64),
            np.array([row.values for row in alike], dtype=np.float64),
        )
        for (context, subject, names), alike in by_shape.items()
    )
    return MetricFrame(RUN_ID if run_id == RUN_ID else run_id, WRITER, 1_000_000, "attempt", 3, "node", "", first_seq, next_seq, rules_seen, groups)


def cut(rows: Sequence[Row], places: Sequence[int], start: int = 0) -> list[MetricFrame]:
    """A history from `start` on as frames, cut at some seqs."""
    end = rows[-1].seq + 1
    edges = [start, *sorted({place for place in places if start < place < end}), end]
    return [frame(rows, first, last) for first, last in itertools.pairwise(edges) if first < last]


def points_of(rows: Sequence[Row]) -> dict[Series, list[tuple[int, int, float]]]:
    """Step, time and value of every point by series, in the order of the seqs."""
    out: dict[Series, list[tuple[int, int, float]]] = {}
    for row in rows:
        for name, value in zip(row.names, row.values, strict=True):
            out.setdefault(Series(name, row.context, row.subject), []).append((row.step, row.time_ms, value))
    return out


def rule(rule_id: str, kind: str = "threshold", **fields: object) -> Rule:
    """A rule with usual fields, some of them changed."""
    usual: dict[str, object] = {"version": 1, "time_ms": 0, "name": f"rule {rule_id}", "metric": "*"}
    if kind == "threshold":
        usual |= {"operator": ">", "threshold": 1.0}
    return Rule(rule_id=rule_id, kind=kind, **(usual | fields))  # pyright: ignore[reportArgumentType]  # tests make wrong ones too


def expected_transitions(rows: Sequence[Row], rules: Sequence[Rule]) -> set[tuple[str, int, Series, int, int]]:
    """Which transitions a history must give: rule, alert version, series, seq that opened, seq of the transition. Point by point, the plainest way."""
    out: set[tuple[str, int, Series, int, int]] = set()
    for one in rules:
        opened: dict[Series, int] = {}
        for row in rows:
            for name, value in zip(row.names, row.values, strict=True):
                series = Series(name, row.context, row.subject)
                if one.metric not in ("*", name) or one.context not in ("", row.context):
                    continue
                if one.kind == "non_finite":
                    fires = not math.isfinite(value)
                elif math.isnan(value):
                    continue
                else:
                    assert one.threshold is not None
                    fires = COMPARE[one.operator](value, one.threshold)
                if fires and series not in opened:
                    opened[series] = row.seq
                    out.add((one.rule_id, 0, series, row.seq, row.seq))
                elif not fires and series in opened:
                    out.add((one.rule_id, 1, series, opened.pop(series), row.seq))
    return out
