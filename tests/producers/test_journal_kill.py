"""SIGKILL in the middle of logging: every call that returned is kept."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.producers.journals import bits, read_back
from tests.producers.logging_child import row

CHILDREN = 4


def counts_of(path: Path) -> tuple[int, int]:
    """How many calls of a child returned, and which writer it is."""
    returned, writer = struct.unpack("<QQ", path.read_bytes())
    return returned, writer


@pytest.mark.parametrize("seed", range(6))
def test_every_call_that_returned_is_kept(tmp_path: Path, seed: int) -> None:
    """Children that log as fast as they can are killed at random moments; every call that had returned is read back, whole, and at most one more."""
    children: list[tuple[subprocess.Popen[bytes], Path]] = []
    draw = random.Random(seed)
    try:
        for number in range(CHILDREN):
            counts = tmp_path / f"counts-{number}"
            counts.write_bytes(bytes(16))
            argv = [sys.executable, "-m", "tests.producers.logging_child", str(tmp_path / f"journal-{number}"), str(counts), str(seed * CHILDREN + number)]
            children.append((subprocess.Popen(argv), counts))
        deadline = time.monotonic() + 30
        while any(counts_of(counts)[0] < 50 for _, counts in children) and time.monotonic() < deadline:
            time.sleep(0.005)
        for child, _ in children:
            time.sleep(draw.random() * 0.03)
            child.kill()
    finally:
        for child, _ in children:
            child.kill()
            child.wait()
    for number, (_, counts) in enumerate(children):
        returned, writer = counts_of(counts)
        [folder] = (tmp_path / f"journal-{number}").glob("w-*")
        rows = read_back(folder, writer)
        assert returned >= 50
        assert returned <= len(rows) <= returned + 1
        for seq, found in enumerate(rows):
            assert (found.seq, found.step) == (seq, seq)
            assert found.values == {name: bits(value) for name, value in row(seq).items()}
