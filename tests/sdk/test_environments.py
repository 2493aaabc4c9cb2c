"""What a run had installed: how it is found, what is written of it, and what pip makes of it."""

from __future__ import annotations

import json
import sys
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

import runstream
from runstream import _installed, _surroundings, environments
from runstream.environments import _pip
from runstream.environments._build import Built, Missing
from runstream.environments._recorded import of_params
from runstream_producers.journal import format as fmt
from tests.sdk.conftest import Offline
from tests.wheels import make_wheel

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = "0193a1f0-0000-7000-8000-000000000001"


def installed(site: Path, name: str, direct: Any = None) -> None:
    """A distribution's folder, with where it came from."""
    (site / f"{name}.dist-info").mkdir(parents=True)
    if direct is not None:
        (site / f"{name}.dist-info" / "direct_url.json").write_text(direct if isinstance(direct, str) else json.dumps(direct))


def test_the_first_rank_records_what_is_installed(offline: Offline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python and packages are params of the first rank of a node; `capture` leaves them out, and `log_packages` tells them anew."""
    with runstream.init("p", capture="all") as run:
        params = {one["key"]: json.loads(one["value"]) for one in offline.records(run, fmt.Kind.PARAM)}
        run.log_packages()
    assert params["environment.python"] == sys.version.split()[0]
    assert any(text.startswith("numpy==") for text in params["environment.packages"])
    assert [one["kind"] for one in offline.records(run, fmt.Kind.PARAM) if one["key"] == "environment.packages"] == ["list", "list"]
    for capture in ("none", "all,-packages"):
        with runstream.init("p", capture=capture) as run:
            pass
        assert offline.records(run, fmt.Kind.PARAM) == []
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with runstream.init("p", id="x", capture="all") as run:
        pass
    assert offline.records(run, fmt.Kind.PARAM) == []


def test_names_of_what_was_installed_are_not_taken_by_others(offline: Offline, caplog: pytest.LogCaptureFixture) -> None:
    """A param that would stand in place of what was recorded is refused by name, nested or dotted, and told once; others of `environment.` and those of a context are as any."""
    with runstream.init("p", capture="all", strict=False, config={"environment": {"python": "CartPole-v1", "name": "CartPole-v1"}}) as run:
        run.log_params({"environment.packages": ["evil==1"], "lr": 0.1})
        run.log_params({"environment.python": "mine"}, context="eval")
    logged = [(one["key"], one["context"], json.loads(one["value"])) for one in offline.records(run, fmt.Kind.PARAM) if one["key"] != "environment.origins"]
    assert [(key, context) for key, context, _ in logged if key != "environment.packages"] == [
        ("environment.name", ""),
        ("environment.python", ""),
        ("lr", ""),
        ("environment.python", "eval"),
    ]
    assert ("environment.python", "", sys.version.split()[0]) in logged
    told = [record.getMessage() for record in caplog.records if "Runstream records under this name what a run had installed" in record.getMessage()]
    assert [text.split("'")[1] for text in told] == ["environment.python", "environment.packages"]


def test_origins_are_read_without_their_secrets(tmp_path: Path) -> None:
    """Repositories with their commit, folders, editable or not, and archives are told; users, passwords, tokens and queries of their URLs are not; what is no JSON is nothing."""
    installed(tmp_path, "plain-1.0")
    installed(tmp_path, "repo-1.0", {"url": "https://user:pw@host/r.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}, "subdirectory": "sub"})
    installed(tmp_path, "token-1.0", {"url": "https://ghp_secret@host/t.whl?X-Signature=geheim#sha256=1", "archive_info": {}})
    installed(tmp_path, "ssh-1.0", {"url": "ssh://git@host/s.git", "vcs_info": {"vcs": "git", "commit_id": "def"}})
    installed(tmp_path, "here-1.0", {"url": "file:///home/me/here", "dir_info": {"editable": True}})
    installed(tmp_path, "broken-1.0", "{")
    installed(tmp_path, "odd-1.0", {"url": 7, "vcs_info": []})
    installed(tmp_path, "list-1.0", "[]")
    assert _installed.origins([str(tmp_path), str(tmp_path / "nowhere")]) == [
        {"name": "here", "url": "file:///home/me/here", "editable": True},
        {"name": "repo", "url": "https://host/r.git", "vcs": "git", "commit": "abc", "subdirectory": "sub"},
        {"name": "ssh", "url": "ssh://git@host/s.git", "vcs": "git", "commit": "def"},
        {"name": "token", "url": "https://host/t.whl"},
    ]


def test_a_package_that_lies_in_two_places_is_the_first(tmp_path: Path) -> None:
    """However its name is spelled, of two distributions the interpreter takes the first on its path, and so do we: pip takes no name twice."""
    installed(tmp_path / "a", "Py_YAML-6.0")
    installed(tmp_path / "b", "py.yaml-5.4")
    assert _surroundings.distributions([str(tmp_path / "a"), str(tmp_path / "b")]) == {"Py_YAML": "6.0"}
    assert len(of_params(RUN, {"environment.packages": ["A-b==1", "a_B==2"]}).packages) == 1


def test_packages_of_conda_are_told_with_their_build(tmp_path: Path) -> None:
    """In an environment of conda's each of its packages is there; elsewhere there is nothing of it."""
    (tmp_path / "conda-meta").mkdir()
    for name in ("numpy-1.26.4-py311h64a7726_0.json", "_libgcc_mutex-0.1-conda_forge.json", "history", "odd.json"):
        (tmp_path / "conda-meta" / name).touch()
    assert _installed.conda_packages(tmp_path) == ["_libgcc_mutex=0.1=conda_forge", "numpy=1.26.4=py311h64a7726_0"]
    assert _installed.conda_packages(tmp_path / "nowhere") == []


def test_every_package_has_a_line(tmp_path: Path) -> None:
    """By name and version, or from where it came if that can still be had; what lay in a folder that is not here is a comment, and is not taken from an index by its name."""
    there = tmp_path / "there"
    there.mkdir()
    found = of_params(
        RUN,
        {
            "environment.python": "3.12.1",
            "environment.packages": ["a==1.0+cu121", "B_b==2", "c==3", "d==4", "e==5"],
            "environment.origins": [
                {"name": "b-b", "url": "https://host/b.git", "vcs": "git", "commit": "abc", "subdirectory": "s"},
                {"name": "c", "url": there.as_uri(), "editable": True},
                {"name": "d", "url": "file:///nowhere/d", "editable": False},
                {"name": "e", "url": "https://host/e.whl"},
            ],
        },
    )
    assert found.requirements().splitlines() == [
        f"# The packages of run {RUN}, Python 3.12.1. They are complete: install them with --no-deps.",
        "a==1.0+cu121",
        "B_b @ git+https://host/b.git@abc#subdirectory=s",
        f"-e {there.as_uri()}",
        "# d==4 came from file:///nowhere/d, which is not on this machine",
        "e @ https://host/e.whl",
    ]


@pytest.mark.parametrize(
    "packages",
    [
        ["x==1\n--index-url elsewhere"],
        ["--index-url==elsewhere"],
        ["x==1 ; sys_platform"],
        ["x==$(id)"],
        "a==1",
        [7, None, {"a": 1}],
        ["==1", "x==", "x"],
    ],
    ids=["line", "option", "marker", "shell", "text", "types", "empty"],
)
def test_params_of_others_write_no_options(packages: Any) -> None:
    """Anybody may log these params: what is no name and version is left out of files and commands."""
    found = of_params(RUN, {"environment.packages": packages, "environment.python": "3; rm", "environment.conda": ["a b", "x=1=0\n- pip"]})
    assert (list(found.packages), found.python, list(found.conda)) == ([], "", [])


def test_origins_of_others_write_no_options() -> None:
    """A URL, commit or folder that would be more than that in a requirement is left out: the package is then one by name."""
    bad: list[dict[str, Any]] = [
        {"url": "https://host/a\n--pre"},
        {"url": "https://host/${HOME}"},
        {"url": "no url"},
        {"url": "https://host/a", "vcs": "git", "commit": "x --pre"},
        {"url": "https://host/a", "subdirectory": "x\ny"},
        {},
    ]
    for one in bad:
        found = of_params(RUN, {"environment.packages": ["a==1"], "environment.origins": [{"name": "a"} | one, "text", None]})
        assert found.requirements().splitlines()[1:] == ["a==1"]


def test_conda_files_leave_to_pip_what_conda_has_not() -> None:
    """With conda's packages these are named by version and build, and pip has the rest; without, Python is named by its version."""
    packages = {"environment.python": "3.11.9", "environment.packages": ["numpy==1.26.4", "mine==0.1", "pip==24.0"]}
    assert of_params(RUN, packages | {"environment.conda": ["numpy=1.26.4=py311_0", "python=3.11.9=h_0"]}).conda_file("x").splitlines() == [
        'name: "x"',
        "channels:",
        '  - "conda-forge"',
        "dependencies:",
        '  - "numpy=1.26.4=py311_0"',
        '  - "python=3.11.9=h_0"',
        '  - "pip=24.0"',
        "  - pip:",
        '    - "mine==0.1"',
    ]
    assert '  - "python=3.11.9"' in of_params(RUN, packages).conda_file("x")


def test_pip_installs_what_it_can_and_names_the_rest(tmp_path: Path) -> None:
    """Of a list of which two cannot be had the others are installed, in the versions asked for; each that is missing has pip's own reason."""
    wheels = tmp_path / "wheels"
    for name, version in (("alpha", "1.0"), ("alpha", "2.0"), ("beta", "1.0")):
        make_wheel(wheels, name, version)
    venv.create(tmp_path / "env", with_pip=False)
    told: list[str] = []
    wanted = {"alpha": "alpha==1.0", "beta": "beta==7.0", "gone": "gone==1.0", "broken": f"broken @ file://{tmp_path}/broken.whl"}
    failed = _pip.install(tmp_path / "env" / "bin" / "python", wanted, ["--no-index", "--find-links", str(wheels)], told.append)
    assert sorted(failed) == ["beta", "broken", "gone"]
    assert "from versions: 1.0" in failed["beta"]
    assert "broken.whl" in failed["broken"]
    assert _surroundings.distributions([str(one) for one in (tmp_path / "env").glob("lib/*/site-packages")]) == {"alpha": "1.0"}
    assert told[0] == "installing 4 packages"


def test_the_reason_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions of other packages that pip passed over, which it lists before it says what is wrong, are no reason."""
    said = (
        "ERROR: Ignored the following versions that require a different python version: 1.21.2 Requires-Python >=3.7,<3.11\n"
        "ERROR: Ignored the following yanked versions: 0.1\n"
        "ERROR: Could not find a version that satisfies the requirement gone==9 (from versions: 1.0)\n"
        "ERROR: No matching distribution found for gone==9\n"
    )

    def run(_argv: list[str], lines: list[str]) -> str | None:
        return said if "gone==9" in lines else None

    monkeypatch.setattr(_pip, "_run", run)
    failed = _pip.install(Path("python"), {"there": "there==1", "gone": "gone==9"}, [], lambda _: None)
    assert failed == {"gone": "Could not find a version that satisfies the requirement gone==9 (from versions: 1.0)"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: environments.requirements(RUN, cast("Any", 5)), "path must be a path or its text, got 5"),
        (lambda: environments.conda(RUN, cast("Any", b"x")), "path must be a path or its text, got b'x'"),
        (lambda: environments.venv(RUN, "a\0b"), "path must be a path or its text, got 'a\\x00b'"),
        (lambda: environments.venv(RUN, python=cast("Any", 5)), "python must be an interpreter, got 5, which is not there"),
        (lambda: environments.venv(RUN, pip_options="--pre"), "pip_options must be a list of texts, got '--pre'"),
        (lambda: environments.venv(RUN, pip_options=cast("Any", 5)), "pip_options must be a list of texts, got 5"),
        (lambda: environments.venv(RUN, pip_options=cast("Any", ["--pre", 3])), "pip_options must be a list of texts, got 3 among them"),
    ],
    ids=["number", "bytes", "zero", "python", "text", "no_list", "no_text"],
)
def test_wrong_arguments_are_told_before_anything_is_asked_or_made(call: Callable[[], object], message: str) -> None:
    """Each names the argument, what was expected and what came; no ClickHouse is needed for it, and no folder is made."""
    with pytest.raises(environments.EnvironmentsError) as caught:
        call()
    assert str(caught.value) == message


def test_what_was_built_says_whether_it_is_the_same() -> None:
    """Another minor version of Python, or a package that is missing, is not the same; another patch of Python is."""
    whole = Built(RUN, Path("x"), Path("y"), "3.11.2", "3.11.9")
    assert whole.complete
    assert not Built(RUN, Path("x"), Path("y"), "3.12.2", "3.11.9").complete
    assert not Built(RUN, Path("x"), Path("y"), "3.11.2", "3.11.9", [Missing("a", "1", "why")]).complete
