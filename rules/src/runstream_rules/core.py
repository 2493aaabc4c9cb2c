"""What some frames of one writer come to: alerts, summaries and the writer's new state. The one object that the shell asks.

A frame accounts for every seq in [first_seq, next_seq). Rows below the mark were taken before and are left out; a frame that begins beyond the mark leaves a gap, which is
counted and never filled: rows that turn up for it later are below the mark. So however often and in whatever grouping the same rows come, state and alerts are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules import columns, summary
from runstream_rules.episodes import transitions
from runstream_rules.series import BLOCK_SERIES_MAX, Series, free_indices
from runstream_rules.shapes import alert_of, summary_frame
from runstream_rules.state import Block, WriterState, fresh, names_of, new_block

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from runstream_rules.book import Pick, RuleBook, RuleKey
    from runstream_rules.columns import Piece
    from runstream_schemas.records import Alert, MetricFrame, MetricGroup, SummaryFrame

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds that a deployment chooses: an alert whose row is older than `late_ms` notifies nobody; series of one writer past `series_max` are not followed."""

    late_ms: int = 3_600_000
    series_max: int = 200_000


class Gap(NamedTuple):
    """A range of seqs that never came: [from_seq, to_seq)."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `decide` found. `changed` are the blocks whose entries must be written; `summaries` has one frame for each of them.

    `rows_repeated` were below the mark, `frames_refused` belonged to another run than the writer's, `series_refused` found no room. These three depend on how the rows
    were grouped and are for metrics only.
    """

    state: WriterState
    alerts: tuple[Alert, ...]
    summaries: tuple[SummaryFrame, ...]
    changed: tuple[int, ...]
    gaps: tuple[Gap, ...]
    rows_repeated: int
    frames_refused: int
    series_refused: int


def decide(state: WriterState | None, frames: Sequence[MetricFrame], book: RuleBook, now_ms: int, policy: Policy, project: str = "") -> Outcome:
    """Takes frames of one writer, in the order in which they came; `state` is None before its first. Nothing given is changed.

    Args:
        state: what the writer's earlier frames came to.
        frames: at least one frame, all of one writer.
        book: the rules that are known; they apply to the rows of these frames.
        now_ms: the processor's clock, epoch milliseconds. It decides what is late and is written into alerts as `decided_ms`; nothing else depends on it.
        policy: the deployment's bounds.
        project: project of the writer's run, empty where it is not known: then rules for one project do not apply.
    """
    work = _Work(state or fresh(frames[0]), book, now_ms, policy, project)
    with np.errstate(all="ignore"):
        for frame in frames:
            work.take(frame)
    return work.outcome()


class _OpenBlock:
    """A block that is being changed: copies of its columns, and of its episodes once one changes."""

    __slots__ = ("doubles", "episodes", "longs", "mark", "names", "series")

    def __init__(self, block: Block) -> None:
        self.mark = block.mark
        self.series = block.series
        self.names = block.names
        self.longs: Longs = block.longs.copy()
        self.doubles: Doubles = block.doubles.copy()
        self.episodes: dict[RuleKey, dict[int, int]] = {key: dict(opened) for key, opened in block.episodes.items()}

    def grow(self, series: Sequence[Series]) -> None:
        longs, doubles = summary.empty(len(series))
        self.longs = np.concatenate((self.longs, longs), axis=1)
        self.doubles = np.concatenate((self.doubles, doubles), axis=1)
        self.series += tuple(series)
        self.names += names_of(series)

    def closed(self) -> Block:
        return Block(self.mark, self.series, self.longs, self.doubles, self.episodes, self.names)


class _Work:
    """One call of `decide` while it runs."""

    def __init__(self, state: WriterState, book: RuleBook, now_ms: int, policy: Policy, project: str) -> None:
        self.state = state
        self.head = state.head
        self.directory = state.directory
        self.book = book
        self.now_ms = now_ms
        self.policy = policy
        self.project = project
        self.open: dict[int, _OpenBlock] = {}
        self.touched: set[int] = set()
        self.alerts: list[Alert] = []
        self.gaps: list[Gap] = []
        self.rows_repeated = self.frames_refused = self.series_refused = 0

    def take(self, frame: MetricFrame) -> None:
        head = self.head
        if frame.run_id != head.run_id or frame.writer != self.state.writer:
            self.frames_refused += 1
            return
        if frame.next_seq <= head.mark:
            self.rows_repeated += sum(len(group.seqs) for group in frame.groups)
            return
        gap = frame.first_seq - head.mark
        if gap > 0:
            self.gaps.append(Gap(head.mark, frame.first_seq))
        groups, repeated = columns.unseen(frame, head.mark)
        self.rows_repeated += repeated
        self._make_room(groups)
        found: list[tuple[int, Alert]] = []
        starts: dict[int, int] = {}
        for piece in columns.pieces(groups, self.directory):
            block = self._block(piece.part.block)
            # Only after a crash between two entries is a block ahead of the head.
            start = starts.setdefault(piece.part.block, block.mark)
            rows = piece.rows if start <= head.mark else columns.after(piece.rows, start)
            if rows is None:
                continue
            self.touched.add(piece.part.block)
            block.mark = max(block.mark, int(rows.seqs[-1]) + 1)
            summary.add(block.longs, block.doubles, piece.part.places, rows)
            for pick in self.book.picks(head.run_id, self.project, head.rank, piece.context, piece.part.names):
                found += self._judge(pick, piece, rows, block)
        found.sort(key=lambda one: (one[0], one[1].rule_id, one[1].context, one[1].subject, one[1].metric))
        self.alerts += [alert for _, alert in found]
        self.head = replace(
            head,
            mark=frame.next_seq,
            rules_seen=max(head.rules_seen, frame.rules_seen),
            gaps=head.gaps + (gap > 0),
            gap_seqs=head.gap_seqs + max(gap, 0),
        )

    def outcome(self) -> Outcome:
        # Entry 0 carries the mark, so its block is written whenever anything was taken.
        blocks = [*self.state.blocks, *(new_block(()) for _ in range(len(self.open) and max(self.open) + 1 - len(self.state.blocks)))]
        for number, block in self.open.items():
            block.episodes = {key: opened for key, opened in block.episodes.items() if opened and self.book.is_live(key)}
            blocks[number] = block.closed()
        changed = sorted(self.touched | ({0} if self.head != self.state.head else set()))
        state = WriterState(self.state.writer, self.head, tuple(blocks), self.directory)
        return Outcome(
            state,
            tuple(self.alerts),
            tuple(summary_frame(state, number) for number in sorted(self.touched)),
            tuple(changed),
            tuple(self.gaps),
            self.rows_repeated,
            self.frames_refused,
            self.series_refused,
        )

    def _block(self, number: int) -> _OpenBlock:
        found = self.open.get(number)
        if found is None:
            blocks = self.state.blocks
            found = self.open[number] = _OpenBlock(blocks[number] if number < len(blocks) else new_block(()))
        return found

    def _make_room(self, groups: Sequence[MetricGroup]) -> None:
        """Gives places to series that appear for the first time: by the seq of their first row, then by their column."""
        new: dict[Series, None] = {}
        for group in groups:
            new |= dict.fromkeys(self.directory.missing(group.context, group.subject, group.keys))
        if not new:
            return
        chosen = list(new)[: max(self.policy.series_max - len(self.directory), 0)]
        self.series_refused += len(new) - len(chosen)
        numbers = range(max(len(self.state.blocks), max(self.open, default=0) + 1))
        indices = free_indices(
            [len(self._block(number).series) if number in self.open else len(self.state.blocks[number].series) for number in numbers], len(chosen)
        )
        self.directory = self.directory.with_series(dict(zip(chosen, indices, strict=True)))
        by_block: dict[int, list[Series]] = {}
        for series, index in zip(chosen, indices, strict=True):
            by_block.setdefault(index // BLOCK_SERIES_MAX, []).append(series)
        for number, series in by_block.items():
            self._block(number).grow(series)

    def _judge(self, pick: Pick, piece: Piece, rows: summary.Rows, block: _OpenBlock) -> list[tuple[int, Alert]]:
        opened = block.episodes.get(pick.key, {})
        changes = transitions(pick, rows, piece.part.places, opened)
        if not changes:
            return []
        opened = block.episodes.setdefault(pick.key, {})
        for change in sorted(changes, key=lambda one: one.row):
            place = int(piece.part.places[change.column])
            if change.firing:
                opened[place] = change.opened_seq
            else:
                opened.pop(place, None)
        head, writer = self.head, self.state.writer
        late_before_ms = self.now_ms - self.policy.late_ms
        return [(int(rows.seqs[change.row]), alert_of(pick, head, writer, piece, rows, change, self.now_ms, late_before_ms)) for change in changes]
