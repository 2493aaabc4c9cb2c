"""The `runstream` command: its subcommands, its help, and how it says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runstream import cli
from runstream_schemas.settings import Settings


def call(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with these settings alone."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTREAM_")}
    environ |= {f"RUNSTREAM_{name.upper()}": value for name, value in settings.items()}
    return subprocess.run([sys.executable, "-m", "runstream.cli", *arguments], env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_help_lists_the_commands(tmp_path: Path) -> None:
    """Without arguments and with --help each subcommand is listed with its line."""
    for arguments in ((), ("--help",)):
        done = call(*arguments, home=str(tmp_path))
        assert done.returncode == 0
        for name in ("settings", "topics"):
            assert f"\n    {name} " in done.stdout


def test_every_command_has_a_line_and_its_own_help() -> None:
    """Modules behind entry points offer a summary of one line and arguments that parse."""
    for name, point in cli.commands().items():
        module = point.load()
        assert isinstance(module.SUMMARY, str)
        assert "\n" not in module.SUMMARY
        assert callable(module.run)
        with pytest.raises(SystemExit) as ended:
            cli.main([name, "--help"])
        assert ended.value.code == 0


def test_only_the_wanted_commands_module_is_loaded() -> None:
    """A command does not pay for the others: of the modules behind entry points only its own is imported."""
    script = "import sys; from runstream import cli; code = cli.main(['settings']); print(sorted({p.value for p in cli.commands().values()} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr.strip() == "['runstream.commands.settings']"


def test_an_unknown_setting_is_one_sentence(tmp_path: Path) -> None:
    """A setting that is misspelt, in the environment or the file, ends with 2 and names it and what was meant."""
    done = call("settings", home=str(tmp_path), kafak="x")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "RUNSTREAM_KAFAK" in done.stderr
    assert "RUNSTREAM_KAFKA?" in done.stderr
    (tmp_path / "config.toml").write_text("shoe_size = 43\n")
    done = call("settings", home=str(tmp_path))
    assert done.returncode == 2
    assert "shoe_size" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_value_that_does_not_fit_is_one_sentence(tmp_path: Path) -> None:
    """So is a value of a wrong type; secrets are not repeated in it."""
    done = call("settings", home=str(tmp_path), batch_size="many")
    assert (done.returncode, "RUNSTREAM_BATCH_SIZE" in done.stderr) == (2, True)
    done = call("settings", home=str(tmp_path), webhook="my-secret-token")
    assert done.returncode == 2
    assert "my-secret-token" not in done.stderr


def test_unknown_commands_and_arguments_end_with_2() -> None:
    """argparse's own words, and no traceback."""
    for arguments in (("dance",), ("settings", "--fast"), ("topics",)):
        done = call(*arguments)
        assert done.returncode == 2
        assert "usage: runstream" in done.stderr


def test_settings_are_listed_without_secrets(tmp_path: Path) -> None:
    """Every setting is there with its value; what may carry passwords only says that it is set."""
    done = call(
        "settings",
        "--json",
        home=str(tmp_path),
        kafka="a:1",
        kafka_options="sasl.password=hush",
        webhook="http://x/hush",
        clickhouse_url="http://u:hush@h:1",
        read_url="http://v:hush@h:1",
        analyst_password="hush hush",
    )
    values = json.loads(done.stdout)
    assert set(values) == set(Settings.model_fields)
    assert values["kafka"] == "a:1"
    assert "hush" not in done.stdout
    shown = call("settings", home=str(tmp_path))
    assert "RUNSTREAM_KAFKA " in shown.stdout
    assert "bootstrap servers" in shown.stdout


def test_the_version_is_told() -> None:
    """`--version` says the distribution's."""
    assert call("--version").stdout.startswith("runstream 0.")


def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """`runstream settings | head -1` ends quietly."""
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m runstream.cli settings | head -1"], capture_output=True, text=True, timeout=60, check=True)
    assert "Traceback" not in done.stderr
    assert len(done.stdout.splitlines()) == 1
