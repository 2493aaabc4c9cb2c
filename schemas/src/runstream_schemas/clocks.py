"""Wall clocks that are set back under a process: librdkafka's threads wait by the wall clock, so that those of a consumer would connect again, or wake whoever polls, that much later.

A worker ends then, within a second or two, and is started again by whoever looks after it; the agent and `runstream sync`, which nobody looks after, make another producer instead.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SET_BACK_S = 5.0  # A clock that is set back by less delays nothing by more than that.
_LOOK_S = 1.0


@dataclass(slots=True)
class WallClock:
    """The wall clock as it was when it was looked at last, against one that nobody sets."""

    ahead_s: float

    def set_back_s(self, wall_s: float, monotonic_s: float) -> float:
        """By how many seconds it was set back since the last look; 0 where it was not, or by no more than SET_BACK_S."""
        before, self.ahead_s = self.ahead_s, wall_s - monotonic_s
        by_s = before - self.ahead_s
        return by_s if by_s > SET_BACK_S else 0.0


def end_where_set_back(say: Callable[[float], None]) -> None:
    """Ends this process with exit code 1 once its wall clock is set back; `say` hears before by how many seconds. What is not committed is read again.

    Returns at once. The threads that would end in order may hang for as long as the clock was set back, so the process ends hard, which every part of it survives.
    """
    clock = WallClock(time.time() - time.monotonic())

    def look() -> None:
        while not (by_s := clock.set_back_s(time.time(), time.monotonic())):
            time.sleep(_LOOK_S)  # Nothing tells portably that a clock was set; it can only be looked at.
        say(by_s)
        os._exit(1)

    threading.Thread(target=look, name="wall-clock", daemon=True).start()
