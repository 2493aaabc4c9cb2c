"""A ClickHouse engine of a test's own, which it may kill and start again on the same data."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from runstream_local.clickhouse.health import is_serving
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import signal_group, start_child
from tests.sinks.workers import wait_for

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


class Engine:
    """One engine on one folder and port."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = choose_port()
        self.url = f"http://{HOST}:{self._port}"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        argv = [sys.executable, "-m", "runstream_local.clickhouse", "--data", str(self._folder / "data"), "--port", str(self._port)]
        self._child = start_child(argv, log=self._folder / "clickhouse.log")
        wait_for(lambda: is_serving(self.url), "clickhouse")

    def kill(self) -> None:
        """Ends it the hard way."""
        if self._child is not None:
            signal_group(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None
