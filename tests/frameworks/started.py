"""Starting the scripts of this folder: what they need, their environment, and a time after which they are ended with all their children."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from runstream_producers.journal import format as fmt
from tests.frameworks.cases import Case, cases_of, rows_of
from tests.producers.cluster import settle

ROOT = Path(__file__).resolve().parents[2]
STAMP = ROOT / ".venv" / "frameworks.stamp"
LIMIT_S = 240.0  # Importing tensorflow takes 5 s alone, and half a minute beside other tests.


def needs(framework: str, *, distribution: bool = False) -> pytest.MarkDecorator:
    """Skips what stands below where a framework is not installed; where `make frameworks` has run, it has to be. It is the name of a module, or of a distribution without one."""
    there = _is_distributed(framework) if distribution else importlib.util.find_spec(framework) is not None
    missing = not (there or STAMP.exists())
    return pytest.mark.skipif(missing, reason=f"{framework} is not installed: make frameworks")


def _is_distributed(name: str) -> bool:
    try:
        return bool(importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return False


def environment(folder: Path, **more: str) -> dict[str, str]:
    """An environment for scripts whose runs are offline, with their journals below `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        environ = dict(settle("127.0.0.1:9", folder, patch, mode="offline").environ)
    # One thread each, since many of these processes share few cores; no word of the frameworks' own about what this machine lacks, and nothing in the user's home.
    quiet = {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return environ | quiet | more


@dataclass(frozen=True)
class Done:
    """How a script ended, and what it wrote to its output and its errors."""

    code: int
    out: str
    err: str


def run(command: list[str], environ: dict[str, str], limit_s: float = LIMIT_S) -> Done:
    """Runs a command to its end in a session of its own; past the limit it is killed with all of it, and the test fails with what it said."""
    child = subprocess.Popen(command, env=environ, cwd=environ["HOME"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        out, err = child.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        out, err = _rest(child)
        pytest.fail(f"{command} did not end within {limit_s:g} s:\n{out[-2000:]}\n{err[-4000:]}")
    return Done(child.returncode, out, err)


def _rest(child: subprocess.Popen[str]) -> tuple[str, str]:
    """What a killed command wrote; where a process of another session still holds its output open, nothing."""
    try:
        return child.communicate(timeout=10)
    except subprocess.TimeoutExpired:
        return "", "its output is held open by a process that it left behind"


def run_module(module: str, *arguments: str, environ: dict[str, str], options: tuple[str, ...] = ()) -> Done:
    """Runs a module of this folder, which must succeed."""
    done = run([sys.executable, *options, "-m", f"tests.frameworks.{module}", *arguments], environ)
    assert done.code == 0, f"{done.out[-2000:]}\n{done.err[-4000:]}"
    return done


def run_cases(module: str, folder: Path, *, options: tuple[str, ...] = (), **more: str) -> dict[str, Case]:
    """What became of the cases of a script."""
    run_module(module, str(folder / "cases.json"), environ=environment(folder, **more), options=options)
    return cases_of(folder / "cases.json")


@dataclass(frozen=True)
class Journal:
    """A journal of a process that has ended: who wrote it, its rows as (step, context, values), and how it ended, None for a process that died without a word."""

    identity: fmt.Identity
    rows: list[tuple[int, str, dict[str, float]]]
    end: fmt.End | None


def journals(folder: Path) -> list[Journal]:
    """All journals of scripts that ran in `environment(folder)`, by rank."""
    out: list[Journal] = []
    for path in (folder / "journals" / "offline").glob("w-*"):
        end = path / "end.json"
        identity = fmt.Identity.from_json((path / "writer.json").read_text())
        out.append(Journal(identity, rows_of(path), fmt.End.from_json(end.read_text()) if end.exists() else None))
    return sorted(out, key=lambda one: (one.identity.rank, one.identity.started_ms))
