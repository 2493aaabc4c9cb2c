"""Points of a process's work at which it dies by its own hand, armed from outside while it runs: one number for each point, in a mapped file.

The process that is to die is an ordinary one whose functions are replaced before it begins (`dying_rank`, `dying_agent`), so that nothing of this stands in the code that is tested.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NoReturn

from tests.told import make, teller

# In the environment: the traps of a rank, and those of the agents that it starts.
OF_RANK, OF_AGENT = "TEST_TRAP_OF_RANK", "TEST_TRAP_OF_AGENT"
# packed: a row is packed, and nothing of it is in the journal. torn: its lead and half of it are. published: all of it is, and the call has not returned. allocated: the next segment
# has its room, and neither header nor name. rotated: it is named and empty. ending: the event before the end is in the journal, its end is not. ended: it is, and the writer's lock is
# still held.
OF_ROWS = ("packed", "torn", "published")
OF_SEGMENTS = ("allocated", "rotated")
OF_ENDS = ("ending", "ended")
RANK_POINTS = (*OF_ROWS, *OF_SEGMENTS, *OF_ENDS)
# begun: it holds the lock and has said nothing. registered: the schemas are handed over, none acknowledged. taken: it has taken a journal up, and sent nothing of it. handed: a frame is
# librdkafka's. answered: Kafka has frames, the journal's mark is where it was. half a mark: half of the new mark is written. moved: all of it is. marked: it stands in a later
# segment, those before it are there. told: the last state of a writer is stored, its journal is not marked as done. done: it is marked. removing: it has the name of those that are
# removed, and all its files.
OF_BEGINNINGS = ("begun", "registered", "taken")
OF_WORK = ("handed", "answered", "half a mark", "moved", "marked")
OF_JOURNALS_ENDS = ("told", "done", "removing")
AGENT_POINTS = (*OF_BEGINNINGS, *OF_WORK, *OF_JOURNALS_ENDS)
_ARMED, _SPRUNG = 1, 2


class Trap:
    """The traps of some process, or of several, the first of whom to come by an armed point dies there."""

    def __init__(self, path: Path, points: tuple[str, ...]) -> None:
        """Opens the file, or makes it."""
        if not path.exists():
            make(path, len(points))
        self._numbers = teller(path)
        self._points = points

    def arm(self, point: str) -> None:
        """From now on the point is deadly, for one process."""
        self._numbers[self._points.index(point)] = _ARMED

    def disarm(self, point: str) -> None:
        """The point is harmless again, unless somebody died there."""
        if self.armed(point):
            self._numbers[self._points.index(point)] = 0

    def armed(self, point: str) -> bool:
        """Whether the next one there dies."""
        return self._numbers[self._points.index(point)] == _ARMED

    def sprung(self, point: str) -> bool:
        """Whether somebody died there."""
        return self._numbers[self._points.index(point)] == _SPRUNG

    @property
    def death(self) -> str:
        """A point at which somebody died; empty where nobody did."""
        return next((point for point in self._points if self.sprung(point)), "")

    def here(self, point: str) -> None:
        """Called by a process that is at a point."""
        if self.armed(point):
            self.spring(point)

    def spring(self, point: str) -> NoReturn:
        """Dies."""
        self._numbers[self._points.index(point)] = _SPRUNG
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("this process goes on after SIGKILL")
