"""Driving pip: a list of requirements is installed as a whole, and where that fails, whatever of it can be, with the reason for each that cannot."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TIMEOUT_S = 3600.0  # For one call of pip, which may build or fetch gigabytes.
_PYTHON_OPTION_SINCE = (22, 3)
_NAMED = re.compile(r"(?:requirement|distribution found for) ([^\s;]+)")


def is_here() -> bool:
    """Whether this interpreter has a pip that can install for another one (`--python`, from 22.3 on)."""
    try:
        version = tuple(int(part) for part in importlib.metadata.version("pip").split(".")[:2])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return False
    return version >= _PYTHON_OPTION_SINCE


def environ() -> dict[str, str]:
    """The variables for pip and interpreters of other environments: ours, without those that would show them our own packages."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "PYTHONHOME", "__PYVENV_LAUNCHER__", "PIP_TARGET", "PIP_PREFIX", "PIP_USER")
    }


def install(python: Path, requirements: Mapping[str, str], options: Sequence[str], tell: Callable[[str], None]) -> dict[str, str]:
    """Installs requirements by name into the environment of an interpreter, without what they depend on; gives the reason for each name that could not be."""
    before = [sys.executable, "-m", "pip", "--python", str(python)] if is_here() else [str(python), "-m", "pip"]
    argv = [*before, "install", "--no-deps", "--no-input", "--disable-pip-version-check", "--progress-bar", "off", *options]
    failed: dict[str, str] = {}

    def attempt(names: list[str]) -> None:
        if not names:
            return
        tell(f"installing {len(names)} packages" if len(names) > 1 else f"installing {requirements[names[0]]}")
        said = _run(argv, [requirements[name] for name in names])
        if said is None:
            return
        if len(names) == 1:
            failed[names[0]] = _reason(said)
            return
        # pip stops at the first that it cannot find, and names it.
        found = set(_NAMED.findall(said))
        named = [name for name in names if requirements[name] in found]
        if named and len(named) < len(names):
            failed.update(dict.fromkeys(named, _reason(said)))
            attempt([name for name in names if name not in named])
        else:
            attempt(names[: len(names) // 2])
            attempt(names[len(names) // 2 :])

    attempt(list(requirements))
    return failed


def _run(argv: Sequence[str], lines: Sequence[str]) -> str | None:
    """What pip said where it failed; None where it did not."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        try:
            done = subprocess.run(
                [*argv, "--requirement", file.name], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False, env=environ()
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"ERROR: {error}"
    return (done.stderr + done.stdout).decode("utf-8", "replace") if done.returncode else None


def _reason(said: str) -> str:
    """The sentence by which pip says why."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.partition("ERROR:")[2].strip() for line in lines if "ERROR:" in line]
    # Before it says that there is no such version, it lists those that it passed over, of any package it met on its way.
    errors = [error for error in errors if not error.startswith("Ignored the following")] or errors
    return (errors or lines or ["pip failed without a word"])[0][:500]
