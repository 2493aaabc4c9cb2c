"""Makes `.venv` beside this repository: pinned third-party packages by hash, then our own folders without looking anything up.

Uses only the standard library, since it runs before anything is installed. A stamp inside `.venv` says what it was made from, so a second
call returns at once; `.venv` is the only thing that this writes.
"""

from __future__ import annotations

import hashlib
import importlib
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
FOLDERS = ("schemas", "rules", "producers", "sdk", "processors", "sinks", "local")
PYTHON_MIN = (3, 11)
# What a first set-up brings, measured on Linux with Python 3.11: 1.7 GB on disk, most of it the ClickHouse engine, Java and pyarrow.
SIZE_TEXT = "about 700 MB to download, 1.7 GB on disk"


def stamp_text() -> str:
    """What `.venv` depends on: this interpreter, the pins and each folder's own declaration."""
    digest = hashlib.sha256(sys.version.encode())
    for path in (ROOT / "requirements.txt", *(ROOT / folder / "pyproject.toml" for folder in FOLDERS)):
        digest.update(path.read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def refuse(sentence: str) -> int:
    """Prints the one sentence that a user needs and gives the exit code for wrong surroundings."""
    print(sentence, file=sys.stderr)
    return 2


def run(*command: str | Path) -> None:
    """Runs a step with its output shown, and raises CalledProcessError when it fails."""
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def main() -> int:
    """Makes or completes `.venv`; 0 when it is ready, 1 when a step failed, 2 when the surroundings do not allow it."""
    if sys.version_info < PYTHON_MIN:
        return refuse(f"Runstream needs Python 3.11 or later, this is {sys.version.split()[0]}: run `make PYTHON=python3.11 setup`.")
    try:
        importlib.import_module("ensurepip")
        importlib.import_module("venv")
    except ImportError:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        return refuse(f"This Python has no venv module: install the package {package} (Debian, Ubuntu: apt install {package}) and call make again.")
    stamp = VENV / "runstream.stamp"
    wanted = stamp_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    started = time.monotonic()
    python = VENV / "bin" / "python"
    try:
        print(f"Setting up .venv ({SIZE_TEXT} the first time) ...", flush=True)
        print("1/3 virtual environment", flush=True)
        run(sys.executable, "-m", "venv", VENV)
        print("2/3 pinned packages, each checked by its hash", flush=True)
        run(
            python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--progress-bar",
            "on",
            "--require-hashes",
            "-r",
            "requirements.txt",
        )
        print("3/3 the folders of this repository", flush=True)
        editable = [part for folder in FOLDERS for part in ("--editable", f"./{folder}")]
        run(
            python,
            "-m",
            "pip",
            "install",
            "--disable-pip-version-check",
            "--quiet",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            *editable,
        )
    except subprocess.CalledProcessError as error:
        return refuse(f"Set-up stopped: {error}. Read the lines above; `make clean` and `make setup` start again from nothing.")
    stamp.write_text(wanted)
    print(f"Ready in {time.monotonic() - started:.0f} s: .venv/bin/runstream --help", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
