"""What sources hand over: readings by name, those of the machine and those of processes; and how counters become readings. Pure.

A reading that is not there is a gap: its name is missing, and no zero stands in its place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

# A reading's name with its labels, such as `gpu.utilization{device="0"}`, and its value.
Readings = dict[str, float]


@dataclass(frozen=True, slots=True)
class Taken:
    """Readings of one round: of the machine, and of processes by process id, whose names carry no rank yet (name and other labels apart)."""

    machine: Readings = field(default_factory=Readings)
    by_pid: dict[int, dict[tuple[str, str], float]] = field(default_factory=dict[int, dict[tuple[str, str], float]])

    def add(self, other: Taken) -> None:
        """Takes another source's readings in."""
        self.machine.update(other.machine)
        for pid, readings in other.by_pid.items():
            self.by_pid.setdefault(pid, {}).update(readings)

    def of_run(self, pids: Mapping[int, int]) -> Readings:
        """The readings for one run: the machine's, and those of its processes; `pids` is rank by process id."""
        out = dict(self.machine)
        for pid, rank in pids.items():
            for (name, labels), value in self.by_pid.get(pid, {}).items():
                out[f'{name}{{rank="{rank}"{labels}}}'] = value
        return out


class Rates:
    """Counters to rates: the growth a second since the reading before. One that went back, or was not there at the reading before, has none."""

    def __init__(self) -> None:
        self._last: Mapping[str, float] = {}
        self._at = 0.0

    def of(self, counters: Mapping[str, float], now: float) -> Readings:
        """Rates by name at `now` in seconds; called once a reading, with all counters that there are."""
        last, seconds = self._last, now - self._at
        self._last, self._at = counters, now
        if seconds <= 0:
            return {}
        return {name: (value - last[name]) / seconds for name, value in counters.items() if name in last and value >= last[name]}


class Totals:
    """Counters as they stand, which begin anew at 0 when their device or driver does: the reading at which one went back is left out, so that no difference is taken across it."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def of(self, counters: Mapping[str, float]) -> Readings:
        """The counters by name that did not go back."""
        out = {name: value for name, value in counters.items() if value >= self._last.get(name, value)}
        self._last.update(counters)
        return out
