"""The job that logs while its surroundings are hurt: several ranks of one run, each with a ledger that outlives it, their journals and their agent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from runstream_local.demo.agents import end_agents
from runstream_producers.agent import LOCK_NAME
from runstream_producers.claims import holder
from runstream_schemas.ids import new_uuid
from tests.faults import trap
from tests.faults.rank import CALLS, DROPPED_AT, OF_CALL, STEP, STOPPED, WRITER
from tests.faults.stage import ROOT
from tests.faults.trap import Trap
from tests.told import told

START_S, END_S = 30.0, 90.0


class RankFailed(Exception):
    """A rank did not begin to log, or did not end; the message has what it said."""


@dataclass(eq=False)
class Rank:
    """One process of the job. `trap` is where it dies at a named point; while it is `doomed` to, nothing else shall befall it."""

    rank: int
    first: int
    process: subprocess.Popen[bytes]
    ledger: Path
    log: Path
    stop: Path = Path()
    trap: Trap | None = None
    doomed: bool = False

    @property
    def numbers(self) -> tuple[int, ...]:
        """Its ledger."""
        return told(self.ledger) if self.ledger.exists() else ()

    @property
    def logs(self) -> bool:
        """Whether a call has returned."""
        numbers = self.numbers
        return bool(numbers) and numbers[STEP] > self.first

    @property
    def was_killed(self) -> bool:
        """Whether it has been ended hard."""
        return self.process.returncode == -signal.SIGKILL

    @property
    def broken_off(self) -> Literal["", "none", "whole", "either"]:
        """What may be there of the row of the next step: nothing, all of it, or one of the two, where it was ended in the middle of that call or between two; empty where there was none."""
        if not self.was_killed or self.said_stop:
            return ""
        death = "" if self.trap is None else self.trap.death
        return "whole" if death == "published" else "none" if death in trap.OF_ROWS else "either"

    @property
    def said_stop(self) -> bool:
        """Whether it has logged that it stops, behind all of its rows."""
        return bool(self.numbers[STOPPED])

    @property
    def has_ended(self) -> bool:
        """Whether its journal has an end, so that it reads as finished and not as crashed."""
        return not self.was_killed or (self.trap is not None and self.trap.sprung("ended"))

    @property
    def writer(self) -> int:
        """What its rows are known by."""
        return self.numbers[WRITER]

    def dropped(self) -> dict[int, int]:
        """The steps whose calls returned and found no room, and when, in milliseconds by the clock that nobody sets."""
        numbers = self.numbers
        calls = {step: numbers[CALLS + OF_CALL * (step - self.first) + DROPPED_AT] for step in range(self.first, max(self.first, numbers[STEP]))}
        return {step: at_ms for step, at_ms in calls.items() if at_ms}

    def kept(self) -> list[int]:
        """The steps whose calls returned, without those that found no room."""
        dropped = self.dropped()
        return [step for step in range(self.first, self.next_step) if step not in dropped]

    @property
    def next_step(self) -> int:
        """The step after the last call that returned; of a killed one that call may be stored, too."""
        return max(self.first, self.numbers[STEP])


class Job:
    """Ranks of one run; leaves no process behind. Ranks of odd numbers make their calls in Python, the others the compiled ones. With `trapped` each may be made to die at a named point,
    and so may their agents: `agent_trap`.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        ranks: int,
        rate: float,
        journals: Path,
        environ_of_ranks: Mapping[str, str],
        trapped: bool = False,
    ) -> None:
        self.run_id = new_uuid()
        self.ranks: list[Rank] = []
        self.journals = journals
        self._folder = folder
        self.rate = rate
        self.count = ranks
        self._lock = threading.Lock()
        self.agent_trap = Trap(folder / "agent.trap", trap.AGENT_POINTS) if trapped else None
        self._environment = {
            **environment,
            "RUNSTREAM_HOME": str(folder / "home"),
            "RUNSTREAM_RUN_ID": self.run_id,
            "RUNSTREAM_JOURNAL_DIR": str(journals),
            "RUNSTREAM_AGENT_IDLE_TIMEOUT": "1",
            "RUNSTREAM_HARDWARE_INTERVAL": "1",
            "RUNSTREAM_HEARTBEAT_INTERVAL": "1",
            "RUNSTREAM_REGISTER_TIMEOUT": "5",
            "RUNSTREAM_SEGMENT_BYTES": str(1 << 16),
            "WORLD_SIZE": str(ranks),
            trap.OF_AGENT: str(folder / "agent.trap"),
            **environ_of_ranks,
        }

    def __enter__(self) -> Self:
        try:
            for rank in range(self.count):
                self._launch(rank, 0)
            self._wait_until_logging(self.ranks)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.ranks:
            with contextlib.suppress(ProcessLookupError):
                one.process.send_signal(signal.SIGCONT)
            one.process.kill()
            one.process.wait(timeout=10)
        end_agents(self.journals, timeout_s=2.0)

    def living(self) -> list[Rank]:
        """The ranks that run and are not doomed, by their number."""
        return sorted((one for one in list(self.ranks) if one.process.poll() is None and not one.doomed), key=lambda one: one.rank)

    def kill_and_restart(self, one: Rank) -> None:
        """Kills a rank hard; another process goes on from the step after the last call that returned."""
        one.process.kill()
        self.restart(one)

    def restart(self, one: Rank) -> None:
        """Waits for the end of a rank that is dying or finishing; another process goes on from the step after the last call that returned."""
        one.process.wait(timeout=END_S)
        self._wait_until_logging([self._launch(one.rank, one.next_step)])

    def stop(self) -> None:
        """Lets the ranks finish, and waits for it."""
        for one in self.ranks:
            one.stop.touch()
        deadline = time.monotonic() + END_S
        for one in self.ranks:
            try:
                one.process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                raise RankFailed(f"rank {one.rank} did not end within {END_S:g} s: {_end(one.log)}") from None

    def agent(self, limit_s: float = 10.0) -> int | None:
        """The process that ships the job's journals; waits a while for one."""
        deadline = time.monotonic() + limit_s
        while True:
            for lock in self.journals.glob(f"*/{LOCK_NAME}"):
                pid = holder(lock)
                if pid > 0:
                    return pid
            if time.monotonic() > deadline:
                return None
            time.sleep(0.05)

    def said(self) -> str:
        """What the agents said last."""
        return "\n".join(_end(path) for path in self.journals.glob("*/agent.log"))

    def _launch(self, rank: int, first: int) -> Rank:
        with self._lock:
            number = len(self.ranks)
            ledger, log, stop, traps = (self._folder / f"{name}-{number}" for name in ("ledger", "rank", "stop", "trap"))
            log = log.with_suffix(".log")
            own = None if self.agent_trap is None else Trap(traps, trap.RANK_POINTS)
            module = "tests.faults.rank" if own is None else "tests.faults.dying_rank"
            command = [sys.executable, "-m", module, "--ledger", str(ledger), "--stop", str(stop), "--first", str(first), "--rate", str(self.rate)]
            environment = self._environment | {"RANK": str(rank), "RUNSTREAM_COMPILED": str(rank % 2 == 0).lower(), trap.OF_RANK: str(traps)}
            with log.open("wb") as output:
                process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, cwd=ROOT, start_new_session=True)
            one = Rank(rank, first, process, ledger, log, stop, own)
            self.ranks.append(one)
            return one

    def _wait_until_logging(self, ranks: list[Rank]) -> None:
        deadline = time.monotonic() + START_S
        while not all(one.logs for one in ranks):
            for one in ranks:
                if one.process.poll() is not None or time.monotonic() > deadline:
                    raise RankFailed(f"rank {one.rank} does not log: {_end(one.log)}")
            time.sleep(0.05)


def signalled(pid: int, number: signal.Signals) -> bool:
    """Sends a signal; whether there was a process to take it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _end(path: Path) -> str:
    return path.read_text(errors="replace")[-800:]
