"""What is captured of a process's surroundings at its start: Python, command line, host, git, packages, variables. Each part has a name and can be turned off (setting `capture`).

Nothing here imports what it looks for. One process is started, for git, by the first rank of a node and once only; it has `GIT_TIMEOUT_S`.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from runstream import _secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

GIT_TIMEOUT_S = 2.0
PARTS = ("python", "platform", "command", "directory", "git", "packages", "variables")
# Variables that decide how training runs; others may hold anything and are left alone.
_VARIABLES = re.compile(
    r"(CUDA|NCCL|OMP|MKL|TORCH|PYTORCH|XLA|JAX|TF|SLURM|HIP|ROCR|GLOO|UCX|MASTER|NVIDIA|CUBLAS|KMP|RAY|HF|TOKENIZERS)_[A-Z0-9_]+|WORLD_SIZE|RANK|LOCAL_RANK|CONDA_DEFAULT_ENV|VIRTUAL_ENV"
)
DISTRIBUTION = re.compile(r"(.+?)-([^-]+)(?:-py\d[^/]*)?\.(?:dist-info|egg-info)")
_SEPARATORS = re.compile(r"[-_.]+")
_PACKAGES_MAX = 2000


def captured(parts: frozenset[str], *, first_of_node: bool) -> dict[str, str]:
    """What is known of this process's surroundings, as texts by name. Git is the first rank's of a node to tell, since its others have the same.

    Packages are params (`_installed`): these texts go along with each sign of life of a writer, and a list of packages would be most of it.
    """
    out: dict[str, str] = {}
    if "python" in parts:
        out["python"] = platform.python_version()
    if "platform" in parts:
        out["platform"] = _platform()
    if "command" in parts:
        out["command"] = _secrets.in_command(sys.orig_argv)
    if "directory" in parts:
        out["directory"] = _directory()
    if "variables" in parts:
        out |= {f"env.{name}": value for name, value in _variables(os.environ).items()}
    if first_of_node and "git" in parts:
        out |= _git(_directory())
    return out


def _directory() -> str:
    with contextlib.suppress(OSError):
        return os.getcwd()  # noqa: PTH109 - a path object says no more
    return ""


def _platform() -> str:
    """System, release, machine and C library. `platform.platform` says the same and starts a process for it."""
    one = os.uname()
    with contextlib.suppress(ValueError, OSError):
        return f"{one.sysname}-{one.release}-{one.machine}-with-{(os.confstr('CS_GNU_LIBC_VERSION') or '').replace(' ', '')}"
    return f"{one.sysname}-{one.release}-{one.machine}"


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: _secrets.hidden(name, environ[name]) for name in sorted(environ) if _VARIABLES.fullmatch(name)}


@cache
def _git(directory: str) -> dict[str, str]:
    """Commit, branch and whether files that git knows were changed, of the repository that the directory is in; empty outside of one, or where there is no git."""
    command = ["git", "--no-optional-locks", "-C", directory, "status", "--porcelain=v2", "--branch", "--untracked-files=no"]
    try:
        told = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, RuntimeError, ValueError, subprocess.TimeoutExpired):
        return {}
    return {} if told.returncode else _git_told(told.stdout.decode("utf-8", "replace"))


def _git_told(text: str) -> dict[str, str]:
    out = {"git.dirty": "false"}
    for line in text.splitlines():
        if line.startswith("# branch.oid "):
            out["git.commit"] = line.removeprefix("# branch.oid ")
        elif line.startswith("# branch.head "):
            out["git.branch"] = line.removeprefix("# branch.head ")
        elif line[:1] in ("1", "2", "u"):
            out["git.dirty"] = "true"
    return out


@cache
def packages() -> tuple[str, ...]:
    """The distributions on this process's path, as `name==version`, by the names of their folders: to read their metadata would take a hundred times as long."""
    found = distributions(sys.path)
    return tuple(f"{name}=={version}" for name, version in sorted(found.items(), key=lambda item: item[0].lower()))[:_PACKAGES_MAX]


def distributions(places: Sequence[str]) -> dict[str, str]:
    """Version by name of the distributions in these folders, as an interpreter with them on its path would find them."""
    found: dict[str, tuple[str, str]] = {}
    for place in places:
        with contextlib.suppress(OSError):
            for name in os.listdir(Path(place or ".")):  # noqa: PTH208 - names are all that is wanted
                one = DISTRIBUTION.fullmatch(name)
                if one is not None:
                    found.setdefault(normal(one[1]), (one[1], one[2]))
    return dict(found.values())


def normal(name: str) -> str:
    """A distribution's name as all its spellings compare (PEP 503)."""
    return _SEPARATORS.sub("-", name).lower()
