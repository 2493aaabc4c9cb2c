"""What surrounds a run — packages, hardware, console — is written through the whole pipeline and read back by SQL and by `runstream.read`, with its types; an environment is rebuilt."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from runstream import environments, read
from runstream.cli import main as runstream_command
from runstream_schemas.ids import run_id_of
from tests.answers import Answers
from tests.conda_channel import conda_settings, make_channel
from tests.integration.surroundings_rank import EXTERNAL, NAME, PROJECT, ROUNDS
from tests.waiting import wait_for
from tests.wheels import make_wheel

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]
RUN = run_id_of(PROJECT, EXTERNAL)


@dataclass(frozen=True)
class Written:
    """The run of this module: its stack's answers, and the folder of wheels from which its packages came."""

    answers: Answers
    wheels: Path

    def rows(self, sql: str) -> list[dict[str, Any]]:
        """Rows of an answer about the run."""
        return self.answers.rows(sql, run=RUN)


@pytest.fixture(scope="module")
def held() -> dict[str, Written]:
    """What the first test that asks has written."""
    return {}


@pytest.fixture
def written(held: dict[str, Written], environment: dict[str, str], answers: Answers, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """A run with packages, hardware and console, stored to the last row."""
    if "it" in held:
        return held["it"]
    wheels, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    names = [make_wheel(wheels, name, version) for name, version in (("alpha", "1.2.0"), ("beta_package", "0.3"), ("gone", "9.9"))]
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*pip, *map(str, names)], check=True, capture_output=True, timeout=60)
    for folder in site.glob("*.dist-info"):
        (folder / "direct_url.json").unlink(missing_ok=True)  # As if they had come by name from an index.
    direct = {"url": "https://me:hunter2@127.0.0.1:9/repo.git", "vcs_info": {"vcs": "git", "commit_id": "abc123"}}
    (site / "gone-9.9.dist-info" / "direct_url.json").write_text(json.dumps(direct))
    names[2].unlink()
    make_wheel(wheels, "alpha", "1.3.0")
    base = os.environ | environment | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.surroundings_rank", str(site)], env=base, cwd=ROOT, capture_output=True, timeout=90, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == "epoch 1: grün, password=hunter2\n10%\r100%\nTrue\n"
    assert "from a child\n" in done.stderr.decode()
    made = Written(answers, wheels)

    def stored() -> bool:
        found = made.rows("SELECT kind, state, balanced FROM account WHERE run_id = {run:UUID}")
        return sorted(row["kind"] for row in found) == ["console", "hardware", "rank"] and all(row["balanced"] and row["state"] == "finished" for row in found)

    wait_for(
        stored,
        60,
        lambda: f"the run to be stored, {made.rows('SELECT kind, state, balanced, points_logged, points_stored FROM account WHERE run_id = {run:UUID}')}",
    )
    held["it"] = made
    return made


def test_packages_are_params_of_the_run(written: Written) -> None:
    """Python and packages read as they were, as text and list; of what came from a repository its place is there, and nobody's password."""
    params = read.params(RUN)
    assert params["environment.python"] == sys.version.split()[0]
    assert params["environment.packages"] == ["alpha==1.2.0", "beta_package==0.3", "gone==9.9"]
    assert params["environment.origins"] == [{"name": "gone", "url": "https://127.0.0.1:9/repo.git", "vcs": "git", "commit": "abc123"}]
    [history] = [one for one in read.param_history(RUN, "environment.packages") if len(one.value) > 3]
    assert any(text.startswith("numpy==") for text in history.value), "what it had at its start was recorded by itself"
    [row] = written.rows("SELECT kind, value FROM params WHERE run_id = {run:UUID} AND key = 'environment.packages'")
    assert (row["kind"], json.loads(row["value"])) == ("list", params["environment.packages"])
    told = written.rows("SELECT value FROM params_history WHERE run_id = {run:UUID}")
    assert not [row for row in told if "hunter2" in row["value"]]


def test_an_environment_is_rebuilt_with_the_same_versions(written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A virtual environment in a fresh folder imports the versions of the run, newer ones notwithstanding; what cannot be had is named, the rest kept, and the exit code is 1."""
    place = tmp_path / "deep" / "down" / "venv"
    code = runstream_command(["env", "venv", EXTERNAL, str(place), "--no-index", "--find-links", str(written.wheels), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == 1
    assert (told["complete"], told["created"], told["run_id"]) == (False, True, RUN)
    assert [(one["name"], one["version"]) for one in told["missing"]] == [("gone", "9.9")]
    script = "import alpha, beta_package, sys; print(alpha.__version__, beta_package.__version__, sys.prefix)"
    done = subprocess.run([place / "bin" / "python", "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["1.2.0", "0.3", str(place)]
    assert "gone @ git+https://127.0.0.1:9/repo.git@abc123" in (place / "requirements.txt").read_text()
    assert runstream_command(["env", "venv", RUN[:8], str(place)]) == 2
    assert "path must be a folder that is not there or empty" in capsys.readouterr().err


def test_files_are_written_where_they_are_wanted(written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Requirements and environment.yml, by command and by call, by id, external id and project/name; conda is called where it is there."""
    assert written
    file = tmp_path / "a" / "b" / "needed.txt"
    assert runstream_command(["env", "requirements", f"{PROJECT}/{NAME}", str(file)]) == 0
    assert runstream_command(["env", "requirements", RUN]) == 0
    text = capsys.readouterr().out
    assert text == file.read_text() == environments.requirements(EXTERNAL)
    assert text.splitlines()[1:] == ["alpha==1.2.0", "beta_package==0.3", "gone @ git+https://127.0.0.1:9/repo.git@abc123"]
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CONDA_EXE", raising=False)
    built = environments.conda(RUN, tmp_path / "c")
    assert (built.created, built.complete) == (False, True)
    lines = (tmp_path / "c" / "environment.yml").read_text().splitlines()
    assert f'  - "python={sys.version.split()[0]}"' in lines
    assert '    - "alpha==1.2.0"' in lines
    program = tmp_path / "conda"
    program.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\nexit 3\n')
    program.chmod(0o755)
    assert runstream_command(["env", "conda", RUN, str(tmp_path / "d")]) == 1
    assert (tmp_path / "asked").read_text().split()[:2] == ["env", "create"]
    assert "conda could not make it: exit code 3" in capsys.readouterr().out
    assert runstream_command(["env", "show", RUN, "--json"]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)["packages"]] == ["alpha", "beta_package", "gone"]
    assert runstream_command(["env", "venv", "nobody/knows", str(tmp_path / "e")]) == 2
    assert "no run 'nobody/knows' is stored" in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_a_real_conda_rebuilds_an_environment(written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a conda is on the path it makes the environment, in a folder with a space, which imports the versions of the run; what cannot be had is named, the rest kept."""
    if shutil.which("conda") is None:
        pytest.skip("no conda is on the path")
    for name, value in conda_settings(tmp_path / "settings", make_channel(tmp_path / "conda-forge", {})).items():
        monkeypatch.setenv(name, value)
    place = tmp_path / "new" / "with a space"
    code = runstream_command(["env", "conda", EXTERNAL, str(place), "--no-index", "--find-links", str(written.wheels), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["created"], told["python"]) == (1, True, sys.version.split()[0])
    assert [(one["name"], one["version"]) for one in told["missing"]] == [("gone", "9.9")]
    script = "import alpha, beta_package, sys; print(alpha.__version__, beta_package.__version__, sys.prefix)"
    done = subprocess.run([place / "env" / "bin" / "python", "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"1.2.0 0.3 {place}/env\n"
    assert runstream_command(["env", "conda", RUN[:8], str(place)]) == 2
    assert "path must be a folder that is not there or empty" in capsys.readouterr().err


def test_hardware_reads_as_series(written: Written) -> None:
    """Each reading of each device has its values by time; a device that was lost, and a call that fails, are gaps and no zeros; the rank's own memory is told by device."""
    temperature = {one.labels["device"]: one for one in read.hardware(RUN, "gpu.temperature_c")}
    assert sorted(temperature) == ["0", "1", "2", "3", "4", "6", "7"]
    series = temperature["0"]
    assert len(series.values) >= ROUNDS
    assert set(series.values.tolist()) == {60.0}
    assert all(0.9 < later - earlier < 10 for earlier, later in zip(series.times, series.times[1:], strict=False))
    assert "2" not in {one.labels["device"] for one in read.hardware(RUN, "gpu.power_w")}
    [energy] = [one for one in read.hardware(RUN, "gpu.energy_j") if one.labels["device"] == "1"]
    assert energy.values[-1] > energy.values[0]
    [memory] = [one for one in read.hardware(RUN, "process.gpu.*") if one.labels["device"] == "7"]
    assert (memory.name, memory.labels, memory.values[0]) == ("process.gpu.memory_bytes", {"rank": "0", "device": "7"}, float(1 << 30))
    names = {one.name for one in read.hardware(RUN)}
    assert {"cpu.utilization", "disk.write_bytes_per_s", "network.receive_bytes_per_s", "process.cpu.utilization", "gpu.nvlink.send_bytes_per_s"} <= names
    assert read.hardware(RUN, node="nowhere") == []
    rows = written.rows("SELECT name, value, toTypeName(value) AS type FROM hardware WHERE run_id = {run:UUID} AND name LIKE 'gpu.power_w%' AND value != 150")
    assert rows == []
    [row] = written.rows("SELECT environment FROM writers WHERE run_id = {run:UUID} AND kind = 'hardware'")
    assert row["environment"]["gpu.7"] == "Simulated GPU (GPU-7)"


def test_the_console_reads_as_events(written: Written) -> None:
    """Lines of the process and its children are events by stream, in order, without secrets, and belong to the run's rank."""
    events = [one for one in read.events(RUN) if one.name == "console"]
    assert [(one.source, one.metadata["text"]) for one in events if one.source == "stdout"] == [
        ("stdout", "epoch 1: grün, password=[hidden]"),
        ("stdout", "100%"),
    ]
    assert ("stderr", "from a child") in [(one.source, one.metadata["text"]) for one in events]
    assert {(one.run_id, one.rank) for one in events} == {(RUN, 0)}
    rows = written.rows(
        "SELECT source, metadata['text'] AS text FROM events WHERE run_id = {run:UUID} AND name = 'console' AND source = 'stdout' ORDER BY time, seq"
    )
    assert [json.loads(row["text"]) for row in rows] == ["epoch 1: grün, password=[hidden]", "100%"]
    assert read.run(RUN).writers == 1, "helpers are no ranks"
