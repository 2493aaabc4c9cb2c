"""Settings: where they come from, which of them wins, and what is said when one does not fit."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from runstream_schemas.errors import SchemasError
from runstream_schemas.settings import SECRET, Settings, SettingsError, environment_of, load


def env(home: Path, **more: str) -> dict[str, str]:
    """An environment with this home folder and nothing else of ours."""
    return {"RUNSTREAM_HOME": str(home), "PATH": os.environ.get("PATH", "")} | {f"RUNSTREAM_{name.upper()}": value for name, value in more.items()}


def write_file(home: Path, text: str) -> None:
    """Writes the settings file of a home folder."""
    (home / "config.toml").write_text(text)


def write_stack(home: Path, **settings: Any) -> None:
    """Writes what an embedded stack leaves in its home folder; this process is alive, as one may be that has a dead supervisor's pid."""
    (home / "stack.json").write_text(json.dumps({"supervisor": os.getpid(), "settings": settings}))


@contextmanager
def supervised(home: Path) -> Generator[None]:
    """Holds the lock of the home folder as a supervisor does."""
    with (home / "supervisor.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


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
    with supervised(tmp_path):
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
    with supervised(tmp_path):
        assert load({}, env(tmp_path)).kafka == "127.0.0.1:9092"


def test_a_dead_stack_does_not_count(tmp_path: Path) -> None:
    """Addresses of a stack whose supervisor was killed hard are not used, even where its pid has become another process's."""
    write_stack(tmp_path, kafka="stack:1")
    assert load({}, env(tmp_path)).kafka == "127.0.0.1:9092"
    with supervised(tmp_path):
        assert load({}, env(tmp_path)).kafka == "stack:1"
    assert load({}, env(tmp_path)).kafka == "127.0.0.1:9092"


def test_looking_for_a_stack_keeps_nobody_from_its_lock(tmp_path: Path) -> None:
    """Once the settings are loaded the lock is free, and the folder is as it was."""
    with supervised(tmp_path):
        load({}, env(tmp_path))
    load({}, env(tmp_path))
    with supervised(tmp_path):
        pass
    (tmp_path / "supervisor.lock").unlink()
    load({}, env(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_named_file_is_read_instead(tmp_path: Path) -> None:
    """RUNSTREAM_CONFIG and the argument name a file elsewhere; a home folder named in it is where the stack is looked for."""
    other = tmp_path / "other"
    other.mkdir()
    write_stack(other, clickhouse_url="http://stack:1")
    write_file(tmp_path, "no TOML at all")
    named = tmp_path / "mine.toml"
    named.write_text(f'linger_ms = 7\nhome = "{other}"\nkafka_options = {{ "security.protocol" = "SSL" }}')
    with supervised(other):
        found = (load({"config": named}, {}), load({}, {"RUNSTREAM_CONFIG": str(named)}))
    for settings in found:
        assert (settings.linger_ms, settings.home, settings.clickhouse_url) == (7, other, "http://stack:1")
        assert settings.kafka_options == {"security.protocol": "SSL"}


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A settings file that was asked for and is missing is said, not passed over."""
    assert "config" in refusal({"config": tmp_path / "none.toml"}, env(tmp_path))
    assert "RUNSTREAM_CONFIG" in refusal({}, env(tmp_path, config=str(tmp_path / "none.toml")))


def test_a_home_that_is_a_file_is_said_to_be_no_folder(tmp_path: Path) -> None:
    """A home folder, or a settings file's folder, that is a file is named as such, and not as TOML."""
    (tmp_path / "file").touch()
    assert refusal({}, env(tmp_path / "file")) == f"setting 'home' (RUNSTREAM_HOME) does not fit: {tmp_path / 'file'} is no folder"
    assert (
        refusal({}, env(tmp_path, config=str(tmp_path / "file" / "x"))) == f"setting 'config' (RUNSTREAM_CONFIG) does not fit: {tmp_path / 'file'} is no folder"
    )


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


def test_the_address_to_read_from_belongs_to_the_clickhouse_beside_it(tmp_path: Path) -> None:
    """It is that of the same place or of one that goes before; a ClickHouse that is named in a place before it is read from itself. A user without a password has the analyst's."""
    write_stack(tmp_path, clickhouse_url="http://127.0.0.1:1", read_url="http://ada@127.0.0.1:1")
    with supervised(tmp_path):
        assert load({}, env(tmp_path)).reading_url == "http://ada@127.0.0.1:1"
        assert load({}, env(tmp_path, analyst_password="a/b ü")).reading_url == "http://ada:a%2Fb%20%C3%BC@127.0.0.1:1"
        assert load({}, env(tmp_path, clickhouse_url="http://h:2")).reading_url == "http://h:2"
        assert load({"clickhouse_url": "http://h:3"}, env(tmp_path, read_url="http://b@h:2")).reading_url == "http://h:3"
        write_file(tmp_path, 'clickhouse_url = "http://h:4"\nread_url = "http://c:d@h:4"\n')
        assert load({}, env(tmp_path, analyst_password="x")).reading_url == "http://c:d@h:4"
        given = load({}, env(tmp_path))
    assert load({}, environment_of(given)).reading_url == given.reading_url
    assert "d@h" not in repr(given)
    assert load({}, env(tmp_path, config="")).reading_url == "http://c:d@h:4"


@pytest.mark.parametrize("name", [name for name, field in Settings.model_fields.items() if field.pattern is not None])
def test_a_pattern_is_said_in_words(tmp_path: Path, name: str) -> None:
    """What does not match a pattern is told what was expected in words, without the expression, and without a library's traceback behind it."""
    with pytest.raises(SettingsError) as caught:
        load({}, env(tmp_path, **{name: "?!"}))
    text = str(caught.value)
    assert "does not fit: expected " in text
    assert "pattern" not in text
    assert ("?!" in text) == (name not in SECRET)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_an_address_is_told_how_it_begins(tmp_path: Path) -> None:
    """The sentence for an address names both beginnings."""
    assert refusal({}, env(tmp_path, webhook="hooks.example")).endswith("does not fit: expected an address that begins with http:// or https://")


def test_wrong_settings_show_no_library(tmp_path: Path) -> None:
    """Training that ends on wrong settings shows our sentence and nothing of the library that checked."""
    code = "import runstream; runstream.init(project='p')"
    done = subprocess.run([sys.executable, "-c", code], env=env(tmp_path, linger_ms="soon"), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "SettingsError: RUNSTREAM_LINGER_MS" in done.stderr
    assert "pydantic" not in done.stderr
