"""Makes `.venv` beside this repository: pinned third-party packages by hash, then our own folders without looking anything up.

With `--frameworks` it adds torch, jax, tensorflow and ray, which some tests run against and nothing of ours needs.

Uses only the standard library, since it runs before anything is installed. A stamp inside `.venv` says what it was made from, so a second
call returns at once; `.venv` is the only thing that this writes.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
COMPILED = ("producers/build_quick.py", "producers/src/runstream_producers/journal/_quick.c")
FOLDERS = ("schemas", "feed", "rules", "producers", "sdk", "processors", "sinks", "local")
PYTHON_MIN = (3, 11)
# What a first set-up brings, measured on Linux with Python 3.11: 1.7 GB on disk, most of it the ClickHouse engine, Java and pyarrow.
SIZE_TEXT = "about 700 MB to download, 1.7 GB on disk"
# What the frameworks add, with the CUDA libraries that torch brings along.
FRAMEWORKS_SIZE_TEXT = "about 3.8 GB to download, 8 GB on disk"


def stamp_text() -> str:
    """What `.venv` depends on: this interpreter, the pins, each folder's own declaration and what is compiled."""
    return _digest("requirements.txt", *(f"{folder}/pyproject.toml" for folder in FOLDERS), *COMPILED)


def frameworks_stamp_text() -> str:
    """What the frameworks in `.venv` depend on: this interpreter and all pins, since the two files share packages."""
    return _digest("requirements.txt", "requirements-frameworks.txt")


def _digest(*names: str) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for name in names:
        digest.update((ROOT / name).read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def refuse(sentence: str) -> int:
    """Prints the one sentence that a user needs and gives the exit code for wrong surroundings."""
    print(sentence, file=sys.stderr)
    return 2


def run(*command: str | Path) -> None:
    """Runs a step with its output shown, and raises CalledProcessError when it fails."""
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def pip_install(*arguments: str | Path) -> None:
    """Runs pip's `install` in `.venv`."""
    run(VENV / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check", *arguments)


def install_pinned(requirements: str) -> None:
    """Installs the packages of a file, each checked by its hash, and shows how far it is."""
    pip_install("--progress-bar", "on", "--require-hashes", "-r", requirements)


def make_venv() -> None:
    """Makes or completes `.venv`; raises CalledProcessError."""
    print(f"Setting up .venv ({SIZE_TEXT} the first time) ...", flush=True)
    print("1/3 virtual environment", flush=True)
    run(sys.executable, "-m", "venv", VENV)
    print("2/3 pinned packages, each checked by its hash", flush=True)
    install_pinned("requirements.txt")
    print("3/3 the folders of this repository", flush=True)
    editable = [part for folder in FOLDERS for part in ("--editable", f"./{folder}")]
    pip_install("--quiet", "--no-deps", "--no-build-isolation", "--no-index", *editable)
    if not list((ROOT / COMPILED[-1]).parent.glob("_quick*.so")):
        print(
            "The usual log call stays in Python. A C compiler and Python's headers (Debian: gcc, python3-dev) make it four times as quick: then run `make clean setup`."
        )


def add_frameworks() -> None:
    """Adds the training frameworks to `.venv`; raises CalledProcessError."""
    print(f"Adding torch, jax, tensorflow and ray to .venv ({FRAMEWORKS_SIZE_TEXT} the first time) ...", flush=True)
    install_pinned("requirements-frameworks.txt")


def complete(stamp: Path, wanted: str, step: Callable[[], None], ready: str) -> None:
    """Takes a step unless its stamp says that nothing has changed since it was taken last."""
    if stamp.exists() and stamp.read_text() == wanted:
        return
    started = time.monotonic()
    step()
    stamp.write_text(wanted)
    print(f"Ready in {time.monotonic() - started:.0f} s: {ready}", flush=True)


def main(argv: list[str]) -> int:
    """Makes or completes `.venv`; 0 when it is ready, 1 when a step failed, 2 when the surroundings do not allow it."""
    parser = argparse.ArgumentParser(description="Makes .venv: pinned packages by hash, then the folders of this repository.")
    parser.add_argument("--frameworks", action="store_true", help=f"add torch, jax, tensorflow and ray for tests/frameworks ({FRAMEWORKS_SIZE_TEXT})")
    asked = parser.parse_args(argv)
    if sys.version_info < PYTHON_MIN:
        return refuse(f"Runstream needs Python 3.11 or later, this is {sys.version.split()[0]}: run `make PYTHON=python3.11 setup`.")
    try:
        importlib.import_module("ensurepip")
        importlib.import_module("venv")
    except ImportError:
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        return refuse(f"This Python has no venv module: install the package {package} (Debian, Ubuntu: apt install {package}) and call make again.")
    try:
        complete(VENV / "runstream.stamp", stamp_text(), make_venv, ".venv/bin/runstream --help")
        if asked.frameworks:
            complete(VENV / "frameworks.stamp", frameworks_stamp_text(), add_frameworks, ".venv/bin/python -m pytest tests/frameworks")
    except (OSError, subprocess.CalledProcessError) as error:
        refuse(f"Set-up stopped: {error}. Read the lines above; `make clean` and `make setup` start again from nothing.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
