"""Whether the stored summaries are what the stored points come to: every summary of a run computed anew in SQL and compared, run after run.

A series whose summary has not seen its newest points yet is behind, and is not compared; a summary whose points are gone, as retention takes them, cannot be. While a run is being written,
its points and its summaries come by different ways: what differs is looked at again a little later, and counts only if it differs each time.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from runstream_sinks.replay import Stopped
from runstream_sinks.summaries_sql import COLUMNS, COMPARED, RUNS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream_sinks.migrations import Database

LOOKS = 3
LOOK_AGAIN_S = 2.0


@dataclass(frozen=True, slots=True)
class Series:
    """Which series of a run."""

    name: str
    context: str
    subject: str
    rank: int
    writer: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A summary that is missing (`what` is `no summary`), or not what the points come to: by field, what is stored and what was computed, as text."""

    series: Series
    what: str
    stored: dict[str, str]
    computed: dict[str, str]


@dataclass(slots=True)
class RunSummaries:
    """A run: how many series it has, how many of them were not compared and why, how many differ, and the first of those."""

    run: str
    series: int
    behind: int
    without_points: int
    differing: int
    differences: list[Difference] = field(default_factory=list[Difference])

    @property
    def compared(self) -> int:
        """Series whose summaries were held against their points."""
        return self.series - self.behind - self.without_points


@dataclass(frozen=True, slots=True)
class SummaryReport:
    """What a verification of summaries found."""

    runs: Sequence[RunSummaries]
    seconds: float

    @property
    def equal(self) -> bool:
        """Whether nothing differs, and at least one series could be compared where there are any."""
        series = sum(one.series for one in self.runs)
        return not any(one.differing for one in self.runs) and (not series or any(one.compared for one in self.runs))

    def as_object(self) -> dict[str, Any]:
        """The report for JSON."""
        return {"equal": self.equal, "seconds": round(self.seconds, 3), "runs": [{"compared": one.compared, **asdict(one)} for one in self.runs]}


def verify_summaries(
    server: Database,
    runs: frozenset[str],
    *,
    stopped: Callable[[], bool] = lambda: False,
    told: Callable[[int, int], None] = lambda _done, _all: None,
    look_again_s: float = LOOK_AGAIN_S,
) -> SummaryReport:
    """Compares the summaries of some runs, or of all where none is given. Blocks for about as long as reading the points once takes.

    Raises:
        ServerBusy, ServerRefused: ClickHouse refused, or does not answer.
        Stopped: it was asked to.
    """
    began = time.monotonic()
    wanted = sorted(runs) or sorted(str(run) for (run,) in server.query(RUNS))
    found: list[RunSummaries] = []
    for number, run in enumerate(wanted):
        told(number, len(wanted))
        one = _look(server, run)
        for _ in range(LOOKS - 1):
            if stopped():
                raise Stopped
            if not one.differing:
                break
            time.sleep(look_again_s)
            again = _look(server, run)
            before = {difference.series for difference in one.differences}
            if len(again.differences) == again.differing and one.differing == len(one.differences):
                again.differences = [difference for difference in again.differences if difference.series in before]
                again.differing = len(again.differences)
            one = again
        found.append(one)
    return SummaryReport(found, time.monotonic() - began)


def _look(server: Database, run: str) -> RunSummaries:
    [(series, behind, without_points, differing, rows)] = server.query(COMPARED, {"run": run})
    differences: list[Difference] = []
    for name, context, subject, rank, writer, what, unlike, stored, computed in rows:
        here, there = (dict(zip(COLUMNS, values, strict=True)) for values in (stored, computed))
        fields = [] if what else list(unlike)
        differences.append(
            Difference(Series(name, context, subject, rank, writer), what or "differs", {one: here[one] for one in fields}, {one: there[one] for one in fields})
        )
    return RunSummaries(run, series, behind, without_points, differing, differences)
