"""The stack that is hurt: a real embedded one whose Kafka and ClickHouse stand behind fault proxies, with hands on each of its processes.

Everybody who uses it, the workers of the stack included, comes through the proxies; only the supervisor's probes and the oracle ask past them. Each worker has a wall clock of its own
that can be set, where a C compiler is here.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from runstream_local.errors import LocalError
from runstream_local.parts import Health, Part, standard_parts
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import start_child
from runstream_local.stack import Stack
from runstream_schemas.clocks import SET_BACK_S
from tests.answers import Answers
from tests.clock import Clock
from tests.faults.poison import Letters
from tests.faults.proxy import FaultProxy
from tests.faults.schedule import WORKERS
from tests.faults.schedule import Part as Name
from tests.sinks.dies_at import POINT

ROOT = Path(__file__).resolve().parents[2]
_MODULES = {"sinks": ("runstream_sinks", "worker"), "processors": ("runstream_processors", "worker")}
_DYING = {"sinks": "tests.sinks.dies_at", "processors": "tests.processors.dies_at"}
# Background merges would collapse the repeats that are to be counted.
_NO_MERGES = "ALTER TABLE metric_points MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1, max_bytes_to_merge_at_min_space_in_pool = 1"


class Stage:
    """A stack from `with` on; leaves no process behind. With `clocks` those of its workers can be set."""

    def __init__(self, folder: Path, *, clocks: bool = False) -> None:
        data = folder / "stack"
        kafka, controller = choose_port(), choose_port()
        clickhouse = choose_port(avoid=frozenset({kafka, controller}))
        self.folder = folder
        self.links = {"kafka": FaultProxy(kafka), "clickhouse": FaultProxy(clickhouse)}
        self.url = f"http://{HOST}:{clickhouse}"
        python = (sys.executable, "-u", "-m")
        broker = ("tests.faults.broker", "--advertised", str(self.links["kafka"].port), "--data", str(data / "kafka"))
        own = {"PYTHONPATH": str(ROOT)}
        through = {"kafka": self.links["kafka"].address, "clickhouse_url": f"http://{self.links['clickhouse'].address}"}
        self.clocks: dict[Name, Clock] = {}
        """The wall clocks of the workers."""
        for name in WORKERS if clocks else ():
            (folder / name).mkdir(parents=True)
            self.clocks[name] = Clock(folder / name)
        workers = standard_parts(
            WORKERS,
            data=data,
            kafka_port=kafka,
            controller_port=controller,
            clickhouse_port=clickhouse,
            host=HOST,
            env={"RUNSTREAM_HOME": str(data), **{f"RUNSTREAM_{name.upper()}": address for name, address in through.items()}},
        )
        self.stack = Stack(
            data=data,
            parts=("topics", "migrate"),
            kafka=through["kafka"],
            clickhouse_url=through["clickhouse_url"],
            extra_parts=(
                Part(
                    "kafka",
                    (*python, *broker, "--port", str(kafka), "--controller-port", str(controller)),
                    Health("kafka", f"{HOST}:{kafka}", str(data / "kafka")),
                    env=own,
                ),
                Part(
                    "clickhouse",
                    (*python, "runstream_local.clickhouse", "--data", str(data / "clickhouse"), "--port", str(clickhouse)),
                    Health("http", self.url),
                ),
                *(replace(part, env={**part.env, **(self.clocks[part.name].environ if part.name in self.clocks else {})}) for part in workers),
            ),
        )
        self.answers = Answers(self.url)
        self.letters: Letters = {}
        """The poison that was put into topics."""
        self._guests: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        self.stack.start()
        try:
            self.stack.wait_healthy(120.0)
            self.answers.command(_NO_MERGES)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for one in self._guests:
            one.kill()
            one.wait(10)
        self.stack.stop()
        for link in self.links.values():
            link.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a process that uses the stack, without settings that this one has."""
        return {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")} | self.stack.environment | {"PYTHONPATH": str(ROOT)}

    def pid(self, part: Name, limit_s: float = 10.0) -> int | None:
        """The process of a part; waits a while for one that is between two lives."""
        deadline = time.monotonic() + limit_s
        while True:
            try:
                return self.stack.pid(part)
            except LocalError:
                if time.monotonic() > deadline:
                    return None
                time.sleep(0.05)

    def kill(self, part: Name) -> bool:
        """SIGKILL; whether there was something to kill."""
        if self.pid(part) is None:
            return False
        try:
            self.stack.kill(part)
        except (LocalError, ProcessLookupError):
            return False
        return True

    def restart(self, part: Name) -> int | None:
        """Asks a part to end in order, after which the supervisor starts it again; the process that was asked, None where there is none."""
        pid = self.pid(part)
        try:
            return None if pid is None else self.stack.kill(part, number=signal.SIGTERM)
        except (LocalError, ProcessLookupError):
            return None

    def came_back(self, part: Name, other_than: int, limit_s: float) -> int | None:
        """Waits until another process than this one is a part's; how that one ended, None where it did not."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            pid = self.pid(part, limit_s=0.0)
            if pid is not None and pid != other_than:
                return self.stack.part(part).last_exit
            time.sleep(0.05)
        return None

    def said(self, name: str) -> str:
        """All that a part, or the supervisor, has said so far."""
        log = self.stack.data / "logs" / f"{name}.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def set_clocks_right(self) -> None:
        """Sets the workers' clocks to the machine's, and waits for those who end of it."""
        back: dict[Name, int | None] = {part: self.pid(part) for part, clock in self.clocks.items() if clock.ahead_s > SET_BACK_S}
        for clock in self.clocks.values():
            clock.set(0)
        for part, pid in back.items():
            if pid is not None:
                self.came_back(part, pid, 30.0)
        self.stack.wait_healthy(90.0)

    def guest(self, part: Name, point: str) -> subprocess.Popen[bytes]:
        """Starts one more worker of a group, which dies by its own hand at a point, if one is named."""
        argv = [sys.executable, "-u", "-m", *((_DYING[part], "worker") if point and part == "sinks" else (_DYING[part],) if point else _MODULES[part])]
        environment = self.environment | ({POINT: point} if point else {})
        child = start_child(argv, log=self.folder / f"{part}-guest.log", env=environment, cwd=ROOT)
        self._guests.append(child)
        return child

    def dismiss(self, guest: subprocess.Popen[bytes]) -> bool:
        """Asks a worker to leave; whether it had died before, by its own hand."""
        died = guest.poll() == -signal.SIGKILL
        guest.terminate()
        try:
            guest.wait(12.0)
        except subprocess.TimeoutExpired:
            guest.kill()
            guest.wait(10)
        self._guests.remove(guest)
        return died
