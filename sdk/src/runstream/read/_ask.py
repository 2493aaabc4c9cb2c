"""Questions to ClickHouse: where it is, how parameters are written, and rows as plain values."""

from __future__ import annotations

import datetime as dt
import enum
import json
from collections.abc import Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

from runstream.sql import SqlError, open_answer
from runstream_producers.journal import values as val
from runstream_producers.journal.values import shown
from runstream_schemas.settings import load, origin_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

# 64-bit integers as numbers, and NaN and infinities as their names, which `float` reads.
_JSON = {"output_format_json_quote_64bit_integers": "0", "output_format_json_quote_denormals": "1"}

_NOBODY = 516  # ClickHouse's code for a name or password that is wrong.


class ReadError(Exception):
    """What was asked for could not be read: no ClickHouse is named, none answers, it refused the question, or no such run is there.

    Attributes:
        code: ClickHouse's error code, 0 where it said nothing.
    """

    def __init__(self, message: str, *, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


class Store:
    """One database on one server. Raises ReadError where none is named."""

    def __init__(self, url: str | None, database: str | None) -> None:
        settings = load({"clickhouse_url": url, "clickhouse_database": database})
        if url is None and settings.read_url is None and origin_of("clickhouse_url") == "default":
            raise ReadError("no ClickHouse is named to read from: set RUNSTREAM_CLICKHOUSE_URL, pass url=, or start a stack with `runstream up`")
        self._url = settings.reading_url
        self._database = settings.clickhouse_database

    @contextmanager
    def stream(self, sql: str, parameters: Mapping[str, object], answer_format: str, settings: Mapping[str, str] | None = None) -> Generator[BinaryIO]:
        """The answer as it comes, in one of ClickHouse's formats; raises ReadError."""
        asked = {f"param_{name}": _text(value) for name, value in parameters.items()} | dict(settings or {})
        try:
            with open_answer(self._url, sql, database=self._database, answer_format=answer_format, settings=asked) as answer:
                yield answer
        except SqlError as error:
            hint = "; RUNSTREAM_ANALYST_PASSWORD has the password of the user that RUNSTREAM_READ_URL names" if error.code == _NOBODY else ""
            raise ReadError(f"{error}{hint}", code=error.code) from error

    def rows(self, sql: str, **parameters: object) -> list[dict[str, Any]]:
        """The rows of an answer by column; raises ReadError."""
        with self.stream(sql, parameters, "JSONEachRow", _JSON) as answer:
            return [json.loads(line) for line in answer]


def _text(value: object) -> str:
    """A parameter as ClickHouse reads it: texts with its escapes, lists in brackets."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_quoted(str(one)) for one in value)}]"  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    return str(value).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def text_of(argument: str, value: Any) -> str | None:
    """An argument that is a text or left out; raises ReadError for anything else."""
    if value is None or isinstance(value, str):
        return value
    raise ReadError(f"{argument} must be a text, got {shown(value)}")


def context_of(value: Any) -> str | None:
    """A context as it is stored; raises ReadError for what is neither a text nor a member of an Enum."""
    return val.context_of(value) if isinstance(value, enum.Enum) else text_of("context", value)


def count_of(argument: str, value: Any) -> int | None:
    """An argument that is an integer from 0, or left out; raises ReadError for anything else."""
    number = None if isinstance(value, bool) else val.step_of(value)
    if value is not None and (number is None or number < 0):
        raise ReadError(f"{argument} must be an integer from 0, got {shown(value)}")
    return number


def one_of(argument: str, value: Any, known: Sequence[str]) -> str | None:
    """An argument that is one of some words, or left out; raises ReadError for anything else."""
    if value is None or (isinstance(value, str) and value in known):
        return value
    raise ReadError(f"{argument} must be one of {', '.join(known)}, got {shown(value)}")


def wanted(names: str | Sequence[str] | None) -> tuple[str, dict[str, object]]:
    """The condition on `name` for names or patterns with * and ?, and its parameters; nothing for None."""
    if names is None:
        return "", {}
    asked: list[Any] = [names] if isinstance(names, str) else list(names) if isinstance(names, Iterable) else [names]  # pyright: ignore[reportUnnecessaryIsInstance]  # what callers do
    for one in asked:
        if not isinstance(one, str):
            raise ReadError(f"names must be a text or a list of texts, got {shown(names)}")
    if any("*" in one or "?" in one for one in asked):
        return " AND arrayExists(one -> name LIKE one, {names:Array(String)})", {"names": [_like(one) for one in asked]}
    return " AND name IN {names:Array(String)}", {"names": asked}


def _like(pattern: str) -> str:
    for plain, escaped in (("\\", "\\\\"), ("%", "\\%"), ("_", "\\_"), ("*", "%"), ("?", "_")):
        pattern = pattern.replace(plain, escaped)
    return pattern


def moment(ms: int) -> dt.datetime:
    """Epoch milliseconds as a datetime in UTC."""
    return dt.datetime.fromtimestamp(ms / 1000.0, dt.UTC)


def told(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Metadata with its values as they were given."""
    return {key: parsed(text) for key, text in metadata.items()}


def parsed(text: str) -> Any:
    """A value of JSON text; the text itself where it is none, or nests deeper than Python follows."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
