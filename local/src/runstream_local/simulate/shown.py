"""How far a simulation is, on standard error: a bar where that is a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from runstream_sinks.progress import LINE_INTERVAL_S

if TYPE_CHECKING:
    from collections.abc import Generator

    from runstream_local.simulate.fleet import Progress
    from runstream_local.simulate.signals import Fleet

_STALLED_S = 3.0  # From when on it is said that Kafka takes nothing.


class Shown(Protocol):
    """Where it is shown."""

    def logging(self, progress: Progress) -> None:
        """The fleet logs."""
        ...

    def shipping(self, writers: int) -> None:
        """All is logged; so many writers have something that Kafka does not hold yet."""
        ...


class _Nowhere:
    def logging(self, progress: Progress) -> None: ...

    def shipping(self, writers: int) -> None: ...


class _OnBar:
    def __init__(self, bar: Bar, fleet: Fleet) -> None:
        self._bar = bar
        self._fleet = fleet
        self._task = bar.add_task(_words(fleet, None), total=fleet.points)

    def logging(self, progress: Progress) -> None:
        self._bar.update(self._task, completed=progress.points, description=_words(self._fleet, progress))

    def shipping(self, writers: int) -> None:
        self._bar.update(self._task, completed=self._fleet.points, description=f"shipping what is left of {writers:,} writers")


class _OnLines:
    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._at = time.monotonic() + LINE_INTERVAL_S

    def logging(self, progress: Progress) -> None:
        self._line(f"{_words(self._fleet, progress)}: {progress.points:,} of {self._fleet.points:,} points")

    def shipping(self, writers: int) -> None:
        self._line(f"shipping what is left of {writers:,} writers")

    def _line(self, words: str) -> None:
        if time.monotonic() >= self._at:
            self._at = time.monotonic() + LINE_INTERVAL_S
            sys.stderr.write(f"{words}\n")
            sys.stderr.flush()


@contextmanager
def shown(fleet: Fleet, *, quiet: bool) -> Generator[Shown]:
    """Gives what shows how far the simulation of a fleet is; `quiet` shows nothing."""
    console = Console(stderr=True)
    if quiet:
        yield _Nowhere()
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} points"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Bar(*columns, console=console) as bar:
            yield _OnBar(bar, fleet)
    else:
        yield _OnLines(fleet)


def _words(fleet: Fleet, progress: Progress | None) -> str:
    if progress is None:
        return f"{fleet.ranks:,} ranks"
    stalled = f", Kafka has taken nothing for {progress.stalled_s:.0f} s" if progress.stalled_s >= _STALLED_S else ""
    return f"{fleet.ranks:,} ranks, hour {progress.simulated_s / 3600.0:.2f}{stalled}"
