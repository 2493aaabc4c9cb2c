"""`runstream mode`: what holds and where it comes from, and that setting it changes nothing else in the settings file."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from runstream import cli
from runstream.commands.mode import with_mode
from runstream_schemas.settings import load


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, and nothing of ours in the environment but it."""
    for name in [name for name in os.environ if name.startswith("RUNSTREAM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_a_mode_is_set_and_told(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a file the default holds; after `mode offline` the file says so, runs follow, and `mode` names it."""
    assert cli.main(["mode", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"mode": "online", "from": "default", "file": str(home / "config.toml")}
    assert cli.main(["mode", "offline"]) == 0
    assert "offline" in capsys.readouterr().out
    assert load().mode == "offline"
    assert cli.main(["mode"]) == 0
    assert capsys.readouterr().out == f"runs begin in mode offline (from {home / 'config.toml'})\n"
    assert cli.main(["mode", "online"]) == 0
    assert load().mode == "online"
    assert sorted(path.name for path in home.iterdir()) == ["config.toml"]


def test_the_environment_goes_before_and_is_named(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A default that RUNSTREAM_MODE hides is set all the same, and the command says what holds."""
    monkeypatch.setenv("RUNSTREAM_MODE", "disabled")
    assert cli.main(["mode", "offline"]) == 0
    assert "runs begin in mode disabled (from RUNSTREAM_MODE in the environment)" in capsys.readouterr().out
    monkeypatch.delenv("RUNSTREAM_MODE")
    assert load().mode == "offline"


def test_a_named_settings_file_is_the_one_that_changes(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where RUNSTREAM_CONFIG names the file that holds, the mode goes there, and who may read it stays as it was."""
    other = tmp_path / "other.toml"
    other.write_text("# mine\nlinger_ms = 7\n")
    other.chmod(0o600)
    monkeypatch.setenv("RUNSTREAM_CONFIG", str(other))
    assert cli.main(["mode", "offline"]) == 0
    assert tomllib.loads(other.read_text()) == {"linger_ms": 7, "mode": "offline"}
    assert "# mine" in other.read_text()
    assert other.stat().st_mode & 0o777 == 0o600
    assert not (home / "config.toml").exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        'kafka = "a:1"',
        '# why\nkafka = "a:1"\nmode = "online"  # old\n\n[kafka_options]\n"security.protocol" = "SSL"\n',
        '[kafka_options]\nmode = "x"\n',
        "  'mode' = 'online'\nlinger_ms = 3\n",
        'notify = """\nmode = "text"\n"""\n',
        'notify = """\nmode = "text"\n"""\nmode = "online"\n',
        'kafka = "a:1"\r\nlinger_ms = 3\r\n',
    ],
)
def test_everything_else_stays(text: str) -> None:
    """Whatever stands in the file, after the change it differs in the mode alone."""
    changed = with_mode(text, "offline")
    assert changed is not None
    assert tomllib.loads(changed) == tomllib.loads(text) | {"mode": "offline"}
    assert [line for line in text.splitlines() if "mode" not in line] == [line for line in changed.splitlines() if "mode" not in line]


def test_a_broken_file_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no TOML is left as it is: one sentence, exit code 2."""
    home.mkdir()
    (home / "config.toml").write_text("mode = = 1")
    assert cli.main(["mode", "offline"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert (home / "config.toml").read_text() == "mode = = 1"
