"""Rows of some frames sorted out by series: which columns of which group go to which block, with series that several groups share put together in the order of their seqs.

Frames of one writer mostly have one list of names: their rows become one matrix, however many frames they came in. Usually no two lists share a series and nothing
more is copied. Where they do (two lists of names in one context, both with `loss`), rows of the shared series are woven together, since a series must be seen in
the order of its seqs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules.series import BLOCK_SERIES_MAX, Directory, Part, part_of
from runstream_rules.summary import Rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runstream_schemas.records import MetricFrame, MetricGroup


class Piece(NamedTuple):
    """Rows of some columns that live in one block; `rows.values` has exactly the columns of `part`."""

    context: str
    subject: str
    part: Part
    rows: Rows


def unseen(frame: MetricFrame, mark: int) -> tuple[list[MetricGroup], int]:
    """The groups of a frame without rows below the mark, and how many rows were left out."""
    groups: list[MetricGroup] = []
    left_out = 0
    for group in frame.groups:
        if not len(group.seqs):
            continue
        start = int(np.searchsorted(group.seqs, mark)) if group.seqs[0] < mark else 0
        left_out += start
        if start < len(group.seqs):
            groups.append(group if not start else _from(group, start))
    return groups, left_out


def merged(groups: Sequence[MetricGroup]) -> list[MetricGroup]:
    """Groups of one or several frames with one group for each list of names, in the order of their first seqs; groups of later frames come after those of earlier ones."""
    if len(groups) <= 1:
        return list(groups)
    by_names: dict[tuple[str, str, tuple[str, ...]], list[MetricGroup]] = {}
    alike: list[MetricGroup] = []
    for group in groups:
        # Told by identity first: a list of a thousand names takes longer to hash than to work on.
        if not alike or group.keys is not alike[0].keys or group.context != alike[0].context or group.subject != alike[0].subject:
            alike = by_names.setdefault((group.context, group.subject, group.keys), [])
        alike.append(group)
    out = [_joined(one) for one in by_names.values()]
    # A producer gives a seq once, so the seq alone decides; the names are there so that even nonsense is sorted one way.
    out.sort(key=lambda group: (int(group.seqs[0]), group.context, group.subject, group.keys))
    return out


def pieces(groups: Sequence[MetricGroup], directory: Directory) -> list[Piece]:
    """The rows of some groups by block, each series in one piece only and in the order of its seqs."""
    by_place: dict[tuple[str, str], list[MetricGroup]] = {}
    for group in groups:
        by_place.setdefault((group.context, group.subject), []).append(group)
    out: list[Piece] = []
    for (context, subject), alike in by_place.items():
        routes = [directory.route(context, subject, group.keys) for group in alike]
        shared: set[int] = set()
        if len(alike) > 1:
            every, counts = np.unique(np.concatenate([route.indices[route.indices >= 0] for route in routes]), return_counts=True)
            shared = set(every[counts > 1].tolist())
        if not shared:
            for group, route in zip(alike, routes, strict=True):
                out += [_piece(group, part) for part in route.parts]
            continue
        for group, route in zip(alike, routes, strict=True):
            out += [_piece(group, part) for part in _parts_without(shared, route.indices.tolist(), group.keys)]
        out += _woven(alike, [route.indices.tolist() for route in routes], shared)
    return out


def after(rows: Rows, mark: int) -> Rows | None:
    """The rows from `mark` on; None when there are none."""
    start = int(np.searchsorted(rows.seqs, mark))
    if start == len(rows.seqs):
        return None
    return Rows(rows.seqs[start:], rows.steps[start:], rows.times[start:], rows.values[start:]) if start else rows


def _from(group: MetricGroup, start: int) -> MetricGroup:
    return group._replace(seqs=group.seqs[start:], steps=group.steps[start:], times=group.times[start:], values=group.values[start:])


def _joined(groups: list[MetricGroup]) -> MetricGroup:
    if len(groups) == 1:
        return groups[0]
    seqs, steps, times, values = (np.concatenate([group[column] for group in groups]) for column in range(3, 7))
    if not (seqs[1:] > seqs[:-1]).all():
        order = np.argsort(seqs, kind="stable")
        seqs, steps, times, values = seqs[order], steps[order], times[order], values[order]
    return groups[0]._replace(seqs=seqs, steps=steps, times=times, values=values)


def _piece(group: MetricGroup, part: Part) -> Piece:
    values = group.values if part.columns is None else group.values[:, part.columns]
    return Piece(group.context, group.subject, part, Rows(group.seqs, group.steps, group.times, values))


def _parts_without(shared: set[int], indices: list[int], names: tuple[str, ...]) -> list[Part]:
    by_block: dict[int, list[int]] = {}
    for column, index in enumerate(indices):
        if index >= 0 and index not in shared:
            by_block.setdefault(index // BLOCK_SERIES_MAX, []).append(column)
    return [part_of(block, columns, indices, names) for block, columns in sorted(by_block.items())]


def _woven(groups: list[MetricGroup], indices: list[list[int]], shared: set[int]) -> list[Piece]:
    """Pieces for shared series, those together that stand in the same groups and live in the same block."""
    homes: dict[int, list[tuple[int, int]]] = {index: [] for index in sorted(shared)}
    names: dict[int, str] = {}
    for at, (group, columns) in enumerate(zip(groups, indices, strict=True)):
        for column, index in enumerate(columns):
            if index in shared:
                homes[index].append((at, column))
                names[index] = group.keys[column]
    together: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for index, places in homes.items():
        together.setdefault((index // BLOCK_SERIES_MAX, tuple(at for at, _ in places)), []).append(index)
    out: list[Piece] = []
    for (block, at), alike in together.items():
        chosen = [groups[one] for one in at]
        seqs = np.concatenate([group.seqs for group in chosen])
        order = np.argsort(seqs, kind="stable")
        steps = np.concatenate([group.steps for group in chosen])[order]
        times = np.concatenate([group.times for group in chosen])[order]
        columns = [[homes[index][place][1] for index in alike] for place in range(len(at))]
        values = np.concatenate([group.values[:, own] for group, own in zip(chosen, columns, strict=True)])[order]
        part = part_of(block, list(range(len(alike))), alike, tuple(names[index] for index in alike))
        out.append(Piece(groups[0].context, groups[0].subject, part, Rows(seqs[order], steps, times, values)))
    return out
