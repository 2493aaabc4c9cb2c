"""What is read off a SQL text before the engine sees it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runstream_local.clickhouse.statement import Insert, Other, Read, Refused, parse


@pytest.mark.parametrize(
    ("text", "format_name"),
    [
        (b"SELECT 1", None),
        (b"SELECT 1 FORMAT JSON", "JSON"),
        (b"select 1 format CSVWithNames;", "CSVWithNames"),
        (b"SELECT 1 FORMAT JSON SETTINGS max_threads = 1", "JSON"),
        (b"SELECT 1 SETTINGS max_threads = 1\n FORMAT Native", "Native"),
        (b"WITH x AS (SELECT 1 FORMAT CSV) SELECT * FROM x", None),
        (b"SELECT ' FORMAT CSV'", None),
        (b"SELECT 1 -- FORMAT CSV", None),
        (b"SELECT 1 /* FORMAT CSV */ FORMAT TSV", "TSV"),
        (b"SELECT format FROM t", None),
        (b"SELECT $a$ FORMAT CSV $a$ FORMAT TSV", "TSV"),
        (b"/* who */ (SELECT 1) FORMAT TSV", "TSV"),
        (b"SHOW TABLES", None),
        (b"DESCRIBE TABLE t FORMAT JSONEachRow", "JSONEachRow"),
    ],
)
def test_a_reads_format_clause_is_found(text: bytes, format_name: str | None) -> None:
    """Only the statement's own FORMAT clause counts, not one in a string, comment or bracket, and no column of that name."""
    statement = parse(text)
    assert isinstance(statement, Read)
    assert statement.format == format_name
    assert statement.head + statement.tail == text.rstrip(b";")


@pytest.mark.parametrize(
    ("text", "head", "settings", "format_name", "data"),
    [
        (b"INSERT INTO t FORMAT CSV\n1,2\n", b"INSERT INTO t ", b"", "CSV", b"1,2\n"),
        (b"insert into t (a, `format`) format Native\r\n\x00\xff", b"insert into t (a, `format`) ", b"", "Native", b"\x00\xff"),
        (b'INSERT INTO t FORMAT JSONEachRow {"a": 1}', b"INSERT INTO t ", b"", "JSONEachRow", b'{"a": 1}'),
        (b"INSERT INTO t SETTINGS a = 1 FORMAT CSV\n\n1", b"INSERT INTO t ", b"SETTINGS a = 1 ", "CSV", b"\n1"),
        (b"-- note\nINSERT INTO FUNCTION null('a Int') FORMAT CSV\n1", b"-- note\nINSERT INTO FUNCTION null('a Int') ", b"", "CSV", b"1"),
        (b"INSERT INTO `x FORMAT CSV` FORMAT TSV\n1", b"INSERT INTO `x FORMAT CSV` ", b"", "TSV", b"1"),
    ],
)
def test_an_inserts_data_begins_after_its_format(text: bytes, head: bytes, settings: bytes, format_name: str, data: bytes) -> None:
    """The rows are what follows the format's name and one end of line."""
    statement = parse(text)
    assert isinstance(statement, Insert)
    assert (statement.head, statement.settings, statement.format, text[statement.data_at :]) == (head, settings, format_name, data)


@pytest.mark.parametrize("text", [b"INSERT INTO t VALUES (1, 'a FORMAT CSV')", b"INSERT INTO t SELECT 1", b"INSERT INTO t WITH 1 AS x SELECT x"])
def test_an_insert_without_a_format_is_a_text(text: bytes) -> None:
    """VALUES and SELECT are the engine's to parse."""
    assert parse(text) == Other(text, marks_session=False)


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        (b"CREATE TABLE t (a Int)", False),
        (b"SET max_threads = 1", True),
        (b"USE x", True),
        (b"CREATE TEMPORARY TABLE t (a Int)", True),
        (b"CREATE OR REPLACE TEMPORARY TABLE t (a Int)", True),
        (b"", False),
        (b"\xff\xfe", False),
    ],
)
def test_a_statement_that_changes_its_connection_is_known(text: bytes, marks: bool) -> None:
    """SET, USE and temporary tables must not outlive their request."""
    assert parse(text) == Other(text, marks_session=marks)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"SELECT 1; SELECT 2", 62),
        (b"SELECT 1 INTO OUTFILE '/tmp/x'", 48),
        (b"SELECT 1 into /**/ outfile '/tmp/x' FORMAT CSV", 48),
        (b"INSERT INTO t FROM INFILE '/etc/passwd' FORMAT CSV", 48),
    ],
)
def test_what_would_escape_the_request_is_refused(text: bytes, code: int) -> None:
    """Neither a second statement nor a file of the server's can ride along."""
    statement = parse(text)
    assert isinstance(statement, Refused)
    assert statement.code == code


@given(st.binary(max_size=200))
def test_any_bytes_are_some_statement(text: bytes) -> None:
    """Nonsense never raises; judging it is the engine's business."""
    parse(text)
    parse(b"SELECT " + text)
    parse(b"INSERT INTO t FORMAT CSV\n" + text)
