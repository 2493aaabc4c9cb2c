"""All readings of this node in rounds: every source is asked at once, and a round is over when all have answered or `LATE_S` have passed."""

from __future__ import annotations

import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from runstream_producers.hardware.asked import Answer, Source
from runstream_producers.hardware.gpus import Gpus
from runstream_producers.hardware.infiniband import Infiniband
from runstream_producers.hardware.node import Node
from runstream_producers.hardware.processes import Processes
from runstream_producers.hardware.taken import Taken

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

LATE_S = 2.0  # Of an interval of at least a second: long for a node that works, and short enough to be told of one that does not.


class Sampler:
    """The sources of this node; `paths` are folders whose file systems are looked at. Its threads begin with the first round."""

    def __init__(self, paths: Sequence[str] = ("/",), gpus: Gpus | None = None, infiniband: Infiniband | None = None) -> None:
        node, processes = Node(paths), Processes()
        self._gpus = found = gpus or Gpus()
        fabric = infiniband or Infiniband()
        self._sources = (
            Source("node", lambda now, _: node.read(now), lambda: "file systems, disks and network"),
            Source("processes", processes.read, lambda: "processes of ranks"),
            Source("gpus", lambda now, _: found.read(now), lambda: found.doing),
            Source("infiniband", lambda now, _: fabric.read(now), lambda: "ports"),
        )
        self._answers: SimpleQueue[Answer] = SimpleQueue()
        self._number = 0
        self._waiting: set[Source] = set()
        self._taken = Taken()
        self._begun_at = 0.0

    @property
    def described(self) -> Mapping[str, str]:
        """What is known of the devices, as texts by name."""
        return dict(self._gpus.described)

    def begin(self, now: float, pids: Collection[int]) -> None:
        """Begins a round at `now` in seconds of the monotonic clock, for the machine and these processes; gives up one that is under way."""
        self._number += 1
        self._taken = Taken()
        self._begun_at = now
        self._waiting = {source for source in self._sources if source.begin(self._number, now, tuple(pids), self._answers)}

    def taken(self, now: float, wait_s: float) -> Taken | None:
        """What the round came to, once it is over; None before. Waits for it at most `wait_s`."""
        until = time.monotonic() + wait_s
        while self._waiting:
            try:
                number, source, taken = self._answers.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                if now + wait_s - self._begun_at < LATE_S:
                    return None
                for source in self._waiting:
                    source.tell_late(LATE_S)
                self._waiting = set()
                break
            if number == self._number:  # What comes too late is of another time.
                self._taken.add(taken)
                self._waiting.discard(source)
        return self._taken

    def read(self, now: float, pids: Mapping[int, int], wait_s: float = LATE_S) -> dict[str, float]:
        """One whole round for one run, for those who may wait; `pids` is rank by process id."""
        self.begin(now, pids)
        return (self.taken(now, wait_s) or self._taken).of_run(pids)

    def close(self) -> None:
        """Ends the threads; one that hangs is left behind."""
        for source in self._sources:
            source.close()
