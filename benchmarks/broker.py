"""A real broker for benchmarks that ship: Kafka with our topics, alone or with more of the stack, in a temporary folder, and the environment that makes this process log to it.

`BENCHMARK_KAFKA=host:port` takes a broker that runs already instead of starting one; topics of a name of their own are made there, and stay.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from runstream_local.demo.agents import end_agents, holder
from runstream_local.stack import Stack
from runstream_producers.agent import LOCK_NAME

if TYPE_CHECKING:
    from collections.abc import Generator

# Where journals usually are, and on a disk: /tmp is in memory on many a machine, and would measure that.
_DISK = Path("/var/tmp")


@contextlib.contextmanager
def logging_to_a_broker(*parts: str) -> Generator[Path]:
    """Starts the broker and further parts of the stack. Gives the folder of this benchmark's journals; nothing is left of broker, agents or settings at the end."""
    before = dict(os.environ)
    kafka = os.environ.get("BENCHMARK_KAFKA")
    settings = {"RUNSTREAM_TOPIC_PREFIX": f"benchmark-{secrets.token_hex(4)}"} if kafka else {}
    with (
        temporary_folder(_DISK if _DISK.is_dir() else None) as name,
        Stack(data=Path(name) / "stack", parts=("kafka", "topics", *parts), kafka=kafka, settings=settings) as stack,
    ):
        for key in [key for key in os.environ if key.startswith("RUNSTREAM_")]:
            del os.environ[key]
        os.environ.update(stack.environment | {"RUNSTREAM_AGENT_IDLE_TIMEOUT": "2", "RUNSTREAM_HARDWARE_INTERVAL": "0"})
        try:
            with journals_in(Path(name) / "journals") as journals:
                yield journals
        finally:
            os.environ.clear()
            os.environ.update(before)


@contextlib.contextmanager
def bare_broker() -> Generator[tuple[dict[str, str], Path]]:
    """Starts the broker alone, without topics, or takes the one of BENCHMARK_KAFKA. Gives the environment of a process that uses it, with a topic prefix of this run, and a folder."""
    kafka = os.environ.get("BENCHMARK_KAFKA")
    prefix = {"RUNSTREAM_TOPIC_PREFIX": f"benchmark-{secrets.token_hex(4)}"}
    with contextlib.ExitStack() as left:
        folder = Path(left.enter_context(temporary_folder(None)))
        if kafka is not None:
            yield {"RUNSTREAM_KAFKA": kafka, **prefix}, folder
            return
        stack = left.enter_context(Stack(data=folder / "stack", parts=("kafka",)))
        yield stack.environment | prefix, folder


def temporary_folder(where: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A folder of this benchmark that goes with its block."""
    return tempfile.TemporaryDirectory(prefix=f"runstream-benchmark-{os.getpid()}-", dir=where, ignore_cleanup_errors=True)


@contextlib.contextmanager
def journals_in(folder: Path) -> Generator[Path]:
    """Runs that begin inside have their journals in a folder, whose agents end with the block."""
    before = os.environ.get("RUNSTREAM_JOURNAL_DIR")
    os.environ["RUNSTREAM_JOURNAL_DIR"] = str(folder)
    try:
        yield folder
    finally:
        end_agents(folder, timeout_s=5.0)
        del os.environ["RUNSTREAM_JOURNAL_DIR"]
        if before is not None:
            os.environ["RUNSTREAM_JOURNAL_DIR"] = before


def agent_of(journals: Path) -> psutil.Process | None:
    """The agent that ships the journals below a folder; None where none has begun yet."""
    for lock in journals.glob(f"*/{LOCK_NAME}"):
        pid = holder(lock)
        if pid is not None:
            return psutil.Process(pid)
    return None


def on_core_s(process: psutil.Process) -> float:
    """Seconds that the threads of a process have spent on a core, to the nanosecond, which the usual count of clock ticks is too coarse for."""
    spent_ns = 0
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It has ended meanwhile.
            spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e9
