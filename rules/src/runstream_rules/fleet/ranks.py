"""The ranks of one run: who stands for each, in which state, and when it was heard of last.

A rank may be started again: the process that began last stands for it, whatever the order in which they are heard of. Columns by rank, so that ten thousand are as quick as ten.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from runstream_schemas.ids import named_uuid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from runstream_schemas.records import Digest

    Longs = NDArray[np.int64]
    Bools = NDArray[np.bool_]

RANKS_MAX = 100_000  # All of them go into one message.
STATES = ("", "unknown", "running", "finished", "failed", "killed", "preempted", "crashed")
_ABSENT, _UNKNOWN, _RUNNING = 0, 1, 2
# Attempts that are told apart. Past them those are forgotten that nobody has any more; where each of them is somebody's, the rest have none.
_NAMES_MAX, _NAME_CHARACTERS_MAX = 1_024, 64
COLUMNS = ("writers", "starts", "states", "heartbeats", "heard", "attempts")


class Ranks:
    """By rank: `writers`, `starts`, `states` (places in STATES; 0 where nobody was heard of), `heartbeats`, `heard` (the listener's clock) and `attempts` (places in `names`)."""

    def __init__(self) -> None:
        self.world = 0
        self._world_start = -1
        self.names: list[str] = []
        self._may_forget = True
        self.writers = self.starts = self.states = self.heartbeats = self.heard = self.attempts = np.zeros(0, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.writers)

    def hear(self, digest: Digest, now_ms: int) -> tuple[Longs, Bools]:
        """Takes what a digest says of writers. Gives the ranks at which another process stands now, and for each writer of the digest whether it is the one that stands for its rank."""
        self._may_forget = True
        ranks = np.array(digest.ranks, dtype=np.int64)
        writers, starts = np.array(digest.writers, dtype=np.int64), np.array(digest.starts, dtype=np.int64)
        inside = (ranks >= 0) & (ranks < RANKS_MAX)
        if inside.any():
            self._grow(int(ranks[inside].max()) + 1)
        order = np.argsort(starts, kind="stable")
        places: list[int] = order[inside[order]].tolist()
        changed: list[int] = []
        for place in places:
            rank = int(ranks[place])
            other = self.writers[rank] != writers[place]
            if self.states[rank] != _ABSENT and other and starts[place] < self.starts[rank]:
                continue
            if other:
                if self.states[rank] != _ABSENT:
                    changed.append(rank)
                self.writers[rank], self.starts[rank], self.states[rank] = writers[place], starts[place], _UNKNOWN
                self.heartbeats[rank], self.heard[rank] = 0, now_ms
                self.attempts[rank] = self._name(digest.attempts[place])
            self._live(digest, place, rank, now_ms)
        stands = inside.copy()
        stands[inside] = self.writers[ranks[inside]] == writers[inside]
        return np.array(changed, dtype=np.int64), stands

    def expected(self, now_ms: int, silent_ms: int) -> Bools:
        """Ranks to wait for: those of the world that have not ended and are not silent, and those nobody has heard of yet."""
        running = (self.states == _UNKNOWN) | ((self.states == _RUNNING) & (now_ms - self.heard < silent_ms))
        running[: self.world] |= self.states[: self.world] == _ABSENT
        return running

    def is_told(self) -> bool:
        """Whether the size of the world has been told by every process that is known of, or by one that began later: figures may come before what their processes say of themselves."""
        return not bool(((self.states == _UNKNOWN) & (self.starts > self._world_start)).any())

    def among(self, states: Sequence[str], now_ms: int, silent_ms: int) -> Longs:
        """Ranks in one of some states, `silent` among them: running without a sign of life for so long."""
        codes = [STATES.index(state) for state in states if state in STATES[_RUNNING:]]
        found = np.isin(self.states, codes)
        if "silent" in states:
            found |= (self.states == _RUNNING) & (now_ms - self.heard >= silent_ms)
        return np.flatnonzero(found).astype(np.int64)

    def any_running(self) -> bool:
        """Whether a rank may still have something to say."""
        return bool(((self.states == _UNKNOWN) | (self.states == _RUNNING)).any())

    def hear_all(self, now_ms: int) -> None:
        """Counts everybody as heard of now: who could not listen knows nothing of silence."""
        self.heard[:] = now_ms

    def count_as_told(self) -> None:
        """Takes the world for what was heard of it: for who reads what is over, and waits for nobody's word."""
        self._world_start = max([self._world_start, *self.starts.tolist()])

    def attempt(self, rank: int) -> str:
        """The attempt of the process that stands for a rank."""
        return self.names[int(self.attempts[rank])]

    def _live(self, digest: Digest, place: int, rank: int, now_ms: int) -> None:
        state = digest.states[place]
        if state not in STATES[_RUNNING:]:
            return
        heartbeat = digest.heartbeats[place]
        # Heartbeats that come twice, or late, change nothing; an end that comes again is one.
        if state == "running" and (heartbeat < self.heartbeats[rank] or (self.states[rank] > _RUNNING and heartbeat <= self.heartbeats[rank])):
            return
        self.states[rank], self.heartbeats[rank], self.heard[rank] = STATES.index(state), heartbeat, now_ms
        if digest.starts[place] >= self._world_start:
            self._world_start = digest.starts[place]
            self.world = min(max(digest.world_sizes[place], 0), RANKS_MAX)
            self._grow(self.world)

    def _grow(self, size: int) -> None:
        if size <= len(self):
            return
        size = max(size, min(2 * len(self), RANKS_MAX))
        for name in COLUMNS:
            before: Longs = getattr(self, name)
            setattr(self, name, np.concatenate((before, np.zeros(size - len(before), dtype=np.int64))))

    def _name(self, attempt: str) -> int:
        if len(attempt) > _NAME_CHARACTERS_MAX:
            attempt = named_uuid("attempt", attempt)
        if attempt not in self.names:
            if len(self.names) >= _NAMES_MAX and self._may_forget:
                self._forget_names()
            if len(self.names) < _NAMES_MAX:
                self.names.append(attempt)
            elif "" in self.names:
                return self.names.index("")
            else:
                self.names.append(attempt := "")
        return self.names.index(attempt)

    def _forget_names(self) -> None:
        """Lets those go that nobody has any more; once for what is heard at once, since it looks at every rank."""
        self._may_forget = False
        used, places = np.unique(self.attempts, return_inverse=True)
        self.names = [self.names[place] for place in used.tolist()]
        self.attempts = places.astype(np.int64)
