"""Owns the meaning of an HTTP request to ClickHouse: which of its parameters are the query, its parameters, settings, or of no use here."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from runstream_local.clickhouse.failures import QueryError

__all__ = ["Request", "is_own_page", "read_parameters"]

_NAME = re.compile(r"[A-Za-z_]\w*\Z")

# What a ClickHouse server's HTTP layer consumes itself; the engine knows none of them.
_TRANSPORT = frozenset(
    {
        "buffer_size",
        "client_protocol_version",
        "close_session",
        "decompress",
        "enable_http_compression",
        "http_zlib_compression_level",
        "password",
        "query_id",
        "quota_key",
        "role",
        "session_check",
        "session_id",
        "session_timeout",
        "stacktrace",
        "user",
        "wait_end_of_query",
    }
)

_LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]", ""})


@dataclass(frozen=True, slots=True)
class Request:
    """One request's parameters: SQL from the URL, database, format where the SQL names none, query parameters, settings."""

    query: str = ""
    database: str = "default"
    default_format: str = "TabSeparated"
    parameters: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str], ...] = ()
    query_id: str = ""
    user: str = ""
    password: str = ""


def read_parameters(query_string: str, headers: Mapping[str, str], fields: Sequence[tuple[str, str]] = ()) -> Request:
    """Sorts a request's URL parameters, headers and form fields; a later value wins over an earlier one.

    Raises:
        QueryError: a name cannot be a setting's, or something is asked for that this server cannot do.
    """
    user, password = _credentials(headers)
    values = {
        "user": user,
        "password": password,
        "database": headers.get("X-ClickHouse-Database") or "default",
        "default_format": headers.get("X-ClickHouse-Format") or "TabSeparated",
        **dict(parse_qsl(query_string, keep_blank_values=True)),
        **dict(fields),
    }
    if values.pop("compress", "0") not in ("0", "false"):
        raise QueryError.of(48, "ClickHouse's own compression (compress=1) is not supported by the embedded server: turn it off in the client")
    parameters = tuple(sorted((name.removeprefix("param_"), value) for name, value in values.items() if name.startswith("param_")))
    known = {"query", "database", "default_format"}
    settings = tuple(sorted((name, value) for name, value in values.items() if name not in known | _TRANSPORT and not name.startswith("param_")))
    for name, _ in settings:
        if not _NAME.match(name):
            raise QueryError.of(115, f"Unknown setting '{name}'")
    return Request(
        query=values.get("query", ""),
        database=values["database"] or "default",
        default_format=values["default_format"],
        parameters=parameters,
        settings=settings,
        query_id=values.get("query_id", ""),
        user=values["user"],
        password=values["password"],
    )


def _credentials(headers: Mapping[str, str]) -> tuple[str, str]:
    """Name and password as the headers have them, in ClickHouse's own or by basic authentication; empty where they say nothing."""
    kind, _, code = headers.get("Authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            name, _, password = base64.b64decode(code, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            raise QueryError.of(516, "Invalid HTTP header Authorization: it is no basic authentication") from None
        return name, password
    return headers.get("X-ClickHouse-User", ""), headers.get("X-ClickHouse-Key", "")


def is_own_page(headers: Mapping[str, str]) -> bool:
    """Says whether a request may be served: it names this machine as its host and was not sent by another site's web page.

    The engine needs no password and can read this user's files, so a web page must reach it neither by a form nor by a name that it points
    at 127.0.0.1. Programs send neither header and are not concerned.
    """
    host = headers.get("Host", "").strip().lower()
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if name not in _LOOPBACK_NAMES:
        return False
    origin = headers.get("Origin", "")
    if origin and origin.partition("://")[2].lower() != host:
        return False
    return headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")
