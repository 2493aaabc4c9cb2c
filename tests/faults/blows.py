"""Does to a stage and a job what stands in a plan, each blow at its time, counts what was seen to happen and names what was not. Deaths at named points are the matter of `deaths`."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from runstream_schemas.clocks import SET_BACK_S
from tests.clock import Clock
from tests.faults.deaths import Deaths
from tests.faults.job import Job, signalled
from tests.faults.poison import inject, poison
from tests.faults.proxy import FaultProxy
from tests.faults.schedule import Blow, Part, Plan
from tests.faults.stage import Stage
from tests.waiting import holds

# How a blow ends; False where it was not seen to happen after all.
End = Callable[[], bool]
# A Produce request carries records; requests without are shorter.
_PRODUCE_BYTES = 1000
_LEAVE_BYTES = 64 << 10
# How long is waited for a request whose answer is to be lost, a worker that is to die at a point, a part's return, the end of one whose clock is set back: nobody waits so long in vain
# but where another blow holds them up.
_ANSWER_S, _DEATH_S, _RESTART_S, _CLOCK_S = 10.0, 10.0, 30.0, 20.0
_KILLED = -signal.SIGKILL


class Blows:
    """Lives through a plan.

    Attributes:
        done: the blows that were seen to happen, by kind.
        points: the named points at which a part died, such as `agent answered`.
        missed: the blows that were not seen to happen, such as a point that nobody came by.
        places: those of `done` by kind and part, such as `cut after request clickhouse`.
        full: when the journals' disk was full: from when until when, in milliseconds by the clock that nobody sets.
        kills: the processes that were ended hard.
    """

    def __init__(self, stage: Stage, job: Job, plan: Plan, clock: Clock | None) -> None:
        self.done: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.missed: list[Blow] = []
        self.places: Counter[str] = Counter()
        self.full: list[tuple[int, int]] = []
        self._killed = 0
        self._lock = threading.Lock()
        self._stage = stage
        self._job = job
        self._plan = plan
        self._clock = clock
        self._draw = random.Random(f"blows of {plan.seed}")
        self._ends: list[threading.Thread] = []
        self._errors: list[Exception] = []
        self._disk = threading.Lock()
        self._deaths = Deaths(stage, job, self._draw, self._disk)

    @property
    def kills(self) -> int:
        """See the class."""
        return self._killed + self._deaths.kills

    def live_through(self) -> None:
        """Blocks for the life of the plan; whatever was begun is undone at its end, however that comes. Raises what went wrong at the end of a blow."""
        began = time.monotonic()
        try:
            for blow in self._plan.blows:
                time.sleep(max(0.0, began + blow.at_s - time.monotonic()))
                self._strike(blow)
            time.sleep(max(0.0, began + self._plan.life_s - time.monotonic()))
        finally:
            for one in self._ends:
                one.join()
        for error in self._errors:
            raise error

    def _strike(self, blow: Blow) -> None:
        end = self._do(blow)
        if end is None:
            self.missed.append(blow)
            return
        # In a thread of its own, since the next blow may wait for what this one holds up.
        thread = threading.Thread(target=self._end, args=(blow, end))
        self._ends.append(thread)
        thread.start()

    def _end(self, blow: Blow, end: End) -> None:
        time.sleep(blow.lasts_s)  # So long the trouble lasts.
        try:
            seen = end()
        except Exception as error:  # noqa: BLE001 - whatever it is, the seed is not to go on as if nothing were
            self._errors.append(error)
            return
        with self._lock:
            if not seen:
                self.missed.append(blow)
                return
            self.done[blow.kind] += 1
            self.places[f"{blow.kind} {blow.part}"] += 1
            if blow.point:
                self.points[blow.point] += 1
                self._killed += 1

    def _do(self, blow: Blow) -> End | None:
        """Begins a blow; how it ends, or None where there was nothing to strike."""
        match blow.kind:
            case "kill":
                return self._kill(blow.part)
            case "die":
                return self._deaths.begin(blow)
            case "restart":
                return self._restart(blow.part)
            case "stop":
                return self._stop(blow.part)
            case "unknowing":
                return self._kill_unknowing(blow)
            case "poison":
                records = [poison(self._draw, number) for number in range(blow.amount)]
                self._stage.letters |= inject(self._stage.stack.kafka, records)
                return _seen
            case "rebalance":
                guest = self._stage.guest(blow.part, blow.detail)
                return lambda: self._dismiss(guest, dies=bool(blow.detail))
            case "disk full":
                return self._fill_the_disk(blow.for_s)
            case "clock":
                return self._set_clock(blow)
            case _:
                return _hurt(self._stage.links[blow.part], blow)

    def _dismiss(self, guest: subprocess.Popen[bytes], *, dies: bool) -> bool:
        """Ends a worker's stay; whether it died by its own hand where it was to, and not where it was not."""
        if dies:
            holds(lambda: guest.poll() is not None, _DEATH_S)
        return self._stage.dismiss(guest) == dies

    def _count(self, killed: bool) -> End | None:
        with self._lock:
            self._killed += killed
        return _seen if killed else None

    def _kill(self, part: Part) -> End | None:
        if part == "rank":
            if not (living := self._job.living()):
                return None
            self._job.kill_and_restart(self._draw.choice(living))
            return self._count(True)
        if part == "agent":
            pid = self._job.agent()
            return self._count(pid is not None and signalled(pid, signal.SIGKILL))
        return self._count(self._stage.kill(part))

    def _restart(self, part: Part) -> End | None:
        """Asks a part to end in order; it is started again."""
        if part == "agent":
            before = self._job.agent()
            if before is None or not signalled(before, signal.SIGTERM):
                return None
            return lambda: holds(lambda: self._job.agent() not in (None, before), _RESTART_S)
        asked = self._stage.restart(part)
        if asked is None:
            return None
        return lambda: self._stage.came_back(part, asked, _RESTART_S) not in (None, _KILLED)

    def _set_clock(self, blow: Blow) -> End | None:
        """Sets the clock by which a part lives. A worker whose clock is set back ends, and is started again."""
        clock = self._clock if blow.part == "rank" else self._stage.clocks[blow.part]
        pid = self._pid(blow.part)
        if clock is None or pid is None or not clock.is_that_of(pid):
            return None
        clock.set(blow.amount)
        if blow.part == "rank" or blow.amount > -SET_BACK_S:
            return _seen
        return lambda: self._stage.came_back(blow.part, pid, _CLOCK_S) == 1

    def _pid(self, part: Part) -> int | None:
        if part == "rank":
            living = self._job.living()
            return self._draw.choice(living).process.pid if living else None
        return self._job.agent() if part == "agent" else self._stage.pid(part)

    def _stop(self, part: Part) -> End | None:
        pid = self._pid(part)
        if pid is None or not signalled(pid, signal.SIGSTOP):
            return None
        return lambda: signalled(pid, signal.SIGCONT) or True  # Somebody else may have killed it meanwhile.

    def _kill_unknowing(self, blow: Blow) -> End | None:
        """Holds the broker still for a while, kills the sender meanwhile, and lets the broker go on: what was sent is stored, and the sender never learned it."""
        broker = self._stage.pid("kafka")
        if broker is None or not signalled(broker, signal.SIGSTOP):
            return None
        try:
            time.sleep(blow.for_s)  # So long the trouble lasts.
            return self._kill(blow.part)
        finally:
            signalled(broker, signal.SIGCONT)

    def _fill_the_disk(self, for_s: float) -> End:
        """Takes all room of the journals' file system for a while. Nothing else happens meanwhile: a rank that begins then would have no journal at all, and no ledger to hold it to."""
        ballast = self._job.journals.parent / "ballast"
        with self._disk:
            began_ms = time.monotonic_ns() // 1_000_000
            _fill(ballast)
            time.sleep(for_s)  # So long the trouble lasts.
            ballast.unlink()
            self.full.append((began_ms, time.monotonic_ns() // 1_000_000))
        return _seen


def _hurt(link: FaultProxy, blow: Blow) -> End:
    """Does to a link what stands in a blow."""
    match blow.kind:
        case "delay":
            link.delay(blow.amount / 1000)
            return lambda: link.delay(0.0) or True
        case "half open":
            link.silence()
            return lambda: link.forget() or True
        case "cut after request":
            cuts = link.cuts
            link.cut_after_request(b"query=INSERT" if blow.part == "clickhouse" else b"", 0 if blow.part == "clickhouse" else _PRODUCE_BYTES)
            return lambda: holds(lambda: link.cuts > cuts, _ANSWER_S) or link.spare()
        case _:
            link.reset()
    return _seen


def _fill(path: Path) -> None:
    file = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        left = os.statvfs(path)
        os.posix_fallocate(file, 0, max(1, left.f_bavail * left.f_frsize - _LEAVE_BYTES))
    finally:
        os.close(file)


def _seen() -> bool:
    return True
