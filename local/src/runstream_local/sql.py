"""Asks ClickHouse over HTTP, with the SDK's client; what goes wrong comes as this package's own error."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from runstream import sql as client
from runstream_local.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["ask", "open_answer"]


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
    """Runs one statement and yields its answer as a stream; see `runstream.sql.open_answer`. Raises SqlError of this package."""
    try:
        with client.open_answer(url, sql, database=database, answer_format=answer_format, settings=settings, timeout_s=timeout_s) as answer:
            yield answer
    except client.SqlError as error:
        raise SqlError(str(error), code=error.code) from error


def ask(url: str, sql: str, *, database: str = "default", answer_format: str = "TabSeparated", timeout_s: float = 300.0) -> bytes:
    """Runs one statement and returns its whole answer; see `open_answer`."""
    with open_answer(url, sql, database=database, answer_format=answer_format, timeout_s=timeout_s) as answer:
        return answer.read()
