"""A worker of pytest-xdist that dies costs the test that it died in, and nothing else: every other test runs, and the run ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scheduling import LONGEST

ROOT = Path(__file__).resolve().parents[2]
DIES = "import os\ndef test_dies():\n    os._exit(1)\n"
FINE = "def test_fine():\n    pass\n"
MORE = FINE + "def test_more():\n    pass\n"


@pytest.mark.parametrize(
    ("files", "workers", "failed", "passed"),
    [
        # The dead worker has been through with a file, the last one is the one in which it died.
        ((MORE, DIES), 1, 1, 2),
        # What stood behind the deadly test is one test, which is all that the next worker has.
        ((MORE, "import time\ndef test_before():\n    time.sleep(0.2)\n" + DIES + FINE), 1, 1, 4),
        # Two of three workers die, and small files are left for whoever comes.
        ((DIES + MORE, DIES + MORE, *[FINE] * 12), 3, 2, 16),
    ],
    ids=["the-last", "one-left", "two-of-three"],
)
def test_a_dead_worker_costs_one_test(tmp_path: Path, files: tuple[str, ...], workers: int, failed: int, passed: int) -> None:
    """Deadly tests fail, once each, whatever their workers had done before, and the others pass."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    for number, text in enumerate(files):
        (tmp_path / f"test_{number:02}.py").write_text(text)
    argv = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "xdist.plugin",
        "-p",
        "tests.scheduling",
        "-n",
        str(workers),
        "--dist",
        "loadfile",
        str(tmp_path),
    ]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environ |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(argv, env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{failed} failed, {passed} passed" in done.stdout
    assert done.stdout.count("crashed while running") == 2 * failed


def test_the_longest_files_are_there() -> None:
    """They are known by their names."""
    assert [file for file in LONGEST if not (ROOT / file).exists()] == []
