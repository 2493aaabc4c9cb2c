"""The embedded stack as one object: choose ports, start a supervisor on a data folder, wait, look, kill a part for a test, stop.

`with Stack(data=folder) as stack:` gives a healthy stack and leaves nothing behind; `runstream up` and the demo use the same class. The supervisor
is a process of its own, so that the stack can outlive its starter (`detached`) and otherwise ends with it, however that ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from runstream_local.errors import PartError, StackError
from runstream_local.kafka_jars import Progress, ensure_jars
from runstream_local.logs import log_tail
from runstream_local.parts import ALL_PARTS, Part, dump_parts, standard_parts
from runstream_local.ports import HOST, choose_known_port, choose_port, recall
from runstream_local.stack_file import PartRecord, StackRecord, is_locked, read_stack
from runstream_local.supervisor import BUSY
from runstream_schemas.settings import SettingsError, load

__all__ = ["Stack", "log_tail", "stop_stack"]

_USUAL_KAFKA, _USUAL_CLICKHOUSE = 9092, 8123
_LOOK_S = 0.05
_WRONG_SETTINGS = "did not start (exit code 2)"
# What an orderly stop may take when every part uses its own bound to the full: workers, engine and broker one after the other, and some air.
STOP_TIMEOUT_S = 45.0


class Stack:
    """A stack on one data folder, started by this process or found running there.

    Args:
        data: the data folder; created where missing.
        parts: which parts to start, of `ALL_PARTS`; those that are left out are taken to be elsewhere.
        kafka: bootstrap servers of a broker that is already there; `kafka` is then not started.
        clickhouse_url: address of a ClickHouse that is already there; `clickhouse` is then not started.
        settings: further settings of the workers by environment variable, such as `RUNSTREAM_TOPIC_PREFIX`.
        usual_ports: for a folder that has had none, take 9092 and 8123 where they are free, instead of ports that nobody else expects anything on.
        extra_parts: parts of your own, started with the others by their tier.
    """

    def __init__(
        self,
        *,
        data: Path,
        parts: Sequence[str] = ALL_PARTS,
        kafka: str | None = None,
        clickhouse_url: str | None = None,
        settings: Mapping[str, str] | None = None,
        usual_ports: bool = False,
        extra_parts: Sequence[Part] = (),
    ) -> None:
        unknown = sorted(set(parts) - set(ALL_PARTS))
        if unknown:
            raise PartError(f"parts must be some of {', '.join(ALL_PARTS)}; got {', '.join(unknown)}", part=unknown[0])
        self.data = data.absolute()
        self._names = [name for name in parts if not (name == "kafka" and kafka) and not (name == "clickhouse" and clickhouse_url)]
        self._ports, self.notices = _choose_ports(self.data, self._names, usual=usual_ports)
        """`notices`: sentences for people, when a port that the folder had before is another's now."""
        kafka_port, clickhouse_port = (self._ports.get(name, 0) for name in ("kafka", "clickhouse"))
        controller_port = choose_port(avoid=frozenset({kafka_port, clickhouse_port}))
        self.kafka = kafka or f"{HOST}:{kafka_port}"
        self.clickhouse_url = (clickhouse_url or f"http://{HOST}:{clickhouse_port}").rstrip("/")
        self.environment: dict[str, str] = {
            **(settings or {}),
            "RUNSTREAM_HOME": str(self.data),
            "RUNSTREAM_KAFKA": self.kafka,
            "RUNSTREAM_CLICKHOUSE_URL": self.clickhouse_url,
        }
        """What a process needs in its environment to use this stack."""
        if kafka is None:
            # Options for a real cluster, SASL above all, are none for the broker that is started here.
            self.environment["RUNSTREAM_KAFKA_OPTIONS"] = ""
        resolved = load(environ={**os.environ, **self.environment})
        # Without the password: files and command lines do not carry it.
        read = {"read_url": f"http://{resolved.analyst}@{HOST}:{clickhouse_port}"} if "clickhouse" in self._names else {}
        self.environment |= {f"RUNSTREAM_{name.upper()}": value for name, value in read.items()}
        self.settings: dict[str, str] = {
            "kafka": self.kafka,
            "clickhouse_url": self.clickhouse_url,
            **read,
            "clickhouse_database": resolved.clickhouse_database,
            "topic_prefix": resolved.topic_prefix,
        }
        """By what others reach this stack, by setting name: what its stack.json offers to `runstream_schemas.settings`."""
        self._parts = (
            *standard_parts(
                self._names,
                data=self.data,
                kafka_port=kafka_port,
                controller_port=controller_port,
                clickhouse_port=clickhouse_port,
                host=HOST,
                env=self.environment,
                analyst=resolved.analyst,
                analyst_password=resolved.analyst_password or "",
            ),
            *extra_parts,
        )
        self._supervisor: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        try:
            self.wait_healthy()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def start(self, *, detached: bool = False, progress: Progress | None = None) -> None:
        """Starts the supervisor and returns; `wait_healthy` waits for the parts. Downloads Kafka first where it is not here yet.

        Args:
            detached: let the stack outlive this process; otherwise it stops when this process ends, in whatever way.
            progress: told of the download, see `kafka_jars.ensure_jars`.

        Raises:
            FetchError: Kafka could not be downloaded.
            SettingsError: the data folder cannot be written to.
            StackError: a stack runs on the folder already.
        """
        if is_locked(self.data):
            raise StackError(f"a stack already runs on {self.data}")
        plan_path = self._write_plan()
        try:
            if "kafka" in self._names:
                ensure_jars(progress=progress)
        except BaseException:
            plan_path.unlink()
            raise
        command = [sys.executable, "-u", "-m", "runstream_local.supervisor", "--data", str(self.data), "--plan", str(plan_path)]
        for name, value in self.settings.items():
            command += ["--setting", f"{name}={value}"]
        for name, port in self._ports.items():
            command += ["--port", f"{name}={port}"]
        command += [] if detached else ["--until-eof"]
        with (self.data / "logs" / "supervisor.log").open("ab") as log:
            self._supervisor = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Away from the terminal: Ctrl-C is for whoever started the stack, and that one then stops it in order.
                start_new_session=True,
            )

    def _write_plan(self) -> Path:
        try:
            (self.data / "logs").mkdir(parents=True, exist_ok=True)
            (self.data / "run").mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile("w", prefix="plan-", dir=self.data / "run", delete=False) as plan:
                plan.write(dump_parts(self._parts))
        except OSError as error:
            said = (error.strerror or str(error)).lower()
            raise SettingsError(f"setting 'home' (--data, RUNSTREAM_HOME) must name a folder that can be written to, but {self.data} cannot: {said}") from error
        return Path(plan.name)

    @property
    def is_running(self) -> bool:
        """Whether the supervisor that this object started still runs."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def record(self) -> StackRecord | None:
        """What stack.json tells of the stack now; None before it is written and after the stop."""
        return read_stack(self.data)

    def wait_healthy(self, timeout_s: float = 90.0) -> None:
        """Blocks until every part is healthy or has done its work.

        Raises:
            PartError: a part cannot be started, or is not healthy within `timeout_s`; the message ends with its log's last lines.
            StackError: the supervisor ended for another reason.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            record = self.record
            if record is not None and record.state == "running":
                return
            code = None if self._supervisor is None else self._supervisor.poll()
            if code is not None:
                raise self._ended(code)
            if time.monotonic() > deadline:
                late = next((part for part in (record.parts if record else ()) if part.phase not in ("healthy", "done")), None)
                name = late.name if late else "supervisor"
                raise PartError(f"{name} is not healthy after {timeout_s:g} s: {log_tail(self.data, name)}", part=name)
            time.sleep(_LOOK_S)

    def _ended(self, code: int) -> PartError | StackError:
        said = log_tail(self.data, "supervisor", lines=1)
        if code == BUSY:
            return StackError(f"a stack already runs on {self.data}")
        for part in self._parts:
            if f" {part.name} did not start" in said:
                reason = said.partition(f" {part.name} ")[2]
                if reason == _WRONG_SETTINGS:
                    return PartError(f"{part.name} {reason}: {log_tail(self.data, part.name, lines=1)}", part=part.name, wrong_settings=True)
                return PartError(f"{part.name} {reason}: {log_tail(self.data, part.name)}", part=part.name)
        return StackError(f"the supervisor ended with code {code}: {said}")

    def part(self, name: str) -> PartRecord:
        """Returns how a part is now.

        Raises:
            PartError: there is no such part.
            StackError: the stack does not run.
        """
        record = self.record
        if record is None:
            raise StackError(f"no stack runs on {self.data}")
        part = record.part(name)
        if part is None:
            raise PartError(f"the stack has no part {name}: it has {', '.join(one.name for one in record.parts)}", part=name)
        return part

    def pid(self, name: str) -> int:
        """Returns the pid of a part's process.

        Raises:
            PartError: the part has no process now, or there is no such part.
        """
        pid = self.part(name).pid
        if pid is None:
            raise PartError(f"{name} has no process now", part=name)
        return pid

    def kill(self, name: str, *, number: signal.Signals = signal.SIGKILL) -> int:
        """Sends a part a signal, SIGKILL unless told otherwise; returns its pid.

        After SIGKILL it returns once the supervisor has seen the death, so that `wait_healthy` then waits for the part's return.
        """
        before = self.part(name)
        pid = self.pid(name)
        os.kill(pid, number)
        deadline = time.monotonic() + 10
        while number is signal.SIGKILL and self.part(name).pid == before.pid:
            if time.monotonic() > deadline:
                raise PartError(f"{name} (pid {pid}) is still there 10 s after SIGKILL", part=name)
            time.sleep(0.01)
        return pid

    def stop(self) -> None:
        """Stops the stack in reverse order and returns when nothing of it is left; does nothing when it does not run. Bounded in time."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is None:
            stop_stack(self.data)
            return
        if supervisor.poll() is None:
            supervisor.terminate()
            try:
                supervisor.wait(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                supervisor.kill()  # its parts die with it
                supervisor.wait()
        if supervisor.stdin is not None:
            supervisor.stdin.close()


def stop_stack(data: Path, *, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """Stops the stack that runs on the folder, whoever started it; returns whether there was one. Blocks at most `timeout_s` and a moment.

    Raises:
        StackError: something holds the folder that has not said what it is.
    """
    deadline = time.monotonic() + timeout_s
    while (record := read_stack(data)) is None:
        if not is_locked(data):
            return False
        if time.monotonic() > deadline:
            raise StackError(f"{data} is locked by a supervisor that has not written its stack.json")
        time.sleep(_LOOK_S)
    os.kill(record.supervisor, signal.SIGTERM)
    while is_locked(data) and time.monotonic() < deadline:
        time.sleep(_LOOK_S)
    if is_locked(data):
        os.kill(record.supervisor, signal.SIGKILL)
    return True


def _choose_ports(data: Path, names: Sequence[str], *, usual: bool) -> tuple[dict[str, int], tuple[str, ...]]:
    """Returns the ports of those parts that have one, and a sentence for each that is not the one the folder had at first."""
    known = recall(data)
    ports: dict[str, int] = {}
    notices: list[str] = []
    for name, usual_port in (("kafka", _USUAL_KAFKA), ("clickhouse", _USUAL_CLICKHOUSE)):
        if name not in names:
            continue
        had = known.get(name, [])
        ports[name] = choose_known_port(had, usual_port if usual else 0, avoid=frozenset(ports.values()))
        if had and ports[name] != had[0]:
            notices.append(f"port {had[0]}, which {name} has had on {data}, is taken by another program; it listens on {ports[name]} this time")
    return ports, tuple(notices)
