"""What is asked of conda after it refused, what it makes of it, and what is recorded of an environment of its own."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from runstream import _installed
from runstream.environments import _conda
from runstream.environments._conda import Spec
from runstream.environments._recorded import of_params
from tests.conda_channel import conda_settings, make_channel

RUN = "0193a1f0-0000-7000-8000-000000000001"
PYTHON, PIP = Spec("python", "3.11.7", "h_0"), Spec("pip", "24.0", "p_0")
NUMPY, MKL = Spec("numpy", "1.26.4", "py311_0"), Spec("mkl", "2024.1", "h_7")


@pytest.mark.parametrize(
    "said",
    [
        "Solving environment: failed\n\nPackagesNotFoundError: The following packages are not available from current channels:\n\n  - mkl==2024.1=h_7\n\nCurrent channels:\n\n  - https://host/numpy\n",
        "PackagesNotFoundInChannelsError: The following packages are missing from the target environment:\n\n  - mkl==2024.1=h_7\n",
        "error    libmamba Could not solve for environment specs\n    └─ mkl 2024.1 h_7 does not exist (perhaps a typo or a missing channel).",
        "LibMambaUnsatisfiableError: Encountered problems while solving:\n  - nothing provides requested mkl 2024.1 h_7\n",
        "Encountered problems while solving:\n  - nothing provides _openmp_mutex needed by mkl-2024.1-h_7\n",
        "Cannot solve the request because of: No candidates were found for mkl ==2024.1 h_7.",
        "CondaHTTPError: HTTP 404 NOT FOUND for url <https://host/conda-forge/linux-64/mkl-2024.1-h_7.conda>\n",
        "The following packages are incompatible\n├─ mkl 2024.1 would require\n│  └─ _openmp_mutex, which cannot be installed;\n└─ numpy is requested and can be.",
    ],
    ids=["channels", "classic", "micromamba", "libmamba", "depends", "rattler", "download", "tree"],
)
def test_what_conda_names_is_asked_for_with_less(said: str) -> None:
    """Without its build first, then not at all, however the solver says it; what else was asked for stays as it was."""
    once = _conda.relaxed([PYTHON, PIP, NUMPY, MKL], said, 0)
    assert once is not None
    assert once == [PYTHON, PIP, NUMPY, Spec("mkl", "2024.1")]
    assert _conda.relaxed(once, said.replace(" h_7", "").replace("=h_7", ""), 1) == [PYTHON, PIP, NUMPY]


def test_where_nothing_is_named_more_is_left_out_at_each_step() -> None:
    """Builds, then all but Python and pip, pip's version, Python's last number, its version; then there is nothing less."""
    wanted: list[Spec] | None = [PYTHON, PIP, NUMPY]
    asked: list[list[str]] = []
    while wanted is not None:
        wanted = _conda.relaxed(wanted, "it cannot be done", len(asked))
        asked.append([str(one) for one in wanted or []])
    assert asked == [
        ["python=3.11.7", "pip=24.0", "numpy=1.26.4"],
        ["python=3.11.7", "pip=24.0"],
        ["python=3.11.7", "pip"],
        ["python=3.11", "pip"],
        ["python", "pip"],
        [],
    ]
    assert _conda.relaxed([PYTHON, PIP, NUMPY], "CondaHTTPError: HTTP 000 CONNECTION FAILED for url <https://host/x/repodata.json>", 0) is None


def test_python_is_never_left_out() -> None:
    """A version of Python's that no channel has becomes another of its minor version, and then any."""
    missing = "PackagesNotFoundError: The following packages are not available from current channels:\n\n  - python={}\n"
    assert _conda.relaxed([Spec("python", "3.11.7"), NUMPY], missing.format("3.11.7"), 0) == [Spec("python", "3.11"), NUMPY]
    assert _conda.relaxed([Spec("python", "3.11"), NUMPY], missing.format("3.11"), 1) == [Spec("python"), NUMPY]


@pytest.mark.parametrize(
    "said",
    [
        "UnavailableInvalidChannel: HTTP 404 NOT FOUND for channel corp <https://host/corp>\n\nThe channel is not accessible or is invalid.",
        "UnavailableInvalidChannel: HTTP 401 UNAUTHORIZED for channel corp <https://host/corp>",
        "critical libmamba Download error (37) file [https://host/corp/noarch/repodata.json]: https://host/corp/noarch/repodata.json.zst",
    ],
    ids=["gone", "private", "libmamba"],
)
def test_a_channel_that_cannot_be_read_is_left_out(said: str, tmp_path: Path) -> None:
    """The others are asked for all of it; where it was the only one, that is the reason."""
    assert _conda.unreachable(["conda-forge", "corp"], said) == ["corp"]
    assert _conda.unreachable(["conda-forge", "https://host/corp"], said.replace("channel corp", "channel https://host/corp")) == ["https://host/corp"]
    assert _conda.unreachable(["conda-forge", "host"], said) == []
    program, prefix = tmp_path / "stub", tmp_path / "env"
    program.write_text(
        f"#!/bin/sh\ncat > {tmp_path}/said <<'END'\n{said}\nEND\n"
        + f'for file; do :; done\ngrep -q corp "$file" && cat {tmp_path}/said && exit 1\nmkdir -p {prefix}/bin\ntouch {prefix}/bin/python\n'
    )
    program.chmod(0o755)
    assert _conda.make(str(program), prefix, ["conda-forge", "corp"], [PYTHON, NUMPY], lambda _: None) == _conda.Made({})
    made = _conda.make(str(program), prefix, ["corp"], [PYTHON], lambda _: None)
    assert made.said.startswith(said.split("\n")[0])


def test_an_environment_of_another_platform_loses_its_builds_at_once() -> None:
    """A solver that names one package at a time is not asked a hundred times: after some rounds all builds are left out, then all but Python and pip."""
    said = "nothing provides requested mkl 2024.1"
    assert _conda.relaxed([PYTHON, NUMPY, MKL], said, 8) == [Spec("python", "3.11.7"), Spec("numpy", "1.26.4"), Spec("mkl", "2024.1")]
    assert _conda.relaxed([Spec("python", "3.11"), Spec("numpy", "1.26.4"), Spec("mkl", "2024.1")], said, 16) == [Spec("python", "3.11")]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("mkdir -p {prefix}/bin; echo half > {prefix}/bin/half; echo 'OSError: gone away' >&2; exit 3", "OSError: gone away"),
        ("exit 7", "exit code 7"),
        ("exit 0", "stub ended well and made no environment"),
        ("mkdir {prefix} || exit 9; kill -9 $$", "exit code -9"),
    ],
    ids=["half", "silent", "nothing", "killed"],
)
def test_a_conda_that_fails_leaves_its_reason_and_no_half_environment(script: str, reason: str, tmp_path: Path) -> None:
    """Whatever it made until then is removed before it is asked for less, and in the end."""
    prefix, program = tmp_path / "a b" / "env", tmp_path / "stub"
    prefix.parent.mkdir()
    program.write_text("#!/bin/sh\n" + script.replace("{prefix}", f"'{prefix}'") + "\n")
    program.chmod(0o755)
    told: list[str] = []
    made = _conda.make(str(program), prefix, ["conda-forge"], [PYTHON, PIP, NUMPY], told.append)
    assert made.said == reason
    assert sorted(made.failed) == ["numpy"]
    assert told[0] == "stub could not make it with python=3.11.7=h_0, pip=24.0=p_0, numpy=1.26.4=py311_0: trying with less"
    assert not prefix.exists()


def test_a_real_conda_makes_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a list of which a build is gone, and a package too, the version is there in another build, the rest as it was, and the package is named."""
    program = _conda.program()
    if program is None:
        pytest.skip("no conda, mamba or micromamba is on the path")
    channel = make_channel(tmp_path / "conda-forge", {"libthere=1.2=h_1": {"share/there.txt": b"there"}, "libsame=3.0=h_0": {"share/same.txt": b"same"}})
    for name, value in conda_settings(tmp_path / "settings", channel).items():
        monkeypatch.setenv(name, value)
    specs = [Spec("python", platform.python_version()), Spec("pip"), Spec("libthere", "1.2", "h_0"), Spec("libsame", "3.0", "h_0"), Spec("libgone", "9", "h_0")]
    made = _conda.make(program, tmp_path / "new" / "env", ["conda-forge"], specs, lambda _: None)
    assert (made.said, sorted(made.failed)) == ("", ["libgone"])
    assert "libgone" in made.failed["libgone"]
    found = _installed.conda_packages(tmp_path / "new" / "env")
    assert [one for one in found if one.startswith("lib")] == ["libsame=3.0=h_0", "libthere=1.2=h_1"]
    asked = [str(_conda.interpreter(tmp_path / "new" / "env")), "-I", "-c", "import sys; print(sys.prefix)"]
    assert subprocess.run(asked, capture_output=True, text=True, timeout=60, check=True).stdout.strip() == str(tmp_path / "new" / "env")


def test_channels_are_those_of_what_is_there(tmp_path: Path) -> None:
    """By conda's own history, those of most packages first; what was removed since counts for nothing, and nobody's token is told."""
    meta = tmp_path / "conda-meta"
    meta.mkdir()
    for name in ("numpy-1.26.4-py311_0", "python-3.11.7-h_0", "mine-0.1-0", "tool-1.0-py_0"):
        (meta / f"{name}.json").touch()
    lines = [
        "==> 2026-01-02 03:04:05 <==",
        "# cmd: conda create numpy",
        "+defaults/linux-64::numpy-1.25.0-py311_0",
        "+conda-forge/linux-64::python-3.11.7-h_0",
        "-defaults/linux-64::numpy-1.25.0-py311_0",
        "+conda-forge/linux-64::numpy-1.26.4-py311_0",
        "+https://me:geheim@host/t/geheim-token/corp/noarch::mine-0.1-0",
        "+pkgs/main/noarch::tool-1.0-py_0",
    ]
    (meta / "history").write_text("\n".join(lines))
    assert _installed.conda_channels(tmp_path) == ["conda-forge", "https://host/corp", "pkgs/main"]
    (meta / "history").unlink()
    assert _installed.conda_channels(tmp_path) == []


def test_what_conda_installed_did_not_come_from_a_folder(tmp_path: Path) -> None:
    """Whoever makes conda's packages does it by pip, in a folder that pip notes: it is on no machine of ours, and is no origin; that of what pip installed is."""
    for name, installer in (("made", "conda\n"), ("mine", "pip\n")):
        (tmp_path / f"{name}-1.0.dist-info").mkdir()
        (tmp_path / f"{name}-1.0.dist-info" / "direct_url.json").write_text('{"url": "file:///home/conda/work", "dir_info": {}}')
        (tmp_path / f"{name}-1.0.dist-info" / "INSTALLER").write_text(installer)
    assert [one["name"] for one in _installed.origins([str(tmp_path)])] == ["mine"]


def test_channels_of_others_write_no_options() -> None:
    """What is no name or URL of a channel is left out, and where none is left it is conda-forge."""
    bad: list[Any] = ["a b", "x\n- y", "${HOME}", "-", 7, None, ["x"], "https://host/a?b"]
    packages = {"environment.packages": ["a==1"], "environment.conda": ["python=3.11.7=h_0"]}
    assert list(of_params(RUN, packages | {"environment.conda_channels": [*bad, "pytorch", "https://host/t/x"]}).channels)[-2:] == [
        "pytorch",
        "https://host/t/x",
    ]
    found = of_params(RUN, packages | {"environment.conda_channels": bad[:3]})
    assert list(found.channels) == ["conda-forge"]
    assert found.conda_file("x").splitlines()[:3] == ['name: "x"', "channels:", '  - "conda-forge"']
