"""The supervisor process: it starts the parts it is given, looks at them, does what `supervision` decides, and writes down what is.

`python -m runstream_local.supervisor --data DIR --plan FILE` runs until SIGTERM, SIGINT or, with --until-eof, the end of its standard input, so
that it ends with whoever started it. It has one thread on purpose: the parts are tied to the thread that started them.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Literal

from runstream_local import kafka
from runstream_local.clickhouse.health import is_serving
from runstream_local.logs import last_line
from runstream_local.parts import Health, Part, load_parts
from runstream_local.ports import remember
from runstream_local.processes import signal_group, start_child
from runstream_local.stack_file import Lock, PartRecord, StackRecord, remove_stack, write_stack
from runstream_local.supervision import (
    Action,
    End,
    Kill,
    Policy,
    Seen,
    Start,
    State,
    Stop,
    decide,
    end_asked,
    hopeless,
    is_healthy,
    killed,
    observe,
    started,
    stop_asked,
)

__all__ = ["BUSY", "HOPELESS", "Supervisor", "main"]

HOPELESS = 3
"""Exit code: a part cannot be started."""
BUSY = 4
"""Exit code: another supervisor holds the folder."""

_PROBE_TIMEOUT_S = 1.0
_PROBE_EVERY_S = 2.0
_LOG_BYTES_MAX = 16 << 20
# Quick while something starts, so that a start is not longer than it must be; slow afterwards, so that an idle stack costs nothing to speak of.
_LOOK_S_STARTING = 0.05
_LOOK_S_HEALTHY = 1.0


class Supervisor:
    """Runs a set of parts in one data folder until it is told to stop."""

    def __init__(self, parts: Sequence[Part], *, data: Path, settings: Mapping[str, str], policy: Policy | None = None) -> None:
        """Prepares; `settings` are what others need to reach the stack, by setting name."""
        self._parts = {part.name: part for part in parts}
        self._data = data
        self._settings = settings
        self._policy = policy or Policy()
        self._states = {part.name: State() for part in parts}
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._next_probe: dict[str, float] = {}
        self._last_words: dict[str, str] = {}
        self._stopping = False
        self._failure: str | None = None
        self._started_at = time.time()
        self._written: StackRecord | None = None

    def request_stop(self) -> None:
        """Begins to stop everything; may be called from a signal handler, and more than once."""
        self._stopping = True

    def run(self, *, wake_fds: Sequence[int], end_fd: int | None) -> str | None:
        """Supervises until everything is stopped; returns why, if it was for a part that cannot be started.

        Args:
            wake_fds: descriptors whose bytes end a pause early.
            end_fd: descriptor whose end of file means stop.
        """
        while True:
            self._look()
            for action in decide(tuple(self._parts.values()), self._states, stopping=self._stopping, now=time.monotonic(), policy=self._policy):
                self._act(action)
            self._write()
            if self._stopping and not any(state.has_process for state in self._states.values()):
                return self._failure
            self._pause(wake_fds, end_fd)

    def _look(self) -> None:
        """Takes one look at every process, and gives up when a part cannot be started."""
        for name, child in list(self._children.items()):
            code = child.poll()
            before = self._states[name]
            seen = self._probe_if_due(name) if code is None else Seen(code)
            after = observe(self._parts[name], before, seen, now=time.monotonic(), policy=self._policy)
            self._states[name] = after
            if code is not None:
                del self._children[name]
                signal_group(child.pid, signal.SIGKILL)  # what it may have started itself
            if after.phase != before.phase:
                if after.phase == "failed":
                    self._last_words[name] = last_line(self._log(self._parts[name]))
                _say(f"{name} is {after.phase}" + (f" ({after.reason})" if after.phase == "failed" else ""))
        if self._failure is None and not self._stopping:
            self._failure = hopeless(tuple(self._parts.values()), self._states, policy=self._policy)
            self._stopping = self._failure is not None

    def _probe_if_due(self, name: str) -> Seen:
        """Probes a part that is starting at every look, a healthy one now and then, and one that is on its way out not at all."""
        now = time.monotonic()
        if self._stopping or (self._states[name].phase == "healthy" and now < self._next_probe.get(name, 0.0)):
            return Seen()
        self._next_probe[name] = now + _PROBE_EVERY_S
        return _probe(self._parts[name].health)

    def _act(self, action: Action) -> None:
        name = action.name
        match action:
            case Start():
                self._start(self._parts[name])
            case Stop():
                self._children[name].terminate()
                self._states[name] = stop_asked(self._states[name], now=time.monotonic())
                _say(f"{name} is asked to stop")
            case End(reason=reason):
                _say(f"{name} hangs and is asked to end: {reason}")
                self._children[name].terminate()
                self._states[name] = end_asked(self._states[name], reason, now=time.monotonic(), policy=self._policy)
            case Kill(reason=reason):
                _say(f"{name} is killed: {reason}")
                signal_group(self._children[name].pid, signal.SIGKILL)
                self._states[name] = killed(self._states[name], reason)

    def _start(self, part: Part) -> None:
        if part.health.kind == "file":
            Path(part.health.target).unlink(missing_ok=True)
        _make_room(self._log(part))
        child = start_child(part.argv, log=self._log(part), env=part.env, cwd=self._data)
        self._children[part.name] = child
        self._states[part.name] = started(self._states[part.name], pid=child.pid, now=time.monotonic())
        _say(f"{part.name} starts with pid {child.pid}")

    def _log(self, part: Part) -> Path:
        return self._data / "logs" / f"{part.name}.log"

    def _pause(self, wake_fds: Sequence[int], end_fd: int | None) -> None:
        calm = is_healthy(self._states) and not self._stopping
        watched = [*wake_fds, *([] if end_fd is None or self._stopping else [end_fd])]
        ready, _, _ = select.select(watched, [], [], _LOOK_S_HEALTHY if calm else _LOOK_S_STARTING)
        for descriptor in ready:
            if not os.read(descriptor, 512) and descriptor == end_fd:
                self.request_stop()

    def _reason(self, name: str, state: State) -> str:
        """Returns what is wrong with a part or why it last failed, and what it said last then."""
        words = self._last_words.get(name)
        return state.trouble or (f"{state.reason}; its log ended with: {words}" if state.reason and words else state.reason)

    def _write(self) -> None:
        """Writes stack.json when something in it has changed."""
        offset = time.time() - time.monotonic()
        records = tuple(
            PartRecord(
                name=part.name,
                phase=state.phase,
                pid=state.pid,
                since=round(state.since + offset, 1) if state.since else 0.0,
                restarts=state.restarts,
                address=part.address,
                last_exit=state.last_exit,
                log=str(self._log(part)),
                reason=self._reason(part.name, state),
            )
            for part, state in ((part, self._states[part.name]) for part in self._parts.values())
        )
        state: Literal["starting", "running", "stopping"] = "stopping" if self._stopping else "running" if is_healthy(self._states) else "starting"
        record = StackRecord(supervisor=os.getpid(), started=round(self._started_at, 1), state=state, settings=self._settings, parts=records)
        if record != self._written:
            write_stack(self._data, record)
            self._written = record


def _probe(health: Health) -> Seen:
    match health.kind:
        case "kafka":
            # Somebody else's broker at this address must not pass for ours.
            ours = kafka.cluster_id_of(Path(health.data))
            return Seen(healthy=bool(ours) and kafka.is_healthy(health.target, cluster_id=ours, timeout_s=_PROBE_TIMEOUT_S))
        case "http":
            return Seen(healthy=is_serving(health.target, timeout_s=_PROBE_TIMEOUT_S))
        case "file":
            return _read_ready(Path(health.target))
        case "exit":
            return Seen(healthy=False)  # healthy is when it has ended, which is seen without a probe
        case "alive":
            return Seen(healthy=True)


def _read_ready(file: Path) -> Seen:
    try:
        with file.open(encoding="utf-8") as opened:
            is_ready = opened.read(16).startswith("ready")
            return Seen(healthy=is_ready, beat=os.fstat(opened.fileno()).st_mtime_ns if is_ready else None)
    except (OSError, UnicodeDecodeError):
        return Seen(healthy=False)


def _make_room(log: Path) -> None:
    """Sets a log aside that has grown large, in place of the one that was set aside before; only while its part is down, which keeps it open."""
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(log.with_suffix(".log.1"))


def _say(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stdout.flush()


def main(argv: list[str] | None = None) -> int:
    """Runs the supervisor; 0 after an orderly stop, `HOPELESS` or `BUSY` with a last line that says why."""
    parser = argparse.ArgumentParser(prog="python -m runstream_local.supervisor", description="Supervise the parts of an embedded stack.")
    parser.add_argument("--data", type=Path, required=True, help="data folder of the stack")
    parser.add_argument("--plan", type=Path, required=True, help="file with the parts, removed once read")
    parser.add_argument("--setting", action="append", default=[], metavar="NAME=VALUE", help="what others need to reach the stack")
    parser.add_argument("--port", action="append", default=[], metavar="NAME=PORT", help="port of a part, which the folder is to remember")
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends")
    arguments = parser.parse_args(argv)
    data: Path = arguments.data
    parts = load_parts(arguments.plan.read_text(encoding="utf-8"))
    arguments.plan.unlink()
    try:
        lock = Lock(data)
    except BlockingIOError:
        _say(f"another supervisor runs on {data}")
        return BUSY
    remove_stack(data)  # what one that was killed hard has left says nothing of this one
    settings = dict(str(one).split("=", 1) for one in arguments.setting)
    remember(data, {name: int(port) for name, port in (str(one).split("=", 1) for one in arguments.port)})
    supervisor = Supervisor(parts, data=data, settings=settings)
    wake_fd = _wake_on_signals(supervisor)
    failure = supervisor.run(wake_fds=[wake_fd], end_fd=sys.stdin.fileno() if arguments.until_eof else None)
    remove_stack(data)
    lock.release()
    if failure is None:
        return 0
    _say(failure)
    return HOPELESS


def _wake_on_signals(supervisor: Supervisor) -> int:
    """Makes SIGTERM, SIGINT and the end of a child cut a pause short; returns the descriptor to watch."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        supervisor.request_stop()

    def nothing(number: int, frame: FrameType | None) -> None:
        del number, frame

    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGCHLD, nothing)
    return read_fd


if __name__ == "__main__":
    sys.exit(main())
