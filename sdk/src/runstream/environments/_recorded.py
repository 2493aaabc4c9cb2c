"""What a run had installed, as it is stored, and the lines by which pip and conda would install it again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from runstream import _installed
from runstream._surroundings import normal
from runstream.environments import _conda
from runstream.environments._conda import Spec
from runstream.read import ReadError, params
from runstream.read._ask import Store
from runstream.read._runs import named
from runstream_producers.journal.values import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runstream.read._runs import AnyRun

_PREFIX_MIN = 8
# A requirement that could be read as an option, or hold a second line, is none of a name and version.
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]*")
_CONDA = re.compile(r"[A-Za-z0-9._-]+=[A-Za-z0-9._!+-]+=[A-Za-z0-9._+-]+")
_CHANNEL = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://)?[A-Za-z0-9._/~][A-Za-z0-9._/:%~-]*")
_CHANNEL_ELSE = "conda-forge"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s;\"'`$\\]+")


class EnvironmentsError(ReadError):
    """An environment cannot be rebuilt at all: no such run, nothing recorded of it, or no room where it was to be. What could not be installed is no error; `Built.missing` has it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a distribution came from that no index has: a URL without credentials, the commit if it is a repository, whether it was editable, the folder within."""

    url: str
    vcs: str = ""
    commit: str = ""
    editable: bool = False
    subdirectory: str = ""

    @property
    def path(self) -> Path | None:
        """The place on this machine that it names; None where it names none."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None


@dataclass(frozen=True, slots=True)
class Package:
    """A distribution: name, version, and where it came from, if not from an index."""

    name: str
    version: str
    origin: Origin | None = None

    @property
    def key(self) -> str:
        """The name as all its spellings compare."""
        return normal(self.name)

    def line(self) -> str:
        """The requirement that installs it again; empty where it came from a place that is not on this machine."""
        origin = self.origin
        if origin is None:
            return f"{self.name}=={self.version}"
        where = origin.path
        fragment = f"#subdirectory={origin.subdirectory}" if origin.subdirectory else ""
        if origin.vcs:
            return "" if where is not None and not where.exists() else f"{self.name} @ {origin.vcs}+{origin.url}@{origin.commit}{fragment}"
        if where is None:
            return f"{self.name} @ {origin.url}{fragment}"
        if not where.exists():
            return ""
        return f"-e {origin.url}{fragment}" if origin.editable else f"{self.name} @ {origin.url}{fragment}"

    def comment(self) -> str:
        """What stands in a requirements file in its place where it has no line."""
        return f"# {self.name}=={self.version} came from {self.origin.url if self.origin else 'nowhere'}, which is not on this machine"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run had: its Python's version, its distributions, conda's packages as `name=version=build` and the channels that they came from."""

    run_id: str
    python: str
    packages: Sequence[Package]
    conda: Sequence[str]
    channels: Sequence[str] = (_CHANNEL_ELSE,)

    def requirements(self) -> str:
        """The text of a requirements file. Every distribution has a line; one that cannot be installed from here has a comment."""
        head = f"# The packages of run {self.run_id}, Python {self.python}. They are complete: install them with --no-deps."
        return "\n".join([head, *(one.line() or one.comment() for one in self.packages)]) + "\n"

    def specs(self) -> list[Spec]:
        """What to ask conda for: the packages that it had installed, or Python and pip by their versions."""
        specs = [Spec(*one.split("=", 2)) for one in self.conda]
        there = {one.name for one in specs}
        if "python" not in there:
            specs.append(Spec("python", self.python))
        if "pip" not in there:
            specs.append(Spec("pip", next((one.version for one in self.packages if one.key == "pip" and one.origin is None), "")))
        return specs

    def conda_file(self, name: str) -> str:
        """The text of an environment.yml; what conda did not install is left to pip."""
        by_conda = {normal(one.name) for one in self.specs()}
        others = [one for one in self.packages if one.key not in by_conda]
        comments = [one.comment() for one in others if not one.line()]
        return _conda.file(name, self.channels, self.specs(), [line for one in others if (line := one.line())], comments)


def recorded(run: AnyRun, *, url: str | None = None, database: str | None = None) -> Recorded:
    """What a run had installed.

    Args:
        run: the run, its id or at least 8 characters of its beginning, its external id, or `project/name`.
        url: ClickHouse's address, if not that of the settings.
        database: its database, if not that of the settings.

    Raises:
        EnvironmentsError: there is no such run, or it recorded nothing of its environment.
        ReadError: no ClickHouse is named or answers.

    Example:
        >>> names = [package.name for package in environments.recorded(run).packages]
    """
    run_id = _found(run, Store(url, database))
    found = params(run_id, context="", url=url, database=database)  # In a context anybody may use these names for something else.
    if _installed.PACKAGES not in found:
        raise EnvironmentsError(f"run {run_id} recorded no packages: its first rank captures them unless capture leaves them out, and they may be on their way")
    return of_params(run_id, found)


def of_params(run_id: str, found: Mapping[str, Any]) -> Recorded:
    """What these params say of a run's environment. Anybody may have logged them, so what is no name, version or URL is left out."""
    origins = dict(filter(None, map(_origin, _list(found.get(_installed.ORIGINS)))))
    packages: dict[str, Package] = {}  # pip takes no name twice.
    for text in _list(found.get(_installed.PACKAGES)):
        name, _, version = str(text).partition("==")
        if _NAME.fullmatch(name) and _VERSION.fullmatch(version):
            packages.setdefault(normal(name), Package(name, version, origins.get(normal(name))))
    conda = [str(one) for one in _list(found.get(_installed.CONDA)) if _CONDA.fullmatch(str(one))]
    channels = [str(one) for one in _list(found.get(_installed.CHANNELS)) if _CHANNEL.fullmatch(str(one))]
    python = str(found.get(_installed.PYTHON, ""))
    python = python if re.fullmatch(r"[0-9][0-9A-Za-z.+]*", python) else ""
    return Recorded(run_id, python, list(packages.values()), conda, channels or [_CHANNEL_ELSE])


def _origin(value: Any) -> tuple[str, Origin] | None:
    """The name and origin that a value stands for; None where it is none that can be written into a requirement."""
    if not isinstance(value, dict):
        return None
    one = cast("dict[str, Any]", value)
    url, parts = str(one.get("url", "")), [str(one.get(name, "")) for name in ("vcs", "commit", "subdirectory")]
    if not _URL.fullmatch(url) or not all(re.fullmatch(r"[A-Za-z0-9._/-]*", part) for part in parts):
        return None
    return normal(str(one.get("name", ""))), Origin(url, parts[0], parts[1], one.get("editable") is True, parts[2])


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else []  # pyright: ignore[reportUnknownArgumentType]


def _found(run: AnyRun, store: Store) -> str:
    """The id of the run that is meant."""
    text = named("run", run)
    conditions = "toString(run_id) = lower({text:String}) OR external_id = {text:String} OR (project != '' AND name != '' AND concat(project, '/', name) = {text:String})"
    if len(text) >= _PREFIX_MIN:
        conditions += " OR startsWith(toString(run_id), lower({text:String}))"
    rows = store.rows(f"SELECT toString(run_id) AS id, external_id AS external FROM runs WHERE {conditions} ORDER BY started DESC LIMIT 100", text=text)  # noqa: S608 - the text goes through a parameter
    by_id = [row["id"] for row in rows if row["id"] == text.lower()]
    by_external = [row["id"] for row in rows if row["external"] == text]
    by_name = [row["id"] for row in rows if "/" in text]  # Of several of one name the newest is meant.
    found = by_id or by_external or by_name[:1] or [row["id"] for row in rows]
    if not found:
        raise EnvironmentsError(f"no run {shown(text)} is stored, by its id, its external id or project/name: `runstream runs` lists those that are")
    if len(found) > 1:
        what = "the external id of several runs, one in each project" if by_external else "the beginning of several runs"
        raise EnvironmentsError(f"{shown(text)} is {what}: {', '.join(found[:5])}")
    return found[0]
