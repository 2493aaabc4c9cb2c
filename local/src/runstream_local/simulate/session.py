"""One simulation from its run's beginning to its end: logs, waits until Kafka holds everything, and stops when asked to. What is shown meanwhile is `shown`'s matter."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import runstream
from runstream_local.errors import LocalError
from runstream_local.simulate.fleet import Progress, Simulation
from runstream_local.simulate.shown import shown
from runstream_producers.errors import ProducersError
from runstream_sinks.progress import until_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from runstream_local.simulate.shown import Shown
    from runstream_local.simulate.signals import Fleet
    from runstream_schemas.settings import Settings

_SHIP_S = 600.0
_LOOK_S = 0.2


@dataclass(slots=True)
class Outcome:
    """What became of a simulation: its run, how far it came, seconds of logging, whether Kafka holds all that was logged, whether somebody stopped it, and what went wrong."""

    run_id: str
    progress: Progress
    logged_s: float = 0.0
    shipped: bool = False
    stopped: bool = False
    trouble: str = ""


class _Stopped(KeyboardInterrupt):
    """Somebody asked for the end: so the run is told."""


def simulate(fleet: Fleet, settings: Settings, *, project: str, config: Mapping[str, object], points_s: float, quiet: bool) -> Outcome:
    """Runs a whole simulation. The first Ctrl-C or SIGTERM ends it between two rows, the second raises KeyboardInterrupt; what was logged is kept and shipped either way."""
    outcome: Outcome | None = None
    try:
        with runstream.init(project, f"{fleet.ranks} simulated ranks", config=config, tags=["simulated"], task="simulation") as one:
            simulation = Simulation(fleet, one, settings, points_s=points_s, now_s=time.time())
            outcome = Outcome(one.id, simulation.progress)
            with until_asked() as asked, shown(fleet, quiet=quiet) as show:
                _go(simulation, outcome, asked, show)
            if outcome.trouble:
                one.fail(outcome.trouble)
            if outcome.stopped:
                sys.stderr.write("stopped: what has been logged is kept and shipped (Ctrl-C again leaves at once)\n")
                raise _Stopped
    except _Stopped:
        pass
    assert outcome is not None
    return outcome


def _go(simulation: Simulation, outcome: Outcome, asked: Callable[[], bool], show: Shown) -> None:
    begun = time.monotonic()
    try:
        with contextlib.closing(simulation.steps()) as going:
            for progress in going:
                show.logging(progress)
                if asked():
                    break
    except (OSError, LocalError, ProducersError) as error:
        outcome.trouble = str(error)
    outcome.logged_s = time.monotonic() - begun
    while (left := simulation.unshipped()) and not (asked() or outcome.trouble) and time.monotonic() - begun < outcome.logged_s + _SHIP_S:
        show.shipping(left)
        time.sleep(_LOOK_S)  # What Kafka holds is read off counters, which tell nobody when they move.
    outcome.shipped, outcome.stopped = left == 0, asked()
