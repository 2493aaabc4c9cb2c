"""Asks ClickHouse over HTTP with the standard library alone: any ClickHouse, embedded or not. For those who read; sinks have a client of their own.

It hands bytes through as they come, in the format that was asked for; what they mean is the caller's business.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, cast
from urllib.parse import quote, unquote, urlencode, urlsplit

_NOISE = re.compile(r"^Code: \d+\. DB::Exception: |\s*\(version [^)]*(?:\([^)]*\))*[^)]*\)\s*$")


class SqlError(Exception):
    """ClickHouse refused a statement or did not answer.

    Attributes:
        code: ClickHouse's error code, 0 where no answer came.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def open_answer(
    url: str,
    sql: str,
    *,
    database: str = "default",
    answer_format: str = "TabSeparated",
    settings: Mapping[str, str] | None = None,
    timeout_s: float = 300.0,
) -> Generator[BinaryIO]:
    """Runs one statement and yields its answer as a stream, in `answer_format` unless the statement has a FORMAT of its own.

    Args:
        url: ClickHouse's HTTP address; a user and password in it are used.
        sql: the statement.
        database: where unqualified names are looked up.
        answer_format: one of ClickHouse's formats.
        settings: ClickHouse settings and `param_NAME` values for this statement.
        timeout_s: how long the server may be silent.

    Raises:
        SqlError: the server refused the statement (with its code) or does not answer (code 0).
    """
    import http.client  # Here, since it brings ssl and email, which whoever never asks need not wait for.

    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    query = urlencode({"database": database, "default_format": answer_format, "wait_end_of_query": "1", **(settings or {})}, quote_via=quote)
    headers = {"Content-Type": "text/plain; charset=utf-8"}
    if parts.username:
        headers["X-ClickHouse-User"] = unquote(parts.username)
        headers["X-ClickHouse-Key"] = unquote(parts.password or "")
    connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        try:
            connection.request("POST", f"{parts.path or '/'}?{query}", body=sql.encode(), headers=headers)
            answer = connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise SqlError(f"ClickHouse at {_without_password(url)} does not answer: {error}") from error
        if answer.status != http.client.OK:
            text = answer.read().decode(errors="replace")
            code = answer.headers.get("X-ClickHouse-Exception-Code", "0")
            raise SqlError(_readable(text) or f"HTTP status {answer.status}", code=int(code) if code.isdecimal() else 0)
        yield cast("BinaryIO", answer)
    finally:
        connection.close()


def literal(text: str) -> str:
    """A text as SQL has it, for lists that are too long to be parameters."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def ask(url: str, sql: str, *, database: str = "default", answer_format: str = "TabSeparated", timeout_s: float = 300.0) -> bytes:
    """Runs one statement and returns its whole answer; see `open_answer`."""
    with open_answer(url, sql, database=database, answer_format=answer_format, timeout_s=timeout_s) as answer:
        return answer.read()


def _readable(text: str) -> str:
    """Drops the code and version around ClickHouse's message; the name in capitals at its end stays."""
    return _NOISE.sub("", _NOISE.sub("", text.strip()))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
