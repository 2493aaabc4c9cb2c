"""A ClickHouse engine and a Kafka broker of a test's own, which it may kill and start again on the same data."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from runstream_local.clickhouse.health import is_serving
from runstream_local.kafka import is_healthy
from runstream_local.kafka_jars import ensure_jars
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import signal_group, start_child
from tests.sinks.workers import wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Sequence
    from pathlib import Path


class _Service:
    """A process on one folder."""

    def __init__(self, argv: Sequence[str], log: Path, probe: Callable[[], bool]) -> None:
        self._argv = argv
        self._log = log
        self._probe = probe
        self._child: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._child = start_child([sys.executable, "-m", *self._argv], log=self._log)
        wait_for(self._probe, self._log.stem)

    def kill(self) -> None:
        """Ends it the hard way."""
        if self._child is not None:
            signal_group(self._child.pid, signal.SIGKILL)
            self._child.wait()
            self._child = None


class Engine(_Service):
    """A ClickHouse engine at `url`, with a configuration file of ClickHouse if one is given."""

    def __init__(self, folder: Path, config: Path | None = None) -> None:
        port = choose_port()
        self.url = f"http://{HOST}:{port}"
        argv = ["runstream_local.clickhouse", "--data", str(folder / "data"), "--port", str(port)]
        argv += ["--config", str(config)] if config else []
        super().__init__(argv, folder / "clickhouse.log", lambda: is_serving(self.url))


class Broker(_Service):
    """A Kafka broker at `bootstrap`."""

    def __init__(self, folder: Path) -> None:
        ensure_jars()
        port = choose_port()
        self.bootstrap = f"{HOST}:{port}"
        argv = ["runstream_local.kafka", "--data", str(folder / "kafka"), "--port", str(port)]
        argv += ["--controller-port", str(choose_port(avoid=frozenset({port})))]
        super().__init__(argv, folder / "kafka.log", lambda: is_healthy(self.bootstrap))
