"""What some frames of one writer come to: alerts, figures for rules across ranks, and the writer's new state. The one object that the shell asks.

A frame accounts for every seq in [first_seq, next_seq). Rows below the mark were taken before and are left out; a frame that begins beyond the mark leaves a gap, which is
counted and never filled: rows that turn up for it later are below the mark. So however often and in whatever grouping the same rows come, state and alerts are the same.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules import columns, summary
from runstream_rules.judge import Judge, OpenRules
from runstream_rules.series import BLOCK_SERIES_MAX, SERIES_NAME_BYTES_MAX, Series, directory_of, free_indices, name_bytes, names_of
from runstream_rules.shapes import Decision
from runstream_rules.state import Block, WriterState, fresh, new_block

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from runstream_rules.book import RuleBook, RuleKey
    from runstream_rules.judge import Item
    from runstream_rules.series import Names
    from runstream_schemas.records import Alert, MetricFrame, MetricGroup

    Longs = NDArray[np.int64]
    Doubles = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Policy:
    """Bounds that a deployment chooses: an alert whose row is older than `late_ms` notifies nobody; series of one writer past `series_max`, or once their names take more than
    `names_bytes_max`, are not followed.
    """

    late_ms: int = 3_600_000
    series_max: int = 200_000
    names_bytes_max: int = 64 << 20

    def decision(self, now_ms: int) -> Decision:
        """A decision at `now_ms`."""
        return Decision(now_ms, now_ms - self.late_ms)


class Gap(NamedTuple):
    """A range of seqs that never came: [from_seq, to_seq)."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What `decide` found. `touched` are the blocks whose summaries changed, `changed` those whose entries must be written.

    `items` are for the second stage. `failed` are rules that broke, with what they raised: to be switched off. The rest depends on how the rows were grouped and is for metrics only:
    `rows_repeated` were below the mark, `frames_refused` belonged to another run than the writer's, `series_refused` found no room, `rules_evaluated` counts rules applied to the rows of
    a block, `unfollowed` are series by rule that found no room in its windows.
    """

    state: WriterState
    alerts: tuple[Alert, ...]
    items: tuple[Item, ...]
    touched: tuple[int, ...]
    changed: tuple[int, ...]
    gaps: tuple[Gap, ...]
    failed: Mapping[RuleKey, Exception]
    rows_repeated: int
    frames_refused: int
    series_refused: int
    rules_evaluated: int
    unfollowed: Mapping[RuleKey, int]


def decide(state: WriterState | None, frames: Sequence[MetricFrame], book: RuleBook, now_ms: int, policy: Policy) -> Outcome:
    """Takes frames of one writer, in the order in which they came; `state` is None before its first. Nothing given is changed.

    Args:
        state: what the writer's earlier frames came to.
        frames: at least one frame, all of one writer.
        book: the rules that are known; they apply to the rows of these frames.
        now_ms: the processor's clock, epoch milliseconds. It decides what is late and is written into alerts as `decided_ms`; nothing else depends on it.
        policy: the deployment's bounds.
    """
    work = _Work(state or fresh(frames[0]), book, now_ms, policy)
    with np.errstate(all="ignore"):
        work.take(frames)
    return work.outcome()


class _OpenBlock:
    """A block that is being changed: copies of its columns, and of what rules keep once that changes."""

    __slots__ = ("doubles", "longs", "mark", "names", "rules", "start")

    def __init__(self, block: Block) -> None:
        # Only after a crash between two entries is a block ahead of the head; rows below its mark are in it.
        self.start = self.mark = block.mark
        self.names = block.names
        self.longs: Longs = block.longs.copy()
        self.doubles: Doubles = block.doubles.copy()
        self.rules = OpenRules(block)

    def grow(self, series: Sequence[Series]) -> None:
        longs, doubles = summary.empty(len(series))
        self.longs = np.concatenate((self.longs, longs), axis=1)
        self.doubles = np.concatenate((self.doubles, doubles), axis=1)
        self.names = names_of((*self.names.series, *series))


class _Work:
    """One call of `decide` while it runs."""

    def __init__(self, state: WriterState, book: RuleBook, now_ms: int, policy: Policy) -> None:
        self.state = state
        self.head = state.head
        self.mark, self.rules_seen = state.head.mark, state.head.rules_seen
        self.directory = state.directory
        self.book = book
        self.policy = policy
        self.judge = Judge(state.head, state.writer, policy.decision(now_ms))
        self.open: dict[int, _OpenBlock] = {}
        self.touched: set[int] = set()
        self.gaps: list[Gap] = []
        self.rows_repeated = self.frames_refused = self.series_refused = 0

    def take(self, frames: Sequence[MetricFrame]) -> None:
        groups: list[MetricGroup] = []
        for frame in frames:
            groups += self._accounted(frame)
        if self.mark != self.head.mark:
            lost = sum(gap.to_seq - gap.from_seq for gap in self.gaps)
            gaps, gap_seqs = self.head.gaps + len(self.gaps), self.head.gap_seqs + lost
            self.head = replace(self.head, mark=self.mark, rules_seen=self.rules_seen, gaps=gaps, gap_seqs=gap_seqs)
        groups = columns.merged(groups)
        self._make_room(groups)
        head = self.head
        scope = self.book.scope(head.run_id, head.project, head.rank, self.state.writer)
        for piece in columns.pieces(groups, self.directory):
            block = self._block(piece.part.block)
            rows = piece.rows if piece.rows.seqs[0] >= block.start else columns.after(piece.rows, block.start)
            if rows is None:
                continue
            self.touched.add(piece.part.block)
            block.mark = max(block.mark, int(rows.seqs[-1]) + 1)
            summary.add(block.longs, block.doubles, piece.part.places, rows)
            plan = scope.plan(piece.context, piece.part.names)
            if plan is not None:
                self.judge.take(plan, piece, rows, block.rules)

    def outcome(self) -> Outcome:
        # Entry 0 carries the mark, so its block is written whenever anything was taken.
        blocks = [*self.state.blocks, *(new_block(()) for _ in range(len(self.open) and max(self.open) + 1 - len(self.state.blocks)))]
        for number, block in self.open.items():
            episodes, tracks = block.rules.closed(self._holds)
            blocks[number] = Block(block.mark, block.names, block.longs, block.doubles, episodes, tracks)
        changed = sorted(self.touched | ({0} if self.head != self.state.head else set()))
        judge = self.judge
        return Outcome(
            WriterState(self.state.writer, self.head, tuple(blocks), self.directory),
            judge.alerts(),
            tuple(judge.items),
            tuple(sorted(self.touched)),
            tuple(changed),
            tuple(self.gaps),
            judge.failed,
            self.rows_repeated,
            self.frames_refused,
            self.series_refused,
            judge.evaluated,
            judge.unfollowed,
        )

    def _holds(self, key: RuleKey) -> bool:
        return self.book.is_live(key) and key not in self.judge.failed

    def _accounted(self, frame: MetricFrame) -> list[MetricGroup]:
        """The rows of a frame that were not taken before; the head accounts for all of it."""
        head, mark = self.head, self.mark
        if frame.run_id != head.run_id or frame.writer != self.state.writer:
            self.frames_refused += 1
            return []
        if frame.next_seq <= mark:
            self.rows_repeated += sum(len(group.seqs) for group in frame.groups)
            return []
        if frame.first_seq > mark:
            self.gaps.append(Gap(mark, frame.first_seq))
        groups, repeated = columns.unseen(frame, mark)
        self.rows_repeated += repeated
        self.mark = frame.next_seq
        self.rules_seen = max(self.rules_seen, frame.rules_seen)
        return groups

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
        every = [self._names(number) for number in range(max(len(self.state.blocks), max(self.open, default=0) + 1))]
        chosen = self._chosen(new, sum(len(names.raw) for names in every))
        self.series_refused += len(new) - len(chosen)
        if not chosen:
            return
        indices = free_indices([(len(names.series), len(names.raw)) for names in every], chosen.values())
        by_block: dict[int, list[Series]] = {}
        for series, index in zip(chosen, indices, strict=True):
            by_block.setdefault(index // BLOCK_SERIES_MAX, []).append(series)
        for number, series in by_block.items():
            self._block(number).grow(series)
        self.directory = directory_of([self._names(number) for number in range(max(len(self.state.blocks), max(self.open) + 1))])

    def _chosen(self, new: Iterable[Series], size: int) -> dict[Series, int]:
        """The series that find room where names take so many bytes already, with the bytes of theirs."""
        policy, out = self.policy, dict[Series, int]()
        room = policy.series_max - len(self.directory)
        for series in new:
            if len(out) >= room or size >= policy.names_bytes_max:
                break
            more = name_bytes(series)
            if more <= SERIES_NAME_BYTES_MAX:
                out[series] = more
                size += more
        return out

    def _names(self, number: int) -> Names:
        """The series of a block as they are now."""
        return self.open[number].names if number in self.open else self.state.blocks[number].names
