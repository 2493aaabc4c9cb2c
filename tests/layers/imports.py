"""What a folder declares and what its code imports, read from its pyproject.toml and its syntax trees; nothing of it is run."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent.parent

# Each folder with its import package and the folders that it may lean on: schemas <- feed, rules, producers <- sdk; feed, rules <- processors, sinks; local on top.
FOLDERS: dict[str, tuple[str, frozenset[str]]] = {
    "schemas": ("runstream_schemas", frozenset()),
    "feed": ("runstream_feed", frozenset({"schemas"})),
    "rules": ("runstream_rules", frozenset({"schemas"})),
    "producers": ("runstream_producers", frozenset({"schemas"})),
    "sdk": ("runstream", frozenset({"schemas", "rules", "producers"})),
    "processors": ("runstream_processors", frozenset({"schemas", "feed", "rules"})),
    "sinks": ("runstream_sinks", frozenset({"schemas", "feed", "rules"})),
    "local": ("runstream_local", frozenset({"schemas", "feed", "rules", "producers", "sdk", "processors", "sinks"})),
}
FOLDER_OF_PACKAGE = {package: folder for folder, (package, _) in FOLDERS.items()}

# Parts of the standard library that the oldest supported Python does not have: code may ask for them behind a version check.
_LATER_STDLIB = frozenset({"compression", "annotationlib"})
_STDLIB = sys.stdlib_module_names | _LATER_STDLIB


@dataclass(frozen=True, slots=True)
class Import:
    """One import: the top-level module asked for, and where."""

    module: str
    path: Path
    line: int

    def __str__(self) -> str:
        """The place, as an editor takes it."""
        return f"{self.path}:{self.line} imports {self.module}"


def normal(name: str) -> str:
    """A distribution's name in the form in which two spellings are equal."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _project(folder: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def distribution_of(folder: str) -> str:
    """The name of a folder's distribution."""
    return normal(_project(folder)["name"])


def declared(folder: str) -> frozenset[str]:
    """The distributions that a folder's pyproject.toml asks for, extras included."""
    project = _project(folder)
    wanted: list[str] = list(project.get("dependencies", []))
    for extra in project.get("optional-dependencies", {}).values():
        wanted += extra
    return frozenset(normal(re.split(r"[^A-Za-z0-9._-]", one.strip(), maxsplit=1)[0]) for one in wanted)


def commands(folder: str) -> dict[str, str]:
    """The subcommands that a folder gives to `runstream`, with their modules."""
    return _project(folder).get("entry-points", {}).get("runstream.commands", {})


def asked_for(source: str) -> Iterator[tuple[str, int]]:
    """Full names of the modules that a source imports, with their lines: under TYPE_CHECKING, in functions and by a literal `import_module` too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module, node.lineno
        elif isinstance(node, ast.Call) and node.args:
            function, first = node.func, node.args[0]
            name = function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
            if name in ("import_module", "__import__", "find_spec") and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value, node.lineno


def imports_of(folder: str) -> list[Import]:
    """Every import of a folder's code that is neither the standard library's nor its own."""
    package = FOLDERS[folder][0]
    out: list[Import] = []
    for path in sorted((ROOT / folder / "src").rglob("*.py")):
        for name, line in asked_for(path.read_text(encoding="utf-8")):
            module = name.partition(".")[0]
            if module not in _STDLIB and module != package:
                out.append(Import(module, path.relative_to(ROOT), line))
    return out


@cache
def _distributions() -> dict[str, list[str]]:
    return {module: [normal(name) for name in names] for module, names in packages_distributions().items()}


def undeclared(folder: str) -> list[Import]:
    """Imports whose distribution the folder does not declare. A module of several distributions is declared by any of them."""
    known = declared(folder)
    out: list[Import] = []
    for one in imports_of(folder):
        own = FOLDER_OF_PACKAGE.get(one.module)
        names = [distribution_of(own)] if own else _distributions().get(one.module, [])
        if not known.intersection(names):
            out.append(one)
    return out
