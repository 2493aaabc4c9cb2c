"""Rules on a run that is over, or as far as it has come: the same core, given stored rows in the order in which they were logged.

What the workers hear besides rows, signs of life, is stored as the newest one of each process alone. So they are taken to have come regularly from its start to that one, and ranks to
have been read without delay: which episodes there are, and their rows, is what the workers find where that was so. Which rules can be judged only in part, `doubts` says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from runstream_rules.book import RuleBook
from runstream_rules.core import Policy, decide
from runstream_rules.digests import Digester
from runstream_rules.fleet import RunWatch
from runstream_rules.fleet.track import RANKS_MIN, WAIT_S
from runstream_rules.kinds.run_state import SILENT_S
from runstream_rules.pulse import pulse
from runstream_schemas.records import FINAL_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runstream_rules.book import RuleKey
    from runstream_rules.judge import Item
    from runstream_rules.state import Head, WriterState
    from runstream_schemas.records import Alert, MetricFrame, MetricGroup, Rule, Writer

BEAT_MS = 5000  # How often agents give signs of life unless told otherwise.
_ROUND_MS = 5000  # How often ranks are looked at together; what alerts say does not depend on it.
_NEVER_LATE = Policy(late_ms=1 << 60)
_ACROSS = ("straggler", "desync", "disagreement")


class _Said(NamedTuple):
    """Something that the second stage hears at a moment: a figure of a writer's block of steps, or its state, which may be its last sign of life and no end."""

    time_ms: int
    writer: int
    item: Item | None
    record: Writer | None
    falls_silent: bool = False


class Rehearsal:
    """One run. Give it every writer, then `conclude`; `alerts` are in the order of their times after that, and `failed` are rules that broke."""

    def __init__(self, rules: Iterable[Rule], run_id: str, project: str, now_ms: int) -> None:
        """Rules count for all rows of the run, whenever they were made; one that does not fit is refused by RuleRefused."""
        self._book = RuleBook()
        for rule in rules:
            refused = self._book.learn(replace(rule, time_ms=0, active_ms=0, writer=0, ordinal=0, seq=-1))
            if refused is not None:
                raise refused
        self._run_id = run_id
        self._project = project
        self._now_ms = now_ms
        self._heads: dict[int, Head] = {}
        self._said: list[_Said] = []
        self.alerts: list[Alert] = []
        self.failed: dict[RuleKey, Exception] = {}

    def writer(self, frames: Iterable[MetricFrame], life: Writer | None) -> None:
        """Takes all frames of one writer, in order, and what is stored of its process, if anything."""
        state: WriterState | None = None
        beats = _Beats(life) if self._book.has_kind("stale") else None
        for frame in frames:
            for beat_ms, part in beats.cut(frame) if beats is not None else ((None, frame),):
                if part is not None:
                    state = self._take(state, part)
                if beat_ms is not None and state is not None:
                    state = self._pulsed(state, beat_ms)
        if state is None:
            return
        self._heads[state.writer] = state.head
        if beats is not None and life is not None:
            for beat_ms in beats.until(life.heartbeat_ms):
                state = self._pulsed(state, beat_ms)
            if life.version >= FINAL_VERSION:
                self._pulsed(state, life.heartbeat_ms, alive=False)

    def conclude(self, lives: Sequence[Writer], crashed_ms: int) -> None:
        """Judges the run as a whole. `lives` is what is stored of its processes; `crashed_ms` is after how long a silent one is taken for crashed."""
        if self._book.watches_run(self._run_id, self._project):
            self._said += _signs([one for one in lives if one.kind == "rank"], crashed_ms)
            self._second_stage()
        self.alerts.sort(key=lambda one: (one.time_ms, one.rule_id, one.rank, one.context, one.subject, one.metric, one.version))

    def _take(self, state: WriterState | None, frame: MetricFrame) -> WriterState:
        outcome = decide(state, [frame], self._book, self._now_ms, _NEVER_LATE)
        self.alerts += outcome.alerts
        self._said += [_Said(item.time_ms, frame.writer, item, None) for item in outcome.items]
        self._switch_off(outcome.failed)
        return outcome.state

    def _pulsed(self, state: WriterState, beat_ms: int, *, alive: bool = True) -> WriterState:
        state, alerts, _ = pulse(state, beat_ms, state.head.mark, self._book, self._now_ms, _NEVER_LATE, alive=alive)
        self.alerts += alerts
        return state

    def _switch_off(self, failed: Mapping[RuleKey, Exception]) -> None:
        for key, reason in failed.items():
            self.failed.setdefault(key, reason)
            self._book.switch_off(key, reason)

    def _second_stage(self) -> None:
        if not self._said:
            return
        self._said.sort(key=lambda one: one.time_ms)
        first_ms = self._said[0].time_ms
        run = RunWatch(self._run_id, self._project, first_ms)
        silent: dict[int, int] = {}  # Writers that gave their last sign of life, and did not say that it was.
        waits_ms = int(1000 * max([WAIT_S, SILENT_S, *(rule.window_s for rule in self._book.of_run(self._run_id, self._project))]))
        end_ms = min(self._now_ms, self._said[-1].time_ms + waits_ms + 2 * _ROUND_MS)
        at, round_ms = 0, first_ms
        while round_ms <= max(end_ms, self._said[-1].time_ms + _ROUND_MS):
            digester = Digester(self._run_id, self._project)
            before = at
            while at < len(self._said) and self._said[at].time_ms <= round_ms:
                self._hear(self._said[at], digester, silent)
                at += 1
            self._refresh(run, silent, round_ms)
            for digest in digester.take() if at > before else ():
                self.alerts += run.take(digest, self._book, round_ms, _NEVER_LATE)
            self.alerts += run.tick(self._book, round_ms, _NEVER_LATE, hears=True)
            self._switch_off(run.failed)
            run.failed.clear()
            round_ms += _ROUND_MS

    def _hear(self, said: _Said, digester: Digester, silent: dict[int, int]) -> None:
        if said.record is not None:
            digester.live(said.record)
            if said.falls_silent:
                silent[said.writer] = said.record.rank
            else:
                silent.pop(said.writer, None)
        elif said.item is not None:
            digester.say(said.writer, self._heads[said.writer], [said.item])

    @staticmethod
    def _refresh(run: RunWatch, silent: Mapping[int, int], now_ms: int) -> None:
        """Everybody gave a sign of life, but for those whose last one has come, and nobody is to be heard of still."""
        ranks = run.ranks
        kept = {rank: int(ranks.heard[rank]) for writer, rank in silent.items() if rank < len(ranks) and int(ranks.writers[rank]) == writer}
        ranks.hear_all(now_ms)
        ranks.count_as_told()
        for rank, heard_ms in kept.items():
            ranks.heard[rank] = heard_ms


def doubts(rule: Rule, lives: Sequence[Writer]) -> str:
    """What of a rule cannot be judged by what is stored; empty where all of it can."""
    ranks = [one for one in lives if one.kind == "rank"]
    if rule.kind == "run_state":
        if not ranks:
            return "cannot be judged: nothing is stored of the run's processes"
        return "judged in part: of silences only each process's last one is stored" if "silent" in rule.states else ""
    if rule.kind == "stale":
        if not lives:
            return "judged in part: nothing is stored of the run's processes, so that silence after a last row does not count"
        return (
            f"judged as if each process had given a sign of life every {BEAT_MS // 1000} s until its last one, which is what is stored: times are right to that"
        )
    if rule.kind in _ACROSS:
        count = len({one.rank for one in ranks})
        if ranks and rule.kind == "straggler" and count < RANKS_MIN:
            return f"cannot fire: it needs {RANKS_MIN} ranks, and the run has {count}"
        if ranks and count < 2:
            return "cannot fire: it compares ranks, and the run has one"
        return "judged as if all ranks had been read without delay"
    return ""


def _signs(lives: Sequence[Writer], crashed_ms: int) -> Iterator[_Said]:
    """Start, last sign of life and end of each process; where it was taken for crashed, that comes later than its last sign."""
    for one in lives:
        running = replace(one, state="running", heartbeat_ms=one.started_ms)
        yield _Said(one.started_ms, one.writer, None, running)
        last_ms = max(one.heartbeat_ms, one.started_ms)
        ended = one.state != "running"
        guessed = ended and one.version < FINAL_VERSION
        if not ended or guessed:
            yield _Said(last_ms, one.writer, None, replace(running, heartbeat_ms=last_ms), falls_silent=True)
        if ended:
            yield _Said(last_ms + (crashed_ms if guessed else 0), one.writer, None, one)


class _Beats:
    """The signs of life of one writer, and its frames cut at them."""

    def __init__(self, life: Writer | None) -> None:
        self._next_ms: int | None = None if life is None else life.started_ms + BEAT_MS

    def cut(self, frame: MetricFrame) -> Iterator[tuple[int | None, MetricFrame | None]]:
        """Parts of a frame, each with the sign of life after it; a sign without rows before it comes alone."""
        seqs = np.concatenate([group.seqs for group in frame.groups]) if frame.groups else np.empty(0, dtype=np.int64)
        if not len(seqs):
            yield None, frame
            return
        times = np.concatenate([group.times for group in frame.groups])
        order = np.argsort(seqs, kind="stable")
        # Where clocks go back, the rows were logged after what was logged before them all the same.
        seqs, times = seqs[order], np.maximum.accumulate(times[order])
        if self._next_ms is None:
            self._next_ms = int(times[0]) + BEAT_MS
        at = frame.first_seq
        for beat_ms in self.until(int(times[-1])):
            place = int(np.searchsorted(times, beat_ms, side="left"))
            end = int(seqs[place]) if place < len(seqs) else frame.next_seq
            yield beat_ms, _between(frame, at, end) if end > at else None
            at = max(at, end)
        if at < frame.next_seq:
            yield None, _between(frame, at, frame.next_seq)

    def until(self, time_ms: int) -> Iterator[int]:
        """Signs of life that have not come yet, up to a moment."""
        while self._next_ms is not None and self._next_ms <= time_ms:
            self._next_ms += BEAT_MS
            yield self._next_ms - BEAT_MS


def _between(frame: MetricFrame, first_seq: int, next_seq: int) -> MetricFrame:
    groups: list[MetricGroup] = []
    for group in frame.groups:
        own = (group.seqs >= first_seq) & (group.seqs < next_seq)
        if own.any():
            groups.append(group._replace(seqs=group.seqs[own], steps=group.steps[own], times=group.times[own], values=group.values[own]))
    return frame._replace(first_seq=first_seq, next_seq=next_seq, groups=tuple(groups))
