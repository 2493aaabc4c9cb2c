"""The ClickHouse clients that the tests of this folder share: clickhouse-connect, and bare HTTP as a script would do it."""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import clickhouse_connect

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clickhouse_connect.driver.client import Client

__all__ = ["Answer", "connect", "post"]


def connect(url: str, *, database: str = "default", **options: Any) -> Client:
    """Returns a clickhouse-connect client of the server at `url`."""
    parts = urlsplit(url)
    return clickhouse_connect.get_client(  # pyright: ignore[reportUnknownMemberType]  # its own **kwargs have no type
        host=parts.hostname, port=parts.port or 8123, database=database, **options
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP: status, text, headers."""

    status: int
    text: str
    headers: Mapping[str, str]


def post(url: str, body: bytes | str, *, headers: Mapping[str, str] | None = None, **parameters: str) -> Answer:
    """Sends one statement as a plain HTTP client does, and returns the answer whatever its status."""
    data = body.encode() if isinstance(body, str) else body
    request = urllib.request.Request(f"{url}/?{urllib.parse.urlencode(parameters)}", data=data, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, answer.read().decode(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read().decode(), dict(error.headers))
