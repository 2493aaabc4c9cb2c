"""Settings: where they come from, which of them wins, and what is said when one does not fit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.errors import SchemasError
from runstream_schemas.settings import Settings, SettingsError, environment_of, load


def env(home: Path, **more: str) -> dict[str, str]:
    """An environment with this home folder and nothing else of ours."""
    return {"RUNSTREAM_HOME": str(home), "PATH": os.environ.get("PATH", "")} | {f"RUNSTREAM_{name.upper()}": value for name, value in more.items()}


def write_file(home: Path, text: str) -> None:
    """Writes the settings file of a home folder."""
    (home / "config.toml").write_text(text)


def write_stack(home: Path, supervisor: object = None, **settings: Any) -> None:
    """Writes what an embedded stack leaves in its home folder; this process stands for its supervisor."""
    (home / "stack.json").write_text(json.dumps({"supervisor": supervisor or os.getpid(), "settings": settings}))


def refusal(arguments: dict[str, object] | None, environ: dict[str, str]) -> str:
    """The sentence that refuses these settings: one line, and nothing of a traceback."""
    with pytest.raises(SettingsError) as caught:
        load(arguments, environ)
    text = str(caught.value)
    assert "\n" not in text
    assert isinstance(caught.value, SchemasError)
    return text


def test_the_order(tmp_path: Path) -> None:
    """Argument before environment before file before the running stack before default; each is seen as those above it go away."""
    write_stack(tmp_path, kafka="stack:1")
    write_file(tmp_path, 'kafka = "file:1"')
    environ = env(tmp_path, kafka="environment:1")
    assert load({"kafka": "argument:1"}, environ).kafka == "argument:1"
    assert load({"kafka": None}, environ).kafka == "environment:1"
    assert load({}, env(tmp_path)).kafka == "file:1"
    (tmp_path / "config.toml").unlink()
    assert load({}, env(tmp_path)).kafka == "stack:1"
    (tmp_path / "stack.json").unlink()
    assert load({}, env(tmp_path)).kafka == "127.0.0.1:9092"


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    """A variable that is set to nothing does not hide the file."""
    write_file(tmp_path, 'kafka = "file:1"')
    assert load({}, env(tmp_path, kafka="", config="")).kafka == "file:1"


@pytest.mark.parametrize("broken", ["", "{", "[]", "null", '{"supervisor": 1}', '{"supervisor": "x", "settings": {}}', '{"supervisor": 1e400, "settings": {}}'])
def test_a_broken_stack_file_is_no_stack(tmp_path: Path, broken: str) -> None:
    """A half-written or foreign stack.json counts as no stack."""
    (tmp_path / "stack.json").write_text(broken)
    assert load({}, env(tmp_path)).kafka == "127.0.0.1:9092"


def test_a_dead_stack_does_not_count(tmp_path: Path) -> None:
    """Addresses of a stack whose supervisor is gone are not used."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(timeout=30)
    write_stack(tmp_path, child.pid, kafka="stack:1")
    assert load({}, env(tmp_path)).kafka == "127.0.0.1:9092"


def test_a_named_file_is_read_instead(tmp_path: Path) -> None:
    """RUNSTREAM_CONFIG and the argument name a file elsewhere; a home folder named in it is where the stack is looked for."""
    other = tmp_path / "other"
    other.mkdir()
    write_stack(other, clickhouse_url="http://stack:1")
    write_file(tmp_path, "no TOML at all")
    named = tmp_path / "mine.toml"
    named.write_text(f'linger_ms = 7\nhome = "{other}"\nkafka_options = {{ "security.protocol" = "SSL" }}')
    for settings in (load({"config": named}, {}), load({}, {"RUNSTREAM_CONFIG": str(named)})):
        assert (settings.linger_ms, settings.home, settings.clickhouse_url) == (7, other, "http://stack:1")
        assert settings.kafka_options == {"security.protocol": "SSL"}


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A settings file that was asked for and is missing is said, not passed over."""
    assert "config" in refusal({"config": tmp_path / "none.toml"}, env(tmp_path))
    assert "RUNSTREAM_CONFIG" in refusal({}, env(tmp_path, config=str(tmp_path / "none.toml")))


@pytest.mark.parametrize("raw", [b"kafka = ", b"\xff\xfe", b"[["])
def test_a_file_that_is_no_toml(tmp_path: Path, raw: bytes) -> None:
    """A file that cannot be read is named."""
    (tmp_path / "config.toml").write_bytes(raw)
    assert str(tmp_path / "config.toml") in refusal({}, env(tmp_path))


def test_unknown_keys_are_refused_where_they_stand(tmp_path: Path) -> None:
    """A misspelt setting is refused with its place and the nearest one that there is."""
    assert refusal({}, env(tmp_path, kafak="x:1")) == "RUNSTREAM_KAFAK is no setting of Runstream: did you mean RUNSTREAM_KAFKA?"
    assert "`runstream settings`" in refusal({}, env(tmp_path, zzzzzz="1"))
    assert "'kafak' (argument)" in refusal({"kafak": "x:1"}, env(tmp_path))
    write_file(tmp_path, 'kafak = "x:1"')
    text = refusal({}, env(tmp_path))
    assert "'kafak'" in text
    assert str(tmp_path / "config.toml") in text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("segment_bytes", "16M"),
        ("segment_bytes", "10"),
        ("batch_interval", "nan"),
        ("batch_interval", "-1"),
        ("sink_interval", "0"),
        ("sink_interval", "inf"),
        ("linger_ms", "1.5"),
        ("mode", "onlin"),
        ("strict", "perhaps"),
        ("topic_prefix", "a b"),
        ("clickhouse_database", "a; DROP"),
        ("partitions", "0"),
        ("kafka", "x"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_meaning(tmp_path: Path, name: str, value: str) -> None:
    """A wrong value gives one sentence: the setting where it was set, what it means, what was expected, what came."""
    text = refusal({}, env(tmp_path, **{name: value}))
    assert text.startswith(f"RUNSTREAM_{name.upper()} ({Settings.model_fields[name].description}) does not fit: ")
    assert text.endswith(f"got {value!r}")
    assert f"'{name}' (argument)" in refusal({name: value}, env(tmp_path))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("clickhouse_url", "htp://me:hunter2@host"),
        ("webhook", "hunter2"),
        ("kafka_options", "sasl.password:hunter2"),
        ("kafka_options", '{"sasl.password": "hunter2"'),
        ("kafka_options", '{"sasl.password": ["hunter2"]}'),
    ],
)
def test_secrets_are_not_repeated(tmp_path: Path, name: str, value: str) -> None:
    """A setting that may carry a password is named, and its value kept out of the sentence and its causes."""
    with pytest.raises(SettingsError) as caught:
        load({}, env(tmp_path, **{name: value}))
    assert f"RUNSTREAM_{name.upper()}" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_settings_print_without_secrets(tmp_path: Path) -> None:
    """Printing the settings shows no password."""
    settings = load(
        {"clickhouse_url": "http://me:hunter2@host", "webhook": "https://hunter2", "notify": "mail://hunter2", "kafka_options": {"sasl.password": "hunter2"}},
        env(tmp_path),
    )
    assert "hunter2" not in repr(settings)
    assert "hunter2" not in str(settings)


def test_settings_do_not_change(tmp_path: Path) -> None:
    """The settings of a process are frozen."""
    settings = load({}, env(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        settings.kafka = "x:1"


def test_kafka_options_from_the_environment(tmp_path: Path) -> None:
    """librdkafka options are pairs separated by semicolons, or a JSON object where a value has a semicolon."""
    assert load({}, env(tmp_path, kafka_options="a.b=1; c=x=y ;")).kafka_options == {"a.b": "1", "c": "x=y"}
    assert load({}, env(tmp_path, kafka_options='{"sasl.password": "a;b = "}')).kafka_options == {"sasl.password": "a;b = "}


CHANGED = {
    "kafka": "a:1,b:2",
    "kafka_options": {"sasl.password": 'a;b=c " ', "linger.ms": "5"},
    "topic_prefix": "team",
    "partitions": 3,
    "clickhouse_url": "https://me:secret@host:8443/?a=b",
    "journal_bytes_max": 1 << 21,
    "batch_interval": 0.25,
    "mode": "offline",
    "strict": True,
    "run_id": "r",
}


@pytest.mark.parametrize("arguments", [{}, CHANGED, {"kafka": "127.0.0.1:9092", "journal_dir": "journals"}])
def test_children_get_the_same_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, object]) -> None:
    """A child in another working folder has its parent's settings, also where a file or a stack that came later would give it others."""
    monkeypatch.chdir(tmp_path)
    settings = load(arguments, {"RUNSTREAM_HOME": "home"})
    home = tmp_path / "home"
    home.mkdir()
    write_stack(home, kafka="stack:1", clickhouse_url="http://stack:1")
    write_file(home, 'kafka = "file:1"\nlinger_ms = 99')
    monkeypatch.chdir("/")
    child = load({}, environment_of(settings))
    assert child == settings
    assert settings.home == home
    assert settings.journal_dir in (None, tmp_path / "journals")


def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where ~ means nothing (a container with a bare user id), the sentence says which setting to give."""

    def fail(path: Path) -> Path:
        if str(path).startswith("~"):
            raise RuntimeError("Could not determine home directory.")
        return path

    monkeypatch.setattr(Path, "expanduser", fail)
    assert "RUNSTREAM_HOME" in refusal({}, {})
    assert load({}, env(tmp_path)).home == tmp_path


def test_every_setting_has_a_meaning() -> None:
    """Each setting has one line of meaning."""
    for name, setting in Settings.model_fields.items():
        assert setting.description, name
        assert "\n" not in setting.description
