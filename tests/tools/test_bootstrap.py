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


def test_a_set_up_that_fits_is_not_done_again(tmp_path: Path) -> None:
    """A stamp that says what .venv was made from makes the second call return at once, silently; another stamp does not."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "requirements.txt", tmp_path)
    for folder in ("schemas", "rules", "producers", "sdk", "processors", "sinks", "local"):
        (tmp_path / folder).mkdir()
        shutil.copy(ROOT / folder / "pyproject.toml", tmp_path / folder)
    script = tmp_path / "tools" / "bootstrap.py"
    code = f"import runpy; print(runpy.run_path({str(script)!r})['stamp_text']())"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "runstream.stamp").write_text(said)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in (tmp_path / ".venv").iterdir()) == ["runstream.stamp"]
    (tmp_path / "sdk" / "pyproject.toml").write_text("changed")
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert again != said


def test_requirements_are_pinned_by_hash_and_name_no_host() -> None:
    """Every package is pinned with its hashes, nothing says where it comes from, and our own names are not among them."""
    text = (ROOT / "requirements.txt").read_text()
    assert "://" not in text
    assert not re.search(r"--(index|extra|find)", text)
    packages = [block for block in re.split(r"\n(?=\S)", text) if block and not block.startswith("#")]
    assert len(packages) > 50
    for block in packages:
        assert re.match(r"[a-z0-9._-]+==\S+", block), block.splitlines()[0]
        assert "--hash=sha256:" in block, block.splitlines()[0]
        assert not block.startswith("runstream"), block.splitlines()[0]
