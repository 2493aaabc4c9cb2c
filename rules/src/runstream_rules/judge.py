"""Rules over the rows of one piece: which series a rule sees, what its kind makes of them, and which alerts that comes to.

What a rule does wrong stays with it: whatever is raised while a rule is applied switches that rule off for this call, and is handed to the caller.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules import blocks
from runstream_rules.episodes import Signs, Transition, advance
from runstream_rules.kinds import Seen
from runstream_rules.regions import in_columns
from runstream_rules.series import Series
from runstream_rules.shapes import Decision, Moment, Opening, alert, alert_id
from runstream_rules.summary import Rows
from runstream_rules.tracks import DOUBLES_MAX, OpenTrack, Track, empty

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from runstream_rules.book import Pick, Plan, RuleKey
    from runstream_rules.columns import Piece
    from runstream_rules.episodes import Episode
    from runstream_rules.kinds import BlockKind, SeriesKind
    from runstream_rules.state import Block, Head
    from runstream_schemas.records import Alert, Rule

    Doubles = NDArray[np.float64]
    Longs = NDArray[np.int64]


# Episodes of all rules go into one entry of the table with their block, and an entry into one message.
EPISODES_MAX = 32_000


class Item(NamedTuple):
    """A figure of one block of steps, for the second stage."""

    key: RuleKey
    series: Series
    block: int
    figure: float
    time_ms: int


class OpenRules:
    """What the rules keep of one block, while it is being changed."""

    def __init__(self, block: Block) -> None:
        self.episodes: dict[RuleKey, dict[int, Episode]] = {key: dict(episodes) for key, episodes in block.episodes.items()}
        self._closed = dict(block.tracks)
        self._open: dict[RuleKey, OpenTrack] = {}
        self._doubles = sum(track.data.size + len(track.places) for track in block.tracks.values())
        self._count = sum(len(episodes) for episodes in self.episodes.values())

    def followed(self, key: RuleKey, places: Longs, fresh: Doubles) -> tuple[OpenTrack, Longs | None]:
        """The track of a rule and its rows for some places, within the bound on all tracks of a block: None where they are all of its rows, -1 where there was no room."""
        track = self._open.get(key)
        if track is None:
            track = self._open[key] = OpenTrack(self._closed.get(key) or empty(len(fresh)))
        if track.has(places):
            return track, None
        rows = track.rows_of(places)
        if (rows < 0).any():
            self._doubles += track.grow(places, fresh, DOUBLES_MAX - self._doubles)
            rows = track.rows_of(places)
        return track, rows

    def set(self, key: RuleKey, changes: dict[int, Episode | None]) -> set[int]:
        """Where series of a rule stand now. Gives the places for whose episode there was no room: they stay quiet."""
        episodes = self.episodes.setdefault(key, {})
        before, refused = len(episodes), set[int]()
        for place, episode in changes.items():
            if episode is None:
                episodes.pop(place, None)
            elif place in episodes or self._count - before + len(episodes) < EPISODES_MAX:
                episodes[place] = episode
            else:
                refused.add(place)
        self._count += len(episodes) - before
        return refused

    def closed(self, holds: Callable[[RuleKey], bool]) -> tuple[dict[RuleKey, dict[int, Episode]], dict[RuleKey, Track]]:
        """What is kept of the rules that still hold."""
        tracks: dict[RuleKey, Track] = self._closed | {key: track.closed() for key, track in self._open.items()}
        episodes = {key: every for key, every in self.episodes.items() if every and holds(key)}
        return episodes, {key: track for key, track in tracks.items() if holds(key)}


class Judge:
    """One call's judgement of one writer's rows."""

    def __init__(self, head: Head, writer: int, decision: Decision) -> None:
        self._head = head
        self._writer = writer
        self._decision = decision
        self._found: list[tuple[int, Alert]] = []
        self.items: list[Item] = []
        self.failed: dict[RuleKey, Exception] = {}
        self.unfollowed: dict[RuleKey, int] = {}
        self.evaluated = 0

    def alerts(self) -> tuple[Alert, ...]:
        """All that was found, by the seqs of the rows."""
        self._found.sort(key=lambda one: (one[0], one[1].rule_id, one[1].context, one[1].subject, one[1].metric))
        return tuple(one for _, one in self._found)

    def take(self, plan: Plan, piece: Piece, rows: Rows, kept: OpenRules) -> None:
        """Applies the rules of a plan to the rows of a piece."""
        whole = int(rows.seqs[0]) >= plan.from_seq and int(rows.times.min()) >= plan.from_ms
        self.evaluated += len(plan.plain) + len(plan.keeping) + len(plan.blocks)
        if plan.plain:
            self._take_plain(plan, piece, rows, kept, whole=whole)
        for pick in plan.keeping:
            self._guarded(pick, self._take_one, pick, piece, rows, kept, whole=whole)
        for pick in plan.blocks:
            self._guarded(pick, self._take_blocks, pick, piece, rows, kept, whole=whole)

    def _take_plain(self, plan: Plan, piece: Piece, rows: Rows, kept: OpenRules, *, whole: bool) -> None:
        """Rules that compare values alone: where none of them is hot and none of their series is anything but quiet, nothing more is to be done."""
        said = in_columns(plan.hot.holds(rows.values[:, plan.plain_columns]))
        start = 0
        anything = bool(said.any())
        for pick in plan.plain:
            end = start + len(pick.columns)
            if kept.episodes.get(pick.key) or (anything and said[start:end].any()):
                self._guarded(pick, self._take_one, pick, piece, rows, kept, whole=whole)
            start = end

    def _guarded(self, pick: Pick[SeriesKind] | Pick[BlockKind], work: Callable[..., None], *arguments: object, whole: bool) -> None:
        if pick.key in self.failed:
            return
        try:
            work(*arguments, whole=whole)
        except Exception as error:  # noqa: BLE001  # whatever a rule does wrong must not stop the others, nor the rows
            self.failed[pick.key] = error

    def _take_one(self, pick: Pick[SeriesKind], piece: Piece, rows: Rows, kept: OpenRules, *, whole: bool) -> None:
        counting = rows if whole else _counting(pick, rows)
        if counting is None:
            return
        columns, seen = self._seen(pick, piece, counting, kept)
        hot = pick.bounds.hot.holds(seen.figures)
        before = kept.episodes.get(pick.key, {})
        if not before and not hot.any():
            return
        signs = Signs(hot, ~hot & ~np.isnan(seen.figures), pick.bounds.calm.holds(seen.figures))
        places: list[int] = piece.part.places[columns].tolist()
        changes, after = advance(signs, counting.seqs.tolist(), counting.times.tolist(), before, places, pick.pace)
        refused = kept.set(pick.key, after)
        if refused:
            self.unfollowed[pick.key] = self.unfollowed.get(pick.key, 0) + len(refused)
            changes = [change for change in changes if places[change.column] not in refused]
        names = piece.part.names
        for change in changes:
            series = Series(names[int(columns[change.column])], piece.context, piece.subject)
            self._found.append((int(counting.seqs[change.row]), self._alert(pick.rule, series, counting, seen, change)))

    def _seen(self, pick: Pick[SeriesKind], piece: Piece, rows: Rows, kept: OpenRules) -> tuple[Longs, Seen]:
        """What the kind makes of the columns that it follows."""
        columns = pick.columns
        if pick.kind.plain:
            return columns, pick.kind.look(pick.rule, np.empty((len(columns), 0)), rows._replace(values=rows.values[:, columns]))
        track, own = kept.followed(pick.key, piece.part.places[columns], pick.fresh)
        if own is None:
            return columns, _looked(pick, track.data, rows._replace(values=rows.values[:, columns]))
        columns, own = self._with_room(pick, columns, own)
        state = track.data[own]
        seen = _looked(pick, state, rows._replace(values=rows.values[:, columns]))
        track.data[own] = state
        return columns, seen

    def _with_room(self, pick: Pick[SeriesKind] | Pick[BlockKind], columns: Longs, own: Longs) -> tuple[Longs, Longs]:
        """The columns that found room, and their rows; the others are counted."""
        found = own >= 0
        if found.all():
            return columns, own
        self.unfollowed[pick.key] = self.unfollowed.get(pick.key, 0) + int((~found).sum())
        return columns[found], own[found]

    def _take_blocks(self, pick: Pick[BlockKind], piece: Piece, rows: Rows, kept: OpenRules, *, whole: bool) -> None:
        counting = rows if whole else _counting(pick, rows)
        if counting is None:
            return
        track, own = kept.followed(pick.key, piece.part.places[pick.columns], pick.fresh)
        columns, own = self._with_room(pick, pick.columns, np.arange(len(pick.columns)) if own is None else own)
        for one in blocks.take(track.data, own, counting, columns, pick.rule.window or 1, pick.kind.closes_by(pick.rule)):
            series = Series(piece.part.names[int(columns[one.column])], piece.context, piece.subject)
            self.items.append(Item(pick.key, series, one.block, one.figure, one.time_ms))

    def _alert(self, rule: Rule, series: Series, rows: Rows, seen: Seen, change: Transition) -> Alert:
        head = self._head
        baseline = None if seen.baselines is None else float(seen.baselines[change.row, change.column])
        value = float(seen.values[change.row, change.column])
        moment = Moment(head.rank, int(rows.steps[change.row]), int(rows.times[change.row]), value, baseline)
        opening = Opening(self._writer, change.opened_seq, change.opened_ms)
        named = alert_id((rule.rule_id, rule.version), head.run_id, self._writer, series, change.opened_seq)
        return alert(rule, "firing" if change.firing else "resolved", head.run_id, head.project, series, opening, moment, self._decision, named)


def _counting(pick: Pick[SeriesKind] | Pick[BlockKind], rows: Rows) -> Rows | None:
    """The rows from when on the rule counts; None where there are none."""
    counts = (rows.seqs >= pick.from_seq) & (rows.times >= pick.from_ms)
    if counts.all():
        return rows
    return Rows(rows.seqs[counts], rows.steps[counts], rows.times[counts], rows.values[counts]) if counts.any() else None


def _looked(pick: Pick[SeriesKind], state: Doubles, rows: Rows) -> Seen:
    """What the kind makes of the rows; for one that takes finite values alone, columns that have others go one by one."""
    finite = np.isfinite(rows.values) if pick.kind.finite else None
    if finite is None or finite.all():
        return pick.kind.look(pick.rule, state, rows)
    figures = np.full_like(rows.values, np.nan)
    baselines: Doubles | None = None
    values = rows.values.copy()
    whole = np.flatnonzero(finite.all(axis=0))
    alike = [(whole, np.arange(len(rows.seqs)))] if len(whole) else []
    alike += [(np.array([column]), np.flatnonzero(finite[:, column])) for column in np.flatnonzero(~finite.all(axis=0)).tolist()]
    for columns, chosen in alike:
        if not len(chosen):
            continue
        at = np.ix_(chosen, columns)
        part = state[columns]
        seen = pick.kind.look(pick.rule, part, Rows(rows.seqs[chosen], rows.steps[chosen], rows.times[chosen], rows.values[at]))
        state[columns] = part
        figures[at], values[at] = seen.figures, seen.values
        if seen.baselines is not None:
            baselines = np.full_like(rows.values, np.nan) if baselines is None else baselines
            baselines[at] = seen.baselines
    return Seen(figures, values, baselines)
