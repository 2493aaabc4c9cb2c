"""Driving conda, mamba or micromamba: an environment of packages by version and build, and where that cannot be had, of whatever of it can, with the reason for the rest.

Solvers refuse a list as a whole, and some name one package at a time that they have not. So it is asked again with less: first without the build of what was named, then without the package.
Where nothing is named, more is left out at each step: all builds, all but Python and pip, Python's last number, its version. What Python imports and conda has not is left to pip (`_build`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from runstream.environments import _pip

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PROGRAMS = ("conda", "mamba", "micromamba")
_VARIABLES = ("CONDA_EXE", "MAMBA_EXE")  # Where the program is a function of the shell, which has no file on the path.
_KEPT = ("python", "pip")  # Without these nothing else can be installed.
_ROUNDS_WITH_BUILDS = 8  # An environment of another platform has no build in common; each round may take a minute.
_ROUNDS_MAX = 16
_ABSENT = re.compile(r"does not exist|nothing provides|no candidates|not available|not found|NotFound", re.IGNORECASE)
_LISTED = re.compile(r"NotFound|not available|not found|missing from", re.IGNORECASE)
_IN_THE_WAY = re.compile(r"would require|cannot be installed|not installable|needed by|conflict", re.IGNORECASE)
_HOPELESS = re.compile(
    r"connection (?:failed|refused|error)|could not resolve|HTTP 000|no space left|permission denied|InvalidChannel|NotWritable|NoWritable", re.IGNORECASE
)
_NO_CHANNEL = re.compile(r"for channel (\S+)|(\S+)/(?:noarch|[a-z]+-[a-z0-9_]+)/repodata", re.IGNORECASE)
_ERROR = re.compile(r"\w*(?:Error|Exception)\b|^[A-Z][a-z]+[A-Z]\w*: |\b(?:error|critical)\b")


@dataclass(frozen=True, slots=True)
class Spec:
    """A package as conda is asked for it: by name, by version too, or by build too."""

    name: str
    version: str = ""
    build: str = ""

    def __str__(self) -> str:
        return "=".join(part for part in (self.name, self.version, self.build) if part)


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it: the reason for each package that was left out, and why there is no environment, empty where there is one."""

    failed: dict[str, str]
    said: str = ""


def program() -> str | None:
    """The program that makes environments: conda, mamba or micromamba on the path, else the one that a shell set up for itself."""
    named = (os.environ.get(name) for name in _VARIABLES)
    return next((there for name in (*_PROGRAMS, *named) if name and (there := shutil.which(name))), None)


def interpreter(prefix: Path) -> Path:
    """Where the interpreter of an environment of conda's lies."""
    return prefix / ("python.exe" if os.name == "nt" else "bin/python")


def file(name: str, channels: Sequence[str], specs: Sequence[Spec], pip: Sequence[str] = (), comments: Sequence[str] = ()) -> str:
    """The text of an environment.yml."""
    lines = [f"name: {json.dumps(name)}", "channels:", *(f"  - {json.dumps(one)}" for one in channels), "dependencies:"]
    lines += [f"  - {json.dumps(str(one))}" for one in specs]
    if pip:
        lines += ["  - pip:", *(f"    - {json.dumps(one)}" for one in pip)]
    return "\n".join([*lines, *comments]) + "\n"


def make(executable: str, prefix: Path, channels: Sequence[str], specs: Sequence[Spec], tell: Callable[[str], None]) -> Made:
    """Makes an environment at a prefix that is not there yet. Blocks for as long as that takes, an hour at most."""
    until = time.monotonic() + _pip.TIMEOUT_S
    failed: dict[str, str] = {}
    wanted = list(specs)
    for rounds in range(_ROUNDS_MAX + len(_KEPT) + len(channels) + 3):
        said = _run(executable, prefix, file("runstream", channels, wanted), until - time.monotonic())
        if said is None:
            return Made(failed)
        shutil.rmtree(prefix, ignore_errors=True)  # What a failed attempt left would be in the next one's way.
        gone = unreachable(channels, said)
        if gone and len(gone) < len(channels):
            tell(f"{Path(executable).name} could not read {', '.join(gone)}: trying without")
            channels = [one for one in channels if one not in gone]
            continue
        less = relaxed(wanted, said, rounds)
        if less is None or time.monotonic() > until:
            return Made(failed, _why(said))
        left = {one.name for one in less}
        failed |= {one.name: _why(said) for one in wanted if one.name not in left}
        changed = [str(one) for one in wanted if one not in less]
        tell(f"{Path(executable).name} could not make it with {', '.join(changed[:5])}{' and others' if len(changed) > 5 else ''}: trying with less")
        wanted = less
    return Made(failed, "it failed at each attempt with less")


def unreachable(channels: Sequence[str], said: str) -> list[str]:
    """The channels that are not there any more, or not for us, by what was said."""
    named = [name.strip("<>'\"") for pair in _NO_CHANNEL.findall(said) for name in pair if name]
    return [one for one in channels if any(name == one or name.endswith(f"/{one}") for name in named)]


def relaxed(specs: Sequence[Spec], said: str, rounds: int) -> list[Spec] | None:
    """What to ask for next, after these could not be had and this was said; None where nothing less is left to ask for."""
    named = _named(specs, said) if rounds < _ROUNDS_MAX else set[str]()
    if named and not (rounds >= _ROUNDS_WITH_BUILDS and any(one.build for one in specs)):
        less = [_less(one) if one.name in named else one for one in specs]
        return [one for one in less if one is not None]
    if _HOPELESS.search(said):
        return None
    if any(one.build for one in specs):
        return [replace(one, build="") for one in specs]
    if any(one.name not in _KEPT for one in specs):
        return [one for one in specs if one.name in _KEPT]
    for one in reversed(specs):  # pip before Python: whose version matters more.
        if one.version:
            return [_less(other) or other if other is one else other for other in specs]
    return None


def _less(spec: Spec) -> Spec | None:
    """The same with one wish less; None where it is to be left out."""
    if spec.build:
        return replace(spec, build="")
    if spec.name not in _KEPT:
        return None
    minor = ".".join(spec.version.split(".")[:2])
    return replace(spec, version=minor if spec.name == "python" and minor != spec.version else "")


def _named(specs: Sequence[Spec], said: str) -> set[str]:
    """Those of which conda says that it has them not, else those that it says are in the way; of which it can ask for less."""
    lines = [line.strip(" \t│├└─") for line in re.split(r"[\r\n]+", said)]
    # A list of what it has not, beside which there may be one of the channels that it asked.
    listed = [line[2:].rpartition("::")[2] for line in lines if line.startswith("- ")] if _LISTED.search(said) else []
    absent = [line for line in lines if _ABSENT.search(line)] + [re.split(r"[\s=<>!~\[]", line)[0] for line in listed]
    able = [one for one in specs if one.version]
    return (
        {one.name for one in able if any(_names(line, one) for line in absent)}
        or {one.name for one in able if re.search(rf"\b{re.escape(f'{one.name}-{one.version}-')}\S*\.(?:conda|tar\.bz2)", said)}
        or {one.name for one in able if one.name not in _KEPT and any(_names(line, one) for line in lines if _IN_THE_WAY.search(line))}
    )


def _names(line: str, spec: Spec) -> bool:
    """Whether a line speaks of a package."""
    return re.search(rf"(?<![\w./-]){re.escape(spec.name)}(?:-{re.escape(spec.version)}-|(?!\.?[\w-]))", line) is not None


def _run(executable: str, prefix: Path, text: str, timeout_s: float) -> str | None:
    """What the program said where it failed; None where it made the environment."""
    create = ["create", "-y"] if Path(executable).name.startswith("micromamba") else ["env", "create"]
    environ = _pip.environ() | {"CONDA_ALWAYS_YES": "1", "MAMBA_ALWAYS_YES": "1", "MAMBA_NO_BANNER": "1"}
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "environment.yml"
        asked.write_text(text, encoding="utf-8")
        argv = [executable, *create, "--prefix", str(prefix), "--file", str(asked)]
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=max(timeout_s, 1.0), check=False, env=environ)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{error}"
    if done.returncode == 0:
        return None if interpreter(prefix).exists() else f"{Path(executable).name} ended well and made no environment"
    return (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace").strip() or f"exit code {done.returncode}"


def _why(said: str) -> str:
    """The sentences by which it says why, on one line."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", said) if line.strip()]
    first = next((number for number, line in enumerate(lines) if _ERROR.search(line)), max(len(lines) - 5, 0))
    return " ".join(lines[first:])[:500]
