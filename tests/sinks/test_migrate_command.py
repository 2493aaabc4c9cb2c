"""`runstream migrate` as people call it: plans, retention, users, and what it says when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from runstream_local.errors import SqlError
from runstream_local.sql import open_answer
from runstream_schemas.settings import SettingsError, load
from runstream_sinks import analysts, migrations
from runstream_sinks.__main__ import main
from runstream_sinks.clickhouse import Server, has_database
from tests.sinks import clusters, examples
from tests.sinks.engine import Engine
from tests.sinks.test_tables import insert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.stack

READONLY, ACCESS_DENIED = 164, 497


@pytest.fixture
def nowhere(clickhouse_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A database that does not exist yet, which the settings name."""
    name = f"t_{uuid.uuid4().hex[:10]}"
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_URL", clickhouse_url)
    monkeypatch.setenv("RUNSTREAM_CLICKHOUSE_DATABASE", name)
    yield name
    server = Server(clickhouse_url, None)
    server.command(f"DROP DATABASE IF EXISTS `{name}`")
    server.close()


def test_a_plan_is_the_sql_and_sends_none_of_it(nowhere: str, clickhouse_url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints is what the next call without --plan sends, and then there is nothing left to do."""
    assert main(["migrate", "--plan", "--retain", "metrics=90d"]) == 0
    text = capsys.readouterr().out
    assert not has_database(clickhouse_url, nowhere)
    server = Server(clickhouse_url, None)
    statements = [one.strip() for one in text.split(";\n")]
    for statement in filter(None, statements):
        assert server.query("SELECT formatQuery({statement:String})", {"statement": statement})
    server.close()
    assert statements[0].endswith(f"CREATE DATABASE IF NOT EXISTS `{nowhere}`")
    assert statements[1].endswith(f"USE `{nowhere}`")
    assert "MODIFY TTL started + INTERVAL 90 DAY" in text
    assert main(["migrate", "--retain", "metrics=90d", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["database"] == nowhere
    assert [one["title"] for one in told["applied"]][-1] == "metrics kept 90 days"
    sent = [statement for one in told["applied"] for statement in one["statements"]]
    assert [statement for statement in sent if statement not in text] == []
    assert main(["migrate", "--retain", "metrics=90d", "--plan"]) == 0
    assert "CREATE" not in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == f"database {nowhere} is up to date\n"


def test_a_plan_for_a_cluster_names_it_everywhere(nowhere: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The setting and the argument mean the same; every statement that makes something makes it on the cluster."""
    assert main(["migrate", "--plan", "--cluster", "main", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cluster"] == "main"
    made = [statement for one in told["planned"] for statement in one["statements"] if statement.startswith("CREATE")]
    assert len(made) > 2 * len(migrations.bundled())
    assert all("ON CLUSTER `main`" in statement for statement in made)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--retain", "runs=9d"], "--retain: expected one of metrics"),
        (["--retain", "metrics=9d", "--retain", "metrics=8d"], "expected each view once, got metrics more than once"),
        (["--analyst", "ada"], "needs a password"),
        (["--password-file", "x"], "goes with --analyst"),
        (["--analyst", "ada", "--password-file", "/no/such/file"], "cannot be read"),
        (["--analyst", "a`b"], "expected a user's name"),
        (["--cluster", "a b"], "clickhouse_cluster"),
    ],
)
def test_wrong_arguments_are_one_sentence(
    arguments: list[str], said: str, nowhere: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, before anything is sent."""
    if arguments == ["--analyst", "a`b"]:
        monkeypatch.setenv("RUNSTREAM_ANALYST_PASSWORD", "a long password")
    assert main(["migrate", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_password_is_neither_printed_nor_sent(nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From a file, or the environment; only a salted hash goes to the server, and even that is not shown. The embedded engine makes none but has one, and the sentence says so."""
    file = tmp_path / "password"
    file.write_text("correct horse\nanother line\n")
    assert main(["migrate", "--plan", "--analyst", "ada", "--password-file", str(file)]) == 0
    text = capsys.readouterr().out
    assert "CREATE USER OR REPLACE `ada` IDENTIFIED WITH sha256_hash BY '...' SALT '" in text
    assert f"GRANT SELECT ON `{nowhere}`.* TO `{nowhere}_analyst`" in text
    change = analysts.change("ada", "correct horse", "5a17", "rs", None)
    assert not any("horse" in statement for statement in change.statements)
    assert change.secret in "".join(change.statements)
    assert change.secret not in "".join(change.shown())
    done = subprocess.run(
        [sys.executable, "-m", "runstream_sinks", "migrate", "--analyst", "ada", "--password-file", "-"],
        input="correct horse\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "the embedded engine has a user of its own" in done.stderr
    assert "horse" not in done.stdout + done.stderr
    with pytest.raises(ValueError, match="at least 8 characters for ada, got 3"):
        analysts.change("ada", "abc", "5a17", "rs", None)


def test_what_an_analyst_is_granted_suffices_to_read_and_for_nothing_else(tmp_path: Path) -> None:
    """The engine's own user is given the same rights and limits, by its configuration: every view can be read, also by clients that send settings, and nothing can be written."""
    engine = Engine(tmp_path)
    engine.start()
    server = Server(engine.url, None)
    server.command("CREATE DATABASE rs")
    server.command("CREATE DATABASE other")
    server.command("CREATE TABLE other.secrets (x UInt8) ENGINE = MergeTree ORDER BY x")
    server.close()
    server = Server(engine.url, "rs")
    migrations.migrate(server)
    insert(server, "metric_points", examples.frame(examples.group(["loss"], 0, 5), run_id=str(uuid.uuid4()), writer=1))
    server.close()
    engine.kill()
    limits = {name: limit.value for name, limit in analysts.LIMITS.items() if name != "readonly"}
    config = clusters.write_config(
        tmp_path,
        profile="".join(f"<{name}>{value}</{name}>" for name, value in limits.items()),
        grants="<grants><query>GRANT SELECT ON rs.*</query></grants>",
    )
    bounded = Engine(tmp_path, config)
    bounded.start()

    def ask(sql: str) -> bytes:
        with open_answer(bounded.url, sql, database="rs", settings={"readonly": "2"}) as answer:
            return answer.read()

    views = ask("SELECT name FROM system.tables WHERE database = 'rs' AND engine = 'View'").decode().split()
    assert {"metrics", "runs", "account"} <= set(views)
    for view in views:
        ask(f"SELECT * FROM {view} LIMIT 1 SETTINGS max_threads = 1")
    assert ask("SELECT count() FROM metrics") == b"5\n"
    for forbidden in (
        "DROP TABLE metric_points",
        "CREATE TABLE rs.mine (x UInt8) ENGINE = MergeTree ORDER BY x",
        "INSERT INTO rs.rules_log (rule_id) SELECT 'x'",
        "SELECT * FROM other.secrets",
        "SELECT * FROM url('http://127.0.0.1/', 'CSV')",
        "SELECT * FROM file('/etc/passwd', 'LineAsString')",
    ):
        with pytest.raises(SqlError) as refused:
            ask(forbidden)
        assert refused.value.code in {READONLY, ACCESS_DENIED}, forbidden
    bounded.kill()


def test_settings_name_the_cluster_and_hide_the_password() -> None:
    """Both are ordinary settings; a wrong one says what was expected."""
    assert load({}, {"RUNSTREAM_CLICKHOUSE_CLUSTER": "main"}).clickhouse_cluster == "main"
    assert "horse" not in repr(load({}, {"RUNSTREAM_ANALYST_PASSWORD": "correct horse"}))
    with pytest.raises(SettingsError, match="expected the name of a cluster"):
        load({}, {"RUNSTREAM_CLICKHOUSE_CLUSTER": "a`b"})
