"""`python -m tests.fuzz`: searches for inputs that break a promise, guided by the branches that they reach (atheris, which `make fuzz` installs).

Each target runs in a process of its own, from its valid inputs on, for a stated number of executions. What breaks a promise is kept as a file, and `--input` repeats it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EXECUTIONS = 20_000
OURS = ["runstream_feed", "runstream_schemas", "runstream_rules", "runstream_producers"]
_RSS_MIB_MAX = 1024  # A record of a few kilobytes that takes a gigabyte is found so.
_INPUT_S_MAX = 10  # What takes longer for one input is told as a failure.
_SEARCH_S_MAX = 4 * 3600
_ROOT = Path(__file__).resolve().parents[2]


def search(name: str, folder: Path, executions: int, seed: int) -> None:
    """Searches in this process, and ends it."""
    # Not installed by set-up, and without types.
    atheris: Any = importlib.import_module("atheris")
    with atheris.instrument_imports(include=OURS):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = folder / name
    corpus.mkdir()
    for number, seed_input in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed_input)
    options = {
        "atheris_runs": executions,
        "seed": seed,
        "max_len": target.bytes_max,
        "len_control": 0,
        "timeout": _INPUT_S_MAX,
        "rss_limit_mb": _RSS_MIB_MAX,
        "artifact_prefix": f"{folder}/{name}-",
    }
    tempfile.tempdir = str(folder)  # What a target makes goes with the search, which ends its process without a word to Python.
    atheris.Setup(["fuzz", *(f"-{key}={value}" for key, value in options.items()), str(corpus)], target.check)
    atheris.Fuzz()


def searched(name: str, folder: Path, executions: int, seed: int) -> dict[str, Any]:
    """Searches in a process of its own, and says what came of it."""
    command = [sys.executable, "-m", "tests.fuzz", name, "--search-in", str(folder), "--executions", str(executions), "--seed", str(seed)]
    begun = time.monotonic()
    ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, errors="replace", timeout=_SEARCH_S_MAX, check=False)
    said = ended.stderr + ended.stdout
    done = re.findall(r"Done (\d+) in", said) or re.findall(r"^#(\d+)", said, re.MULTILINE)
    reached = re.findall(r"cov: (\d+)", said)
    memory = re.findall(r"rss: (\d+)Mb", said)
    broken = sorted(str(path) for path in folder.glob(f"{name}-*"))
    found: dict[str, Any] = {
        "target": name,
        "executions": int(done[-1]) if done else 0,
        "branches_from_seeds": int(reached[0]) if reached else 0,
        "branches": int(reached[-1]) if reached else 0,
        "rss_mib_max": max(map(int, memory), default=0),
        "seconds": round(time.monotonic() - begun, 1),
        "broken": broken,
    }
    if ended.returncode or broken:
        found["said"] = f"ended with {ended.returncode}: {said[-4000:]}"
    return found


def main(argv: list[str] | None = None) -> int:
    """Searches; 0 where every promise held for every execution asked for, 1 where one was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", help="targets; all of them, unless named")
    parser.add_argument("--executions", type=int, default=EXECUTIONS, help=f"of each target ({EXECUTIONS} unless given)")
    parser.add_argument("--seed", type=int, default=1, help="repeats a search")
    parser.add_argument("--input", type=Path, help="check this file with the one target named, and search nothing")
    parser.add_argument("--search-in", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.search_in is not None:
        search(asked.target[0], asked.search_in, asked.executions, asked.seed)
        return 0
    from tests.fuzz.targets import TARGETS

    unknown = sorted(set(asked.target) - TARGETS.keys())
    if unknown or (asked.input is not None and len(asked.target) != 1):
        parser.error(f"expected targets out of {', '.join(TARGETS)}, and one of them with --input; got {' '.join(unknown) or 'none or several'}")
    if asked.input is not None:
        TARGETS[asked.target[0]].check(asked.input.read_bytes())
        return 0
    shared = Path("/dev/shm")  # Journals are written anew for each input.
    folder = Path(tempfile.mkdtemp(prefix="runstream-fuzz-", dir=shared if shared.is_dir() else None))
    failed = False
    for name in asked.target or TARGETS:
        found = searched(name, folder, asked.executions, asked.seed)
        said = found.pop("said", "")
        failed = failed or bool(said) or found["executions"] < asked.executions
        sys.stdout.write(json.dumps(found) + "\n" + said)
        sys.stdout.flush()
    if failed:
        sys.stdout.write(f"A promise was broken: `python -m tests.fuzz TARGET --input FILE` repeats it; corpora and inputs are in {folder}\n")
        return 1
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
