"""Building: a file, a virtual environment or one of conda's, from what a run recorded. Whatever can be built is kept, and what cannot is named."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

from runstream import _surroundings
from runstream._installed import conda_packages
from runstream._surroundings import normal
from runstream.environments import _conda, _pip
from runstream.environments._recorded import EnvironmentsError, recorded
from runstream_producers.journal.values import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runstream.environments._recorded import Recorded
    from runstream.read._runs import AnyRun

_VENV_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Missing:
    """A distribution that the run had and the environment has not, or not in that version: name, version, and why."""

    name: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Built:
    """What was built.

    Attributes:
        run_id: the run it was built for.
        path: the file or folder that was made.
        requirements: the file that says what was asked for.
        wanted_python: the version that the run had.
        python: the version that the environment has; empty where there is none.
        missing: what could not be installed.
        created: whether there is an environment, and not only a file.
    """

    run_id: str
    path: Path
    requirements: Path
    wanted_python: str
    python: str = ""
    missing: Sequence[Missing] = field(default_factory=tuple[Missing, ...])
    created: bool = True

    @property
    def same_python(self) -> bool:
        """Whether major and minor version of Python are those of the run."""
        return not self.python or _minor(self.python) == _minor(self.wanted_python)

    @property
    def complete(self) -> bool:
        """Whether it has what the run had: every version, and the minor version of Python."""
        return not self.missing and self.same_python


def _quiet(_sentence: str) -> None:
    """Tells nobody."""


def requirements(run: AnyRun, path: str | os.PathLike[str] | None = None, *, url: str | None = None, database: str | None = None) -> str:
    """The text of a requirements file with what a run had, written to a path if one is given, whose folders are made as needed.

    Raises:
        EnvironmentsError: there is no such run, it recorded no packages, or the file cannot be written.
        ReadError: no ClickHouse is named or answers.

    Example:
        >>> text = environments.requirements(run)
    """
    file = _path(path)
    text = recorded(run, url=url, database=database).requirements()
    if file is not None:
        _written(file, text)
    return text


def venv(
    run: AnyRun,
    path: str | os.PathLike[str] | None = None,
    *,
    python: str | None = None,
    pip_options: Sequence[str] = (),
    tell: Callable[[str], None] = _quiet,
    url: str | None = None,
    database: str | None = None,
) -> Built:
    """Makes a virtual environment with what a run had, and installs it by pip. Blocks for as long as that takes.

    Args:
        run: the run, its id or its beginning, its external id, or `project/name`.
        path: a folder that is not there or empty, made with those above it; `venv-` and the beginning of the run's id in the current one if None.
        python: an interpreter to make it of; else the one on the path that has the run's minor version, else this one.
        pip_options: options for `pip install`, such as `("--no-index", "--find-links", "wheels")`.
        tell: gets a sentence at each step.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Returns:
        What was built. What could not be installed is in its `missing`, with the reason; the rest is installed, and `requirements.txt` lies in its folder.

    Raises:
        EnvironmentsError: there is no such run, it recorded no packages, the folder is not empty, or no virtual environment can be made.
        ReadError: no ClickHouse is named or answers.

    Example:
        >>> built = environments.venv(run, "rebuilt", pip_options=["--find-links", "wheels"])  # doctest: +SKIP
    """
    options, given = _options(pip_options), _path(path)
    if python is not None:
        _interpreter("", python)
    found = recorded(run, url=url, database=database)
    folder = given or Path(f"venv-{found.run_id[:8]}")
    _empty(folder)
    chosen = _interpreter(found.python, python)
    tell(f"making {folder} with {chosen}")
    _make_venv(chosen, folder)
    wanted = _written(folder / "requirements.txt", found.requirements())
    interpreter = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lines = {one.key: line for one in found.packages if (line := one.line())}
    failed = _pip.install(interpreter.absolute(), lines, options, tell)
    return Built(found.run_id, folder, wanted, found.python, _version_of(interpreter), _missing(found, failed, folder))


def conda(
    run: AnyRun,
    path: str | os.PathLike[str] | None = None,
    *,
    pip_options: Sequence[str] = (),
    tell: Callable[[str], None] = _quiet,
    url: str | None = None,
    database: str | None = None,
) -> Built:
    """Writes an `environment.yml` with what a run had into a folder, and makes the environment at `env` beside it where conda, mamba or micromamba is on the path.

    Blocks for as long as that takes. What conda has not is asked of it without its build, and then left out; what the run imported and is not there in its version then is installed by pip.

    Args:
        run: the run, its id or its beginning, its external id, or `project/name`.
        path: a folder that is not there or empty, made with those above it; `conda-` and the beginning of the run's id in the current one if None.
        pip_options: options for `pip install`, such as `("--no-index", "--find-links", "wheels")`.
        tell: gets a sentence at each step.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Returns:
        What was built. `created` says whether there is an environment, `missing` what it has not, or why there is none.

    Raises:
        EnvironmentsError: there is no such run, it recorded no packages, the folder is not empty, or the file cannot be written.
        ReadError: no ClickHouse is named or answers.

    Example:
        >>> built = environments.conda(run, "rebuilt")  # doctest: +SKIP
    """
    options, given = _options(pip_options), _path(path)
    found = recorded(run, url=url, database=database)
    folder = given or Path(f"conda-{found.run_id[:8]}")
    _empty(folder)
    file = _written(folder / "environment.yml", found.conda_file(f"runstream-{found.run_id[:8]}"))
    away = [Missing(one.name, one.version, one.comment().removeprefix("# ")) for one in found.packages if not one.line()]
    program = _conda.program()
    if program is None:
        return Built(found.run_id, folder, file, found.python, missing=away, created=False)
    prefix = folder.absolute() / "env"
    tell(f"making {prefix} with {program}")
    made = _conda.make(program, prefix, found.channels, found.specs(), tell)
    if made.said:
        away.append(Missing("environment", found.python, f"{Path(program).name} could not make it: {made.said}"))
        return Built(found.run_id, folder, file, found.python, missing=away, created=False)
    interpreter = _conda.interpreter(prefix)
    there = _there(prefix)
    lines = {one.key: line for one in found.packages if there.get(one.key) != one.version and (line := one.line())}
    failed = _pip.install(interpreter, lines, options, tell)
    missing = [*_missing(found, failed, prefix), *_missing_of_conda(found, made.failed, prefix)]
    return Built(found.run_id, folder, file, found.python, _version_of(interpreter), missing)


def _path(given: object) -> Path | None:
    """The path that a caller gave; raises EnvironmentsError where it is none."""
    if given is None or isinstance(given, Path):
        return given
    text: object = given
    if isinstance(given, os.PathLike):
        text = os.fspath(cast("os.PathLike[str]", given))
    if not isinstance(text, str) or "\0" in text:
        raise EnvironmentsError(f"path must be a path or its text, got {shown(text)}")
    return Path(text)


def _options(given: object) -> list[str]:
    """The options for pip that a caller gave; raises EnvironmentsError where they are no texts."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise EnvironmentsError(f"pip_options must be a list of texts, got {shown(given)}")
    out: list[str] = []
    for one in cast("Iterable[object]", given):
        if not isinstance(one, str):
            raise EnvironmentsError(f"pip_options must be a list of texts, got {shown(one)} among them")
        out.append(one)
    return out


def _written(path: Path, text: str) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentsError(f"{path} cannot be written: {error}") from error
    return path


def _empty(folder: Path) -> None:
    """Makes a folder; raises EnvironmentsError where something is in it, or none can be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        filled = any(folder.iterdir())
    except OSError as error:
        raise EnvironmentsError(f"path must be a folder that can be made, got {folder}: {error}") from error
    if filled:
        raise EnvironmentsError(f"path must be a folder that is not there or empty, got {folder}")


def _interpreter(wanted: str, given: object) -> str:
    if given is not None:
        found = shutil.which(given) if isinstance(given, str) else None
        if found is None:
            raise EnvironmentsError(f"python must be an interpreter, got {shown(given)}, which is not there")
        return found
    if not wanted or _minor(wanted) == sys.version_info[:2]:
        return sys.executable
    return shutil.which("python{}.{}".format(*_minor(wanted))) or sys.executable


def _minor(version: str) -> tuple[int, ...]:
    with contextlib.suppress(ValueError):
        return tuple(int(part) for part in version.split(".")[:2])
    return ()


def _make_venv(python: str, folder: Path) -> None:
    options = ["--without-pip"] if _pip.is_here() else []
    try:
        done = subprocess.run(
            [python, "-m", "venv", *options, str(folder)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_VENV_TIMEOUT_S,
            check=False,
            env=_pip.environ(),
        )
        said = "" if done.returncode == 0 else (done.stderr + done.stdout).decode("utf-8", "replace").strip()[-500:] or f"exit code {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        said = str(error)
    if said:
        raise EnvironmentsError(f"{python} -m venv could not make {folder}: {said}")


def _version_of(python: Path) -> str:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            [str(python), "-c", "import platform; print(platform.python_version())"], capture_output=True, timeout=60, check=False, env=_pip.environ()
        )
        return done.stdout.decode("ascii", "replace").strip()
    return ""


def _there(folder: Path) -> dict[str, str]:
    """The distributions of an environment by their names as all spellings compare, with their versions."""
    places = [str(one) for one in (*folder.glob("lib*/python*/site-packages"), folder / "Lib" / "site-packages")]
    return {normal(name): version for name, version in _surroundings.distributions(places).items()}


def _missing(found: Recorded, failed: dict[str, str], folder: Path) -> list[Missing]:
    """What the environment has not, by what lies in it, whatever pip said."""
    there = _there(folder)
    out: list[Missing] = []
    for one in found.packages:
        has = there.get(one.key)
        if has == one.version:
            continue
        if not one.line():
            reason = one.comment().removeprefix("# ")
        elif one.key in failed:
            reason = failed[one.key]
        else:
            reason = "it is not there, and pip said nothing of it" if has is None else f"version {has} is there instead"
        out.append(Missing(one.name, one.version, reason))
    return out


def _missing_of_conda(found: Recorded, failed: dict[str, str], prefix: Path) -> list[Missing]:
    """The packages of conda's that the environment has not in their version, but for Python, which `Built` tells, and for what Python imports, which may be pip's."""
    there = {name: version for name, version, _ in (one.split("=", 2) for one in conda_packages(prefix))}
    imported = {one.key for one in found.packages}
    out: list[Missing] = []
    for one in found.specs():
        has = there.get(one.name)
        if one.name in ("python", "pip") or normal(one.name) in imported or has == one.version:
            continue
        reason = failed.get(one.name, "it is not there, and conda said nothing of it") if has is None else f"version {has} is there instead"
        out.append(Missing(one.name, one.version, reason))
    return out
