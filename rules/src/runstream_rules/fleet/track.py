"""One series under one rule across ranks: blocks of steps that wait for ranks, and what a closed block comes to.

A block is closed once every rank that is waited for has it behind it, or when it has waited for too long; while it is not known how many ranks there are, only the latter. What comes
later for it is counted, and changes nothing: so a block is judged once, in the order of blocks. Where too many are open, since ranks' rows come by different ways and some are read
sooner, every other block or so is given up unjudged: nobody is taken for slow because others were read first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules.episodes import Episode, Signs, Transition, advance, pace_of
from runstream_rules.regions import Bounds, relation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_schemas.records import Rule

    Doubles = NDArray[np.float64]
    Longs = NDArray[np.int64]
    Bools = NDArray[np.bool_]

NOTHING = -(1 << 62)  # As the newest block of a rank that has none behind it.
WAIT_S = 30.0
OPEN_MAX = 256
_OPEN_BYTES_MAX = 4 << 20  # Of the figures of open blocks: they go into one message with the rest.
RANKS_MIN = 3  # A median of two tells nothing of either.


class Verdict(NamedTuple):
    """What changed at a closed block: which rank it is about, the figure that is shown and what it was compared with; step and time of the block."""

    change: Transition
    rank: int
    step: int
    time_ms: int
    value: float
    baseline: float | None


class _Open:
    """A block that waits: figures by rank (NaN where none came), when the first came by the listener's clock, and the first and last time at which ranks had it behind them."""

    __slots__ = ("figures", "first_ms", "heard_ms", "last_ms")

    def __init__(self, size: int, heard_ms: int) -> None:
        self.figures: Doubles = np.full(size, np.nan)
        self.heard_ms = heard_ms
        self.first_ms = 1 << 62
        self.last_ms = -(1 << 62)


class _Judged(NamedTuple):
    """Figures of a block for the episodes: one place for the run, or one for each rank."""

    places: list[int]
    figures: Doubles
    values: Doubles
    ranks: list[int]
    baseline: float | None


class RankTrack:
    """Blocks, ranks' newest blocks, and episodes by place: a rank for stragglers, else 0."""

    def __init__(self, born_ms: int) -> None:
        self.born_ms = born_ms
        self.marks: Longs = np.zeros(0, dtype=np.int64)
        self.open: dict[int, _Open] = {}
        self.closed = NOTHING
        self.thinned = NOTHING  # Up to it blocks were given up: none is opened there any more, since some ranks' figures are gone.
        self.late = 0
        self.episodes: dict[int, Episode] = {}

    def restart(self, ranks: Longs) -> None:
        """Other processes stand for some ranks now: their steps may begin again."""
        self.marks[ranks[ranks < len(self.marks)]] = NOTHING

    def take(self, ranks: Longs, blocks: Longs, figures: Doubles, times: Longs, size: int, now_ms: int) -> None:
        """Takes figures of ranks that have blocks behind them; what was taken before changes nothing."""
        self._grow(size)
        new = blocks > self.marks[ranks]
        self.late += int((new & (blocks <= self.closed)).sum())
        np.maximum.at(self.marks, ranks, blocks)
        for block in self._kept(np.unique(blocks[new & (blocks > self.closed)]).tolist()):
            one = self.open.get(block)
            if one is None:
                one = self.open[block] = _Open(len(self.marks), now_ms)
            own = np.flatnonzero(new & (blocks == block))
            one.figures[ranks[own]] = figures[own]
            one.first_ms = min(one.first_ms, int(times[own].min()))
            one.last_ms = max(one.last_ms, int(times[own].max()))

    def close(self, rule: Rule, expected: Bools | None, now_ms: int) -> list[Verdict]:
        """Closes what is to be closed, in the order of blocks. `expected` are the ranks to wait for; None where others may be running that nobody has heard of."""
        if not self.open:
            return []
        waits_ms = (rule.window_s or WAIT_S) * 1000.0
        if expected is None:
            until, expected = NOTHING, np.ones(len(self.marks), dtype=np.bool_)
        else:
            self._grow(len(expected))
            waited_for = self.marks[: len(expected)][expected]
            until = int(waited_for.min()) if len(waited_for) else max(self.open)
        every = sorted(self.open)
        late = [block for block in every if now_ms - self.open[block].heard_ms >= waits_ms]
        until = max([until, *late])
        out: list[Verdict] = []
        for block in every:
            if block > until:
                break
            out += self._judge(rule, block, expected)
            del self.open[block]
            self.closed = max(self.closed, block)
        return out

    def _kept(self, blocks: list[int]) -> list[int]:
        """Those of some blocks that are to be open. Where that is more than there is room for, half as many stay, evenly apart from the oldest to the newest."""
        blocks = [block for block in blocks if block > self.thinned or block in self.open]
        room = max(min(OPEN_MAX, _OPEN_BYTES_MAX // (8 * max(len(self.marks), 1))), 4)
        every = np.array(sorted({*self.open, *blocks}), dtype=np.int64)
        if len(every) <= room:
            return blocks
        places = np.searchsorted(every, np.linspace(float(every[0]), float(every[-1]), room // 2))
        staying = set(every[np.unique(np.minimum(places, len(every) - 1))].tolist())
        self.thinned = int(every[-1])
        for block in self.open.keys() - staying:
            del self.open[block]
        return [block for block in blocks if block in staying]

    def _judge(self, rule: Rule, block: int, expected: Bools) -> list[Verdict]:
        one = self.open[block]
        judged = {"straggler": self._straggler, "disagreement": self._disagreement, "desync": self._desync}[rule.kind](rule, block, one, expected)
        if judged is None:
            return []
        threshold = rule.threshold or 0.0
        bounds = Bounds(relation(">", threshold), relation("<=", threshold if rule.clear is None else rule.clear))
        figures = judged.figures[None, :]
        hot = bounds.hot.holds(figures)
        signs = Signs(hot, ~hot & ~np.isnan(figures), bounds.calm.holds(figures))
        step = block * (rule.window or 1)
        changes, after = advance(signs, [step], [one.last_ms], self.episodes, judged.places, pace_of(rule))
        for place, episode in after.items():
            if episode is None:
                self.episodes.pop(place, None)
            else:
                self.episodes[place] = episode
        return [Verdict(change, judged.ranks[change.column], step, one.last_ms, float(judged.values[change.column]), judged.baseline) for change in changes]

    def _straggler(self, rule: Rule, block: int, one: _Open, expected: Bools) -> _Judged | None:  # noqa: ARG002  # the kinds have one signature
        there = np.flatnonzero(~np.isnan(one.figures))
        if len(there) < RANKS_MIN:
            return None
        values = one.figures[there]
        middle = float(np.median(values))
        ratios = values / middle if middle > 0.0 else np.full(len(values), np.nan)
        places: list[int] = there.tolist()
        return _Judged(places, ratios, values, places, middle)

    def _disagreement(self, rule: Rule, block: int, one: _Open, expected: Bools) -> _Judged | None:  # noqa: ARG002  # the kinds have one signature
        there = np.flatnonzero(~np.isnan(one.figures))
        if len(there) < 2:
            return None
        values = one.figures[there]
        middle = float(np.median(values))
        spread = float(values.max() - values.min())
        if rule.measure != "absolute":
            spread = spread / abs(middle) if middle != 0.0 else (0.0 if spread == 0.0 else np.nan)
        farthest = int(there[int(np.abs(values - middle).argmax())])
        return _Judged([0], np.array([spread]), np.array([spread]), [farthest], middle)

    def _desync(self, rule: Rule, block: int, one: _Open, expected: Bools) -> _Judged | None:
        marks = self.marks[: len(expected)]
        behind = np.flatnonzero(expected & (marks < block) & (marks != NOTHING))
        if len(behind):
            # Given up waiting: how far the fastest is ahead of the one that has come the least far. Of a rank that has said nothing yet that cannot be said.
            slowest = int(behind[int(marks[behind].argmin())])
            lead = int(self.marks.max() - marks[slowest])
        else:
            there = np.flatnonzero(~np.isnan(one.figures))
            if not len(there):
                return None
            slowest = int(there[int(one.figures[there].argmax())])
            lead = max(other for other, ahead in self.open.items() if ahead.first_ms <= one.last_ms) - block
        steps = float(lead * (rule.window or 1))
        return _Judged([0], np.array([steps]), np.array([steps]), [slowest], None)

    def _grow(self, size: int) -> None:
        missing = size - len(self.marks)
        if missing <= 0:
            return
        self.marks = np.concatenate((self.marks, np.full(missing, NOTHING, dtype=np.int64)))
        for one in self.open.values():
            one.figures = np.concatenate((one.figures, np.full(missing, np.nan)))
