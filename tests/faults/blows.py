"""Does to a stage and a job what stands in a plan, each blow at its time, and counts what was done."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.clock import Clock
from tests.faults.job import Job, signalled
from tests.faults.poison import inject, poison
from tests.faults.schedule import Blow, Part, Plan
from tests.faults.stage import Stage

Undo = Callable[[], object]
# A Produce request carries records; requests without are shorter.
_PRODUCE_BYTES = 1000
_LEAVE_BYTES = 64 << 10


class Blows:
    """Lives through a plan. `done` counts the blows that found their part, by kind; `kills` the processes that were ended hard."""

    def __init__(self, stage: Stage, job: Job, plan: Plan, clock: Clock | None) -> None:
        self.done: Counter[str] = Counter()
        self.kills = 0
        self._stage = stage
        self._job = job
        self._plan = plan
        self._clock = clock
        self._draw = random.Random(f"blows of {plan.seed}")
        self._ends: list[threading.Timer] = []

    def live_through(self) -> None:
        """Blocks for the life of the plan; whatever was begun is undone at its end, however that comes."""
        began = time.monotonic()
        try:
            for blow in self._plan.blows:
                time.sleep(max(0.0, began + blow.at_s - time.monotonic()))
                self._strike(blow)
            time.sleep(max(0.0, began + self._plan.life_s - time.monotonic()))
        finally:
            for one in self._ends:
                one.join()

    def _strike(self, blow: Blow) -> None:
        undo = self._do(blow)
        if undo is None:
            return
        self.done[blow.kind] += 1
        # In a thread of its own, since the next blow may wait for what this one holds up.
        end = threading.Timer(blow.for_s, undo)
        self._ends.append(end)
        end.start()

    def _do(self, blow: Blow) -> Undo | None:
        """Begins a blow; how it ends, or None where there was nothing to strike."""
        link = self._stage.links.get(blow.part)
        match blow.kind:
            case "kill":
                return self._kill(blow.part)
            case "stop":
                return self._stop(blow.part)
            case "unknowing":
                return self._kill_unknowing(blow)
            case "poison":
                records = [poison(self._draw, number) for number in range(blow.amount)]
                self._stage.letters |= inject(self._stage.stack.kafka, records)
                return _nothing
            case "rebalance":
                guest = self._stage.guest(blow.part, blow.detail)
                return lambda: self._count(self._stage.dismiss(guest))
            case "disk full":
                return self._fill_the_disk(blow.for_s)
            case "clock":
                assert self._clock is not None
                self._clock.set(blow.amount)
                return _nothing
            case _:
                assert link is not None, blow
        match blow.kind:
            case "delay":
                link.delay(blow.amount / 1000)
                return lambda: link.delay(0.0)
            case "reset":
                link.reset()
            case "half open":
                link.silence()
                return link.forget
            case "cut after request":
                link.cut_after_request(b"query=INSERT" if blow.part == "clickhouse" else b"", 0 if blow.part == "clickhouse" else _PRODUCE_BYTES)
        return _nothing

    def _count(self, killed: bool) -> bool:
        self.kills += killed
        return killed

    def _kill(self, part: Part) -> Undo | None:
        if part == "rank":
            living = self._job.living()
            self._job.kill_and_restart(self._draw.choice(living))
            return _nothing if self._count(True) else None
        if part == "agent":
            pid = self._job.agent()
            return _nothing if self._count(pid is not None and signalled(pid, signal.SIGKILL)) else None
        return _nothing if self._count(self._stage.kill(part)) else None

    def _pid(self, part: Part) -> int | None:
        if part == "rank":
            return self._draw.choice(self._job.living()).process.pid
        return self._job.agent() if part == "agent" else self._stage.pid(part)

    def _stop(self, part: Part) -> Undo | None:
        pid = self._pid(part)
        if pid is None or not signalled(pid, signal.SIGSTOP):
            return None
        return lambda: signalled(pid, signal.SIGCONT)

    def _kill_unknowing(self, blow: Blow) -> Undo | None:
        """Holds the broker still for a while, kills the sender meanwhile, and lets the broker go on: what was sent is stored, and the sender never learned it."""
        broker = self._stage.pid("kafka")
        if broker is None or not signalled(broker, signal.SIGSTOP):
            return None
        try:
            time.sleep(blow.for_s)
            return self._kill(blow.part)
        finally:
            signalled(broker, signal.SIGCONT)

    def _fill_the_disk(self, for_s: float) -> Undo:
        """Takes all room of the journals' file system for a while. Nothing else happens meanwhile: a rank that begins then would have no journal at all, and no ledger to hold it to."""
        ballast = self._job.journals.parent / "ballast"
        _fill(ballast)
        time.sleep(for_s)
        ballast.unlink()
        return _nothing


def _fill(path: Path) -> None:
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        left = os.statvfs(path)
        os.posix_fallocate(file, 0, max(1, left.f_bavail * left.f_frsize - _LEAVE_BYTES))
    finally:
        os.close(file)


def _nothing() -> None:
    pass
