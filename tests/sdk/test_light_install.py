"""`import runstream` where nothing is installed beside our own folders: what training code waits for is the standard library, and little of that."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = [str(ROOT / folder / "src") for folder in ("sdk", "producers", "rules", "schemas")]
# What is slow to import and of use to few: http.client brings ssl and email.
HEAVY = {"asyncio", "concurrent.futures", "email", "fastavro", "http.client", "multiprocessing", "numpy", "psutil", "pydantic", "ssl", "unittest", "xml"}


def imported(code: str) -> set[str]:
    """Modules that an interpreter without any installed package has after this code."""
    told = f"import sys, json; before = set(sys.modules); sys.path[:0] = {FOLDERS!r}; {code}; print(json.dumps(sorted(set(sys.modules) - before)))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", told], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_a_bare_environment_can_import_it() -> None:
    """No package is needed nor asked for, and none of the standard library's heavy parts comes along."""
    found = imported("import runstream")
    assert "runstream" in found
    third = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names)
    assert third <= {"runstream", "runstream_producers", "runstream_rules", "runstream_schemas"}
    assert not found & HEAVY


def test_a_disabled_run_needs_no_more() -> None:
    """With `mode="disabled"` a script runs in a bare environment as it stands."""
    found = imported(
        "import os, runstream; os.environ['RUNSTREAM_RUN_ID'] = 'x'; run = runstream.init('p', mode='disabled'); run.log({'a': 1.0}); run.finish()"
    )
    assert not found & {"numpy", "fastavro", "confluent_kafka", "pyarrow", "torch"}
