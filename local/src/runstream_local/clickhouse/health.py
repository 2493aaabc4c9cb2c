"""Owns the question whether a ClickHouse server answers, embedded or not."""

from __future__ import annotations

import http.client
from urllib.parse import urlsplit

__all__ = ["is_serving"]


def is_serving(url: str, *, timeout_s: float = 2.0) -> bool:
    """Says whether the HTTP interface at `url` answers /ping as ClickHouse does; never raises."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    try:
        connection = kind(parts.hostname or "", parts.port, timeout=timeout_s)
    except ValueError:  # a port that is no number
        return False
    try:
        connection.request("GET", "/ping")
        answer = connection.getresponse()
        return answer.status == http.client.OK and answer.read(16).strip() == b"Ok."
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()
