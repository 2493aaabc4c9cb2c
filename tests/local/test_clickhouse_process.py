"""The embedded ClickHouse server as a process: hard kills, orderly ends, one owner a folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runstream_local.clickhouse.health import is_serving
from runstream_local.ports import HOST, choose_port
from runstream_local.processes import start_child, stop_child
from tests.local.clickhouse_clients import post

pytestmark = pytest.mark.stack


class Server:
    """A server process on one folder and port that can be started again."""

    def __init__(self, folder: Path) -> None:
        """Starts it on a new port."""
        self.data = folder / "data"
        self.log = folder / "log"
        self.port = choose_port()
        self.url = f"http://{HOST}:{self.port}"
        self.child = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Starts the process and waits until it answers."""
        self.child = start_child([sys.executable, "-m", "runstream_local.clickhouse", "--data", str(self.data), "--port", str(self.port)], log=self.log)
        deadline = time.monotonic() + 20
        while not is_serving(self.url):
            assert self.child.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self.child


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of one test."""
    server = Server(tmp_path)
    yield server
    stop_child(server.child, timeout_s=10)


def test_a_hard_kill_loses_no_acknowledged_row(server: Server) -> None:
    """Killed three times in the middle of inserts, it is up again within 5 s and holds every row whose insert was answered."""
    post(server.url, "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    acknowledged: list[int] = []
    stop = threading.Event()

    def insert() -> None:
        number = len(acknowledged)
        while not stop.is_set():
            try:
                answer = post(server.url, f"INSERT INTO t FORMAT CSV\n{number}\n")
            except OSError:
                time.sleep(0.01)
                continue
            if answer.status == 200:
                acknowledged.append(number)
            number += 1

    writer = threading.Thread(target=insert)
    writer.start()
    try:
        for _ in range(3):
            before = len(acknowledged)
            while len(acknowledged) < before + 30:
                time.sleep(0.01)
            server.child.send_signal(signal.SIGKILL)
            server.child.wait()
            killed_at = time.monotonic()
            server.start()
            assert time.monotonic() - killed_at < 5
    finally:
        stop.set()
        writer.join()
    stored = {int(line) for line in post(server.url, "SELECT a FROM t").text.split()}
    assert stored >= set(acknowledged)


def test_sigterm_lets_a_running_insert_finish(server: Server) -> None:
    """An insert that runs when the signal comes is answered, the process ends with 0, and the rows are there at the next start."""
    post(server.url, "CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    answers: list[int] = []
    sql = "INSERT INTO t SELECT sleepEachRow(0.1) + number FROM numbers(10) SETTINGS max_block_size = 1"
    running = threading.Thread(target=lambda: answers.append(post(server.url, sql).status))
    running.start()
    time.sleep(0.3)
    assert stop_child(server.child, timeout_s=10) == 0
    running.join()
    assert answers == [200]
    server.start()
    assert post(server.url, "SELECT count() FROM t").text == "10\n"


def test_a_statement_without_end_does_not_hold_up_the_stop(server: Server) -> None:
    """SIGTERM is over within 8 s whatever runs."""

    def ask() -> None:
        with pytest.raises(OSError):
            post(server.url, "SELECT sleepEachRow(1) FROM numbers(25) SETTINGS max_block_size = 1")

    running = threading.Thread(target=ask)
    running.start()
    time.sleep(0.5)
    started = time.monotonic()
    stop_child(server.child, timeout_s=12)
    assert time.monotonic() - started < 8
    running.join()


def test_a_folder_has_one_owner(server: Server) -> None:
    """A second server on the same folder says so and ends with 2; the first is not disturbed."""
    argv = [sys.executable, "-m", "runstream_local.clickhouse", "--data", str(server.data), "--port", str(choose_port())]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert str(server.data) in done.stderr
    assert "Traceback" not in done.stderr
    assert post(server.url, "SELECT 1").text == "1\n"


def test_a_taken_port_is_said(server: Server, tmp_path: Path) -> None:
    """A port that somebody else has is one sentence and exit code 2."""
    argv = [sys.executable, "-m", "runstream_local.clickhouse", "--data", str(tmp_path / "other"), "--port", str(server.port)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert str(server.port) in done.stderr
    assert "Traceback" not in done.stderr


def test_answers_do_not_pass_through_memory(server: Server) -> None:
    """An answer of 400 MB leaves the server's memory where it was, give or take what the engine needs to produce it."""
    post(server.url, "SELECT number FROM numbers(1000) FORMAT JSON")
    before = resident_mb(server.child.pid)
    answer = post(server.url, "SELECT count() FROM numbers(10)")
    assert answer.text == "10\n"
    process = subprocess.run(
        ["curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", server.url, "-d", "SELECT number, toString(number) s FROM numbers(8000000) FORMAT JSON"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert int(process.stdout) > 350_000_000
    assert resident_mb(server.child.pid, "VmHWM") - before < 250


def resident_mb(pid: int, field: str = "VmRSS") -> float:
    """Returns a process's resident memory, or its highest so far with VmHWM."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise AssertionError(field)
