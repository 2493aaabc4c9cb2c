"""SIGKILL in the middle of logging: every call that returned is kept."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.producers.journals import bits, read_back
from tests.producers.logging_child import row
from tests.told import make, told

CHILDREN = 4
COUNTS_UP = """
import os, pathlib, sys, time
from tests.told import teller, told
path = pathlib.Path(sys.argv[1])
numbers = teller(path)
for _ in range(100):
    numbers[0] = count = 1000
    pid = os.fork()
    while pid == 0:
        count += 1
        numbers[0] = count
    time.sleep(0.003)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    assert told(path)[0] >= 1000
"""


@pytest.mark.parametrize("seed", range(6))
def test_every_call_that_returned_is_kept(tmp_path: Path, seed: int) -> None:
    """Children that log as fast as they can are killed at random moments; every call that had returned is read back, whole, and at most one more."""
    children: list[tuple[subprocess.Popen[bytes], Path]] = []
    draw = random.Random(seed)
    try:
        for number in range(CHILDREN):
            counts = tmp_path / f"counts-{number}"
            make(counts, 2)
            argv = [sys.executable, "-m", "tests.producers.logging_child", str(tmp_path / f"journal-{number}"), str(counts), str(seed * CHILDREN + number)]
            children.append((subprocess.Popen(argv), counts))
        deadline = time.monotonic() + 30
        while any(told(counts)[0] < 50 for _, counts in children) and time.monotonic() < deadline:
            time.sleep(0.005)
        for child, _ in children:
            time.sleep(draw.random() * 0.03)
            child.kill()
    finally:
        for child, _ in children:
            child.kill()
            child.wait()
    for number, (_, counts) in enumerate(children):
        returned, writer = told(counts)
        [folder] = (tmp_path / f"journal-{number}").glob("w-*")
        rows = read_back(folder, writer)
        assert returned >= 50
        assert returned <= len(rows) <= returned + 1
        for seq, found in enumerate(rows):
            assert (found.seq, found.step) == (seq, seq)
            assert found.values == {name: bits(value) for name, value in row(seq).items()}


def test_what_a_killed_process_told_is_never_torn(tmp_path: Path) -> None:
    """The count that these tests go by is the one before or the one after the kill; with `struct.pack_into` it was now and then zero."""
    make(tmp_path / "count")
    subprocess.run([sys.executable, "-c", COUNTS_UP, str(tmp_path / "count")], check=True, timeout=60)
