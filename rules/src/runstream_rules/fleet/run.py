"""One run as the second stage sees it: its ranks, what rules across ranks gather, and what rules on its state have said.

Digests may come again, and in any order between writers. Nothing of a rank is taken twice, and a block of steps is judged once; what a rule does wrong stays with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from runstream_rules.errors import DigestRefused
from runstream_rules.fleet.ranks import Ranks
from runstream_rules.fleet.track import RankTrack, Verdict
from runstream_rules.kinds import BLOCK_KINDS
from runstream_rules.kinds.run_state import SILENT_S
from runstream_rules.series import Series
from runstream_rules.shapes import Moment, Opening, alert
from runstream_schemas.ids import named_uuid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from runstream_rules.book import RuleBook, RuleKey
    from runstream_rules.core import Policy
    from runstream_schemas.records import Alert, Digest, Rule

    Longs = NDArray[np.int64]

TrackKey = tuple[str, int, str, str, str]  # Rule and version, metric, context, subject.
_UNKNOWN_RULE_MS = 60_000  # For so long figures are kept for a rule that has not come yet: the rule topic may be behind.
_TRACK_NAMES_BYTES_MAX = 2 << 20  # Of the keys of a run's tracks, which stand in its own entry.
_NO_SERIES = Series("", "", "")


@dataclass(slots=True)
class Said:
    """What a rule on the run's state has said: whether it fires, how often it did in the attempt, and of whom."""

    firing: bool
    attempt: str
    count: int
    rank: int
    writer: int
    opened_ms: int


class RunWatch:
    """A run. It changes by `take` and `tick`; `changed` names the tracks that did, and the empty key for everything else. `untracked` counts figures of series for which it had no room."""

    def __init__(self, run_id: str, project: str, now_ms: int) -> None:
        self.run_id = run_id
        self.project = project
        self.heard_ms = now_ms
        self.ranks = Ranks()
        self.tracks: dict[TrackKey, RankTrack] = {}
        self.untracked = 0
        self.said: dict[RuleKey, Said] = {}
        self.failed: dict[RuleKey, Exception] = {}
        self.head_changed = True
        self.changed: set[TrackKey] = set()

    def take(self, digest: Digest, book: RuleBook, now_ms: int, policy: Policy) -> list[Alert]:
        """Takes a digest of the run; gives alerts.

        Raises:
            DigestRefused: its lists do not fit each other; nothing of it was taken.
        """
        _check(digest)
        self.heard_ms = now_ms
        self.head_changed = True
        restarted, stands = self.ranks.hear(digest, now_ms)
        if len(restarted):
            for key, track in self.tracks.items():
                track.restart(restarted)
                self.changed.add(key)
        self._gather(digest, stands, now_ms)
        return [*self._closed(book, now_ms, policy), *self._states(book, now_ms, policy)]

    def tick(self, book: RuleBook, now_ms: int, policy: Policy, *, hears: bool) -> list[Alert]:
        """What the passing of time comes to: blocks that waited too long, and silence. `hears` says that all that was said has been read."""
        if not hears:
            self.ranks.hear_all(now_ms)
        for key in [key for key, track in self.tracks.items() if book.rule(key[:2]) is None and now_ms - track.born_ms > _UNKNOWN_RULE_MS]:
            del self.tracks[key]
            self.changed.add(key)
        gone = [key for key in self.said if book.rule(key) is None]
        for key in gone:
            del self.said[key]
            self.head_changed = True
        return [*self._closed(book, now_ms, policy), *self._states(book, now_ms, policy)]

    @property
    def late(self) -> int:
        """Figures that came for blocks which were closed."""
        return sum(track.late for track in self.tracks.values())

    def _gather(self, digest: Digest, stands: NDArray[np.bool_], now_ms: int) -> None:
        if not len(digest.tracks):
            return
        tracks, places = np.array(digest.tracks, dtype=np.int64), np.array(digest.places, dtype=np.int64)
        ranks = np.array(digest.ranks, dtype=np.int64)[places]
        blocks, times = np.array(digest.blocks, dtype=np.int64), np.array(digest.times, dtype=np.int64)
        figures = np.array(digest.figures, dtype=np.float64)
        counts = stands[places] & np.isfinite(figures)
        columns = (digest.rule_ids, digest.rule_versions, digest.metrics, digest.contexts, digest.subjects)
        size: int | None = None
        for number, key in enumerate(zip(*columns, strict=True)):
            own = counts & (tracks == number)
            if not own.any() or key[:2] in self.failed:
                continue
            track = self.tracks.get(key)
            if track is None:
                size = sum(map(_key_bytes, self.tracks)) if size is None else size
                size += _key_bytes(key)
                if size > _TRACK_NAMES_BYTES_MAX:
                    size -= _key_bytes(key)
                    self.untracked += int(own.sum())
                    continue
                track = self.tracks[key] = RankTrack(now_ms)
                self.head_changed = True
            track.take(ranks[own], blocks[own], figures[own], times[own], len(self.ranks), now_ms)
            self.changed.add(key)

    def _closed(self, book: RuleBook, now_ms: int, policy: Policy) -> list[Alert]:
        out: list[Alert] = []
        expected = self.ranks.expected(now_ms, int(SILENT_S * 1000)) if self.ranks.is_told() else None
        for key, track in self.tracks.items():
            rule = book.rule(key[:2])
            if rule is None or rule.kind not in BLOCK_KINDS or not track.open or key[:2] in self.failed:
                continue
            count = len(track.open)
            try:
                with np.errstate(all="ignore"):
                    verdicts = track.close(rule, expected, now_ms)
            except Exception as error:  # noqa: BLE001  # whatever a rule does wrong must not stop the others
                self.failed[key[:2]] = error
                continue
            if len(track.open) != count:
                self.changed.add(key)
            out += [self._across(rule, Series(*key[2:]), verdict, now_ms, policy) for verdict in verdicts]
        return out

    def _across(self, rule: Rule, series: Series, verdict: Verdict, now_ms: int, policy: Policy) -> Alert:
        change = verdict.change
        about = str(verdict.rank) if rule.kind == "straggler" else ""
        named = named_uuid("alert", rule.rule_id, str(rule.version), self.run_id, "across", *series, about, str(change.opened_seq))
        opening = Opening(int(self.ranks.writers[verdict.rank]), max(change.opened_seq, 0), change.opened_ms)
        moment = Moment(verdict.rank, verdict.step, verdict.time_ms, verdict.value, verdict.baseline)
        state = "firing" if change.firing else "resolved"
        return alert(rule, state, self.run_id, self.project, series, opening, moment, policy.decision(now_ms), named)

    def _states(self, book: RuleBook, now_ms: int, policy: Policy) -> list[Alert]:
        out: list[Alert] = []
        for rule in book.of_run(self.run_id, self.project):
            if rule.kind != "run_state":
                continue
            found = self.ranks.among(rule.states, now_ms, int((rule.window_s or SILENT_S) * 1000))
            if rule.rank is not None:
                found = found[found == rule.rank]
            key = (rule.rule_id, rule.version)
            said = self.said.get(key)
            if len(found) and (said is None or not said.firing):
                rank = int(found[0])
                attempt = self.ranks.attempt(rank)
                count = said.count + 1 if said is not None and said.attempt == attempt else 0
                heartbeat_ms = int(self.ranks.heartbeats[rank])
                said = self.said[key] = Said(True, attempt, count, rank, int(self.ranks.writers[rank]), heartbeat_ms)
            elif not len(found) and said is not None and said.firing:
                said.firing = False
            else:
                continue
            self.head_changed = True
            named = named_uuid("alert", rule.rule_id, str(rule.version), self.run_id, "state", said.attempt, str(said.count))
            time_ms = said.opened_ms if said.firing else int(self.ranks.heartbeats[said.rank])
            moment = Moment(said.rank, 0, time_ms, float(len(found)), None)
            opening = Opening(said.writer, 0, said.opened_ms)
            state = "firing" if said.firing else "resolved"
            out.append(alert(rule, state, self.run_id, self.project, _NO_SERIES, opening, moment, policy.decision(now_ms), named))
        return out


def _key_bytes(key: TrackKey) -> int:
    """What a track's key takes in the run's entry, as JSON has it."""
    return len(json.dumps(key))


def _check(digest: Digest) -> None:
    writers = (digest.ranks, digest.states, digest.attempts, digest.starts, digest.heartbeats, digest.world_sizes)
    tracks = (digest.rule_versions, digest.metrics, digest.contexts, digest.subjects)
    items = (digest.places, digest.blocks, digest.figures, digest.times)
    for first, others in ((digest.writers, writers), (digest.rule_ids, tracks), (digest.tracks, items)):
        if any(len(one) != len(first) for one in others):
            raise DigestRefused(f"a digest's lists must be of one length, got {len(first)} and {sorted({len(one) for one in others})}")
    for places, count in ((digest.tracks, len(digest.rule_ids)), (digest.places, len(digest.writers))):
        if len(places) and not 0 <= min(places) <= max(places) < count:
            raise DigestRefused(f"a digest's items must point at one of its {count} writers or tracks, got {min(places)} to {max(places)}")
