"""The two users of the embedded ClickHouse: one who may do all, and one who reads within limits."""

# clickhouse-connect leaves most of its types open, and parameters by name might be named as an argument.
# pyright: reportUnknownMemberType=false, reportArgumentType=false

from __future__ import annotations

import base64
import uuid
from pathlib import Path

import pytest

from runstream import read
from runstream.sql import ask as ask_as
from runstream_local.clickhouse.failures import QueryError
from runstream_local.clickhouse.users import Users, analyst_settings, write_profile
from runstream_local.stack import Stack
from runstream_schemas.settings import load
from tests.local.clickhouse_clients import Answer, connect, post

READONLY, BEYOND, NOBODY = "164", "452", "516"


@pytest.fixture
def database(clickhouse_url: str) -> str:
    """A database with a table of three rows."""
    name = f"d_{uuid.uuid4().hex[:8]}"
    for statement in (
        f"CREATE DATABASE {name}",
        f"CREATE TABLE {name}.t (a UInt64) ENGINE = MergeTree ORDER BY a",
        f"INSERT INTO {name}.t VALUES (1), (2), (3)",
    ):
        assert post(clickhouse_url, statement).status == 200
    return name


def ask(url: str, sql: str, **parameters: str) -> Answer:
    """A statement of the analyst."""
    return post(url, sql, user="analyst", **parameters)


def code(answer: Answer) -> str:
    """ClickHouse's error code; empty where there was no error."""
    return answer.headers.get("X-ClickHouse-Exception-Code", "")


@pytest.mark.stack
def test_an_analyst_reads(clickhouse_url: str, database: str) -> None:
    """Whatever tables say, by any of ClickHouse's ways to name oneself, with parameters and settings, also through clickhouse-connect."""
    assert ask(clickhouse_url, f"SELECT sum(a) FROM {database}.t WHERE a > {{least:UInt8}}", param_least="1", max_threads="1").text == "5\n"
    assert ask(clickhouse_url, "WITH 1 AS x SELECT x SETTINGS max_threads = 1, max_execution_time = 600").text == "1\n"
    assert ask(clickhouse_url, "SHOW TABLES", database=database).text == "t\n"
    assert post(clickhouse_url, "SELECT 1", headers={"X-ClickHouse-User": "analyst", "X-ClickHouse-Key": ""}).status == 200
    basic = base64.b64encode(b"analyst:").decode()
    refused = post(clickhouse_url, f"DROP TABLE {database}.t", headers={"Authorization": f"Basic {basic}"})
    assert (refused.status, code(refused)) == (403, READONLY)
    with connect(clickhouse_url, database=database, username="analyst", settings={"max_threads": 1}) as client:
        assert client.query("SELECT a FROM t ORDER BY a").result_rows == [(1,), (2,), (3,)]


@pytest.mark.stack
@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO {d}.t VALUES (4)",
        "INSERT INTO {d}.t SELECT 4",
        "INSERT INTO {d}.t FORMAT TabSeparated\n4\n",
        "INSERT INTO FUNCTION file('/tmp/never.csv') SELECT 1",
        "CREATE TABLE {d}.u (a UInt8) ENGINE = Memory",
        "CREATE TEMPORARY TABLE u (a UInt8)",
        "CREATE OR REPLACE VIEW {d}.v AS SELECT 1",
        "DROP TABLE {d}.t",
        "DROP DATABASE {d}",
        "TRUNCATE TABLE {d}.t",
        "RENAME TABLE {d}.t TO {d}.u",
        "ALTER TABLE {d}.t DELETE WHERE 1",
        "DELETE FROM {d}.t WHERE 1",
        "OPTIMIZE TABLE {d}.t",
        "KILL QUERY WHERE 1",
        "SYSTEM STOP MERGES",
        "GRANT SELECT ON *.* TO default",
        "/* SELECT */ DROP TABLE {d}.t",
        "SELECT 1 SETTINGS readonly = 0",
        "SET readonly = 0",
    ],
    ids=lambda text: str(text).partition("\n")[0].replace("{d}.", ""),
)
def test_an_analyst_changes_nothing(clickhouse_url: str, database: str, statement: str) -> None:
    """Writes of every kind are refused with ClickHouse's code READONLY, and the table is as it was."""
    refused = ask(clickhouse_url, statement.replace("{d}", database))
    assert (refused.status, code(refused)) == (403, READONLY), refused.text
    assert post(clickhouse_url, f"SELECT count() FROM {database}.t").text == "3\n"


@pytest.mark.stack
@pytest.mark.parametrize("name", ["max_execution_time", "max_memory_usage", "max_bytes_before_external_sort"])
@pytest.mark.parametrize("value", ["0", "9000000000"])
def test_an_analyst_stays_within_limits(clickhouse_url: str, name: str, value: str) -> None:
    """More than the bound and none at all are refused, with the query or within it, and what one query asked for is none of the next one's."""
    for refused in (ask(clickhouse_url, "SELECT 1", **{name: value}), ask(clickhouse_url, f"SELECT 1 SETTINGS {name} = {value}")):
        assert code(refused) == BEYOND, refused.text
    assert ask(clickhouse_url, "SELECT 1", **{name: "7"}).status == 200
    [found] = ask(clickhouse_url, f"SELECT value FROM system.settings WHERE name = '{name}'").text.split()
    assert 7 < int(found) <= int(analyst_settings()[name])


@pytest.mark.stack
def test_the_other_user_keeps_its_rights(clickhouse_url: str, database: str) -> None:
    """Connections are not shared between the two, in whatever order they ask."""
    for number in range(20):
        assert ask(clickhouse_url, f"SELECT count() FROM {database}.t").text == f"{3 + number}\n"
        assert post(clickhouse_url, f"INSERT INTO {database}.t VALUES ({number})").status == 200
        assert code(ask(clickhouse_url, f"INSERT INTO {database}.t VALUES (0)")) == READONLY
    assert post(clickhouse_url, "SELECT value FROM system.settings WHERE name = 'max_execution_time'").text == "0\n"


@pytest.mark.stack
def test_who_is_nobody_is_refused(clickhouse_url: str) -> None:
    """A misspelled name is not taken for the user who may do all, nor is a wrong password let pass."""
    for user, password in (("analist", ""), ("analyst", "x")):
        refused = post(clickhouse_url, "SELECT 1", user=user, password=password)
        assert (refused.status, code(refused)) == (403, NOBODY)
    assert code(post(clickhouse_url, "SELECT 1", headers={"Authorization": "Basic ???"})) == NOBODY


def test_a_password_is_asked_for_where_there_is_one() -> None:
    """Name and password must both be the analyst's; the other user has neither."""
    users = Users("ada", "correct horse ü")
    assert users.reads_only("ada", "correct horse ü")
    assert not users.reads_only("", "")
    assert not users.reads_only("default", "")
    for name, password in (("ada", ""), ("ada", "x"), ("analyst", "correct horse ü")):
        with pytest.raises(QueryError, match="516"):
            users.reads_only(name, password)


@pytest.mark.stack
def test_a_stack_has_the_analyst_that_its_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and password come from the settings; who has the password reads, who lacks it is told what to set, and it stands in no file of the stack and on no command line."""
    with Stack(data=tmp_path, parts=("clickhouse",), settings={"RUNSTREAM_ANALYST": "ada", "RUNSTREAM_ANALYST_PASSWORD": "hush ü"}) as stack:
        monkeypatch.setenv("RUNSTREAM_HOME", str(tmp_path))
        with pytest.raises(read.ReadError, match="RUNSTREAM_ANALYST_PASSWORD"):
            read.runs()
        monkeypatch.setenv("RUNSTREAM_ANALYST_PASSWORD", "hush ü")
        with pytest.raises(read.ReadError) as missing:
            read.runs()
        assert missing.value.code in (60, 81), "there are no tables yet, which is what it was told"
        assert ask_as(load().reading_url, "SELECT 1") == b"1\n"
        for pid in (stack.pid("clickhouse"), stack.record.supervisor if stack.record else 0):
            assert b"hush" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert not [file for file in tmp_path.glob("*") if file.is_file() and b"hush" in file.read_bytes()]
        assert not list((tmp_path / "run").glob("*"))


def test_the_profile_has_the_bounds_of_a_server(tmp_path: Path) -> None:
    """What `runstream migrate --analyst` would set stands in the engine's configuration, zero excluded."""
    config = write_profile(tmp_path / "a & b")
    assert "a &amp; b" in config.read_text()
    users = (config.parent / "users.xml").read_text()
    assert "<max_execution_time><min>1</min><max>600</max></max_execution_time>" in users
    assert "readonly" not in users
