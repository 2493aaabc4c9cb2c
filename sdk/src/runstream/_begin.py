"""The beginning of a process's part in a run: who writes, the journal, and what is captured. Which run it is, `_init` decides."""

from __future__ import annotations

import os
import socket
import time as clock
from typing import TYPE_CHECKING

from runstream import _hooks, _surroundings
from runstream._launch import Launch, launch_of
from runstream._ray import ray_place
from runstream._run import Run
from runstream_producers.errors import JournalError
from runstream_producers.journal.compilers import keep_out
from runstream_producers.journal.format import Identity
from runstream_producers.journal.writer import JournalWriter
from runstream_producers.paths import agent_folder, offline_folder
from runstream_producers.readings import INTERVAL, NAMESPACE, namespace
from runstream_schemas import ids

if TYPE_CHECKING:
    from collections.abc import Callable

    from runstream._rows import Reporter
    from runstream_schemas.settings import Settings

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ksh", "fish", "env", "numactl", "taskset"})


def launched() -> Launch:
    """What launched this process, and its place among the others."""
    return launch_of(os.environ, socket.gethostname(), _launcher, ray_place)


def begin(run_id: str, project: str, settings: Settings, launch: Launch, report: Reporter, kind: str = "rank") -> Run:
    """This process's part in a run: its journal and its agent."""
    runs: list[Run] = []

    def begun_in_child() -> None:
        runs[0].begun_in_child()
        _hooks.begun_in_child(settings.preemption_signals)

    surroundings = {} if settings.mode == "disabled" else _surroundings.captured(parts_of(settings.capture), first_of_node=launch.local_rank == 0)
    if kind == "rank":
        surroundings[INTERVAL] = f"{settings.hardware_interval:g}"  # So that each run is read as often as it wants, whoever started the agent.
        surroundings[NAMESPACE] = namespace()
    began = os.getpid()

    def identity() -> Identity:
        own = surroundings if os.getpid() == began else surroundings | {"forked": "true"}  # By which the end of a helper is told from that of the run.
        return identity_of(run_id, project, socket.gethostname(), launch, own, kind)

    journal = None if settings.mode == "disabled" else _journal(settings, identity, report, begun_in_child)
    run = Run(run_id, project, launch.rank, settings, journal, report)
    runs.append(run)
    keep_out()
    return run


def identity_of(run_id: str, project: str, host: str, launch: Launch, environment: dict[str, str], kind: str) -> Identity:
    """A new writer of a run: this process, at this place among the others."""
    writer = ids.new_writer()
    return Identity(
        writer=writer,
        run_id=run_id,
        project=project,
        kind=kind,
        rank=launch.rank,
        local_rank=launch.local_rank,
        world_size=launch.world_size,
        node=launch.node,
        host=host,
        pid=os.getpid(),
        attempt=launch.attempt or f"{writer:016x}",
        started_ms=clock.time_ns() // 1_000_000,
        environment=environment,
    )


def parts_of(capture: str) -> frozenset[str]:
    """The parts that a setting names; those behind a minus are left out."""
    names = capture.split(",")
    left_out = {name[1:] for name in names if name.startswith("-")}
    wanted = set(names) - {"none"} - {name for name in names if name.startswith("-")}
    if "all" in wanted or (left_out and not wanted):
        wanted = set(_surroundings.PARTS)
    return frozenset(wanted - left_out)


def _journal(settings: Settings, make_identity: Callable[[], Identity], report: Reporter, begun_in_child: Callable[[], None]) -> JournalWriter | None:
    folder = offline_folder(settings) if settings.mode == "offline" else agent_folder(settings)
    try:
        return JournalWriter(
            folder,
            make_identity,
            segment_bytes=settings.segment_bytes,
            bytes_max=settings.journal_bytes_max,
            report=report,
            begun_in_child=begun_in_child,
            compiled=settings.compiled,
        )
    except (OSError, JournalError) as error:
        report(
            "journal",
            f"nothing is recorded, since no journal can be written in {folder} ({error}): set RUNSTREAM_JOURNAL_DIR to a local folder that can be written",
        )
        return None


def _launcher() -> str:
    """Names the process that launched this one by its id and start, the same for all that it launched; shells in between are none."""
    import psutil

    try:
        parent = psutil.Process(os.getppid())
        while parent.name() in _SHELLS and (above := parent.parent()) is not None and above.pid > 1:
            parent = above
        return f"{parent.pid}@{parent.create_time()}"
    except psutil.Error:
        return str(os.getppid())
