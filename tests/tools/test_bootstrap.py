"""Set-up says in one sentence what a machine lacks, and knows when there is nothing to do."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BOOTSTRAP = ROOT / "tools" / "bootstrap.py"

COMPILED = ("producers/build_quick.py", "producers/src/runstream_producers/journal/_quick.c")


def run_with(before: str) -> subprocess.CompletedProcess[str]:
    """Runs the set-up in a Python in which `before` was executed first."""
    code = f"import sys\n{before}\nimport runpy\nrunpy.run_path({str(BOOTSTRAP)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("missing", ["ensurepip", "venv"])
def test_a_python_without_venv_is_told_which_package_to_install(missing: str) -> None:
    """One sentence names the package, and the exit code is 2."""
    done = run_with(f"sys.modules[{missing!r}] = None")
    assert done.returncode == 2
    assert f"python3.{sys.version_info.minor}-venv" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


def test_an_old_python_is_told_what_is_needed() -> None:
    """One sentence says which Python is needed."""
    done = run_with("sys.version_info = (3, 10, 4, 'final', 0)")
    assert done.returncode == 2
    assert "3.11" in done.stderr
    assert done.stderr.count("\n") == 1


def copied(root: Path) -> Path:
    """The set-up's script in a folder with the files that it depends on."""
    shutil.copytree(ROOT / "tools", root / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.txt", "requirements-frameworks.txt"):
        shutil.copy(ROOT / name, root)
    for folder in ("schemas", "feed", "rules", "producers", "sdk", "processors", "sinks", "local"):
        (root / folder).mkdir()
        shutil.copy(ROOT / folder / "pyproject.toml", root / folder)
    for name in COMPILED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / ".venv").mkdir()
    return root / "tools" / "bootstrap.py"


def stamp_of(script: Path, kind: str) -> str:
    """What the script would write into its stamp; `kind` is the name of the function that says it."""
    code = f"import runpy; print(runpy.run_path({str(script)!r})[{kind!r}]())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_a_set_up_that_fits_is_not_done_again(tmp_path: Path) -> None:
    """A stamp that says what .venv was made from makes the second call return at once, silently; another stamp does not."""
    script = copied(tmp_path)
    said = stamp_of(script, "stamp_text")
    (tmp_path / ".venv" / "runstream.stamp").write_text(said)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / ".venv").iterdir()) == ["runstream.stamp"]
    for name in ("sdk/pyproject.toml", COMPILED[-1]):
        before = stamp_of(script, "stamp_text")
        (tmp_path / name).write_text("changed")
        assert stamp_of(script, "stamp_text") != before


def test_frameworks_have_a_stamp_of_their_own(tmp_path: Path) -> None:
    """They are added where they are asked for, once; and anew when either file of pins has changed."""
    script = copied(tmp_path)
    (tmp_path / ".venv" / "runstream.stamp").write_text(stamp_of(script, "stamp_text"))
    said = stamp_of(script, "frameworks_stamp_text")
    (tmp_path / ".venv" / "frameworks.stamp").write_text(said)
    done = subprocess.run([sys.executable, str(script), "--frameworks"], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (tmp_path / ".venv" / "frameworks.stamp").write_text("another")
    done = subprocess.run([sys.executable, str(script), "--frameworks"], capture_output=True, text=True, timeout=60, check=False)
    assert "GB" in done.stdout  # It says what it is about to bring, before it fails here for want of a Python in .venv.
    assert done.returncode == 1
    assert done.stderr.startswith("Set-up stopped: ")
    assert done.stderr.count("\n") == 1
    assert (tmp_path / ".venv" / "frameworks.stamp").read_text() == "another"
    for name in ("requirements.txt", "requirements-frameworks.txt"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "# changed\n")
        assert stamp_of(script, "frameworks_stamp_text") != said
        shutil.copy(ROOT / name, tmp_path)


def pins(name: str) -> dict[str, set[str]]:
    """The pinned packages of a file, each with its versions and their hashes; those of several versions have markers that tell them apart."""
    blocks = [block for block in re.split(r"\n(?=\S)", (ROOT / name).read_text()) if block and not block.startswith("#")]
    out: dict[str, set[str]] = {}
    for block in blocks:
        head, _, hashes = block.partition("\\")
        found = re.fullmatch(r"([a-z0-9._-]+)==(\S+)( ; .+)?", head.strip())
        assert found, block.splitlines()[0]
        out.setdefault(found[1], set()).add(f"{found[2]} {hashes}")
    return out


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-frameworks.txt"])
def test_requirements_are_pinned_by_hash_and_name_no_host(name: str) -> None:
    """Every package is pinned with its hashes, nothing says where it comes from, and our own names are not among them."""
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert not re.search(r"--(index|extra|find)", text)
    packages = pins(name)
    assert len(packages) > 50
    for package, versions in packages.items():
        assert all("--hash=sha256:" in version for version in versions), package
        assert not package.startswith("runstream"), package


def test_frameworks_change_nothing_that_we_need() -> None:
    """What both files pin is the same in both, so that adding frameworks leaves our own packages as they are."""
    ours, theirs = pins("requirements.txt"), pins("requirements-frameworks.txt")
    shared = ours.keys() & theirs.keys()
    assert len(shared) > 10
    assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}
