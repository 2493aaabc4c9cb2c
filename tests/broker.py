"""A broker of a test's own, which it may hold still, kill and start again on the same data."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

from runstream_local.kafka import is_healthy
from runstream_local.kafka_jars import ensure_jars
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import start_child, stop_child


class Broker:
    """Apache Kafka on free ports; runs from its making until `stop`."""

    def __init__(self, folder: Path) -> None:
        ensure_jars()
        self.folder = folder
        self.port = choose_port()
        self.controller_port = choose_port(avoid=frozenset({self.port}))
        self.child: subprocess.Popen[bytes] = self.start()

    @property
    def servers(self) -> str:
        """Bootstrap servers."""
        return f"{HOST}:{self.port}"

    def start(self) -> subprocess.Popen[bytes]:
        """Starts it and waits until it answers."""
        argv = [sys.executable, "-m", "runstream_local.kafka", "--data", str(self.folder)]
        argv += ["--port", str(self.port), "--controller-port", str(self.controller_port)]
        self.child = start_child(argv, log=self.folder / "kafka.log")
        deadline = time.monotonic() + 60
        while not is_healthy(self.servers):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        return self.child

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Holds it still meanwhile: connections stay, and nobody answers; afterwards it takes in what has been sent to it."""
        os.kill(self.child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.child.pid, signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL."""
        self.child.kill()
        self.child.wait(10)

    def stop(self) -> None:
        """Ends it for good."""
        stop_child(self.child, timeout_s=10)
