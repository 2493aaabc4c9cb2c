"""Addresses as they may be written down and shown: without user names, passwords, and queries that may be keys. Pure."""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, quote

from runstream import _secrets

# `user:pass/word@` too, but not the colon of a port.
_USERINFO = re.compile(r"(?<=://)(?:[^/?#\s@:]*:(?!\d+/)[^\s@]*@|[^/?#\s]*@)")
# Of a query only what names content is kept: signed addresses have their keys there, under more names than anybody can list.
_KEPT = frozenset({"version", "versionid", "generation", "revision", "rev", "ref", "id", "v", "snapshot", "path", "file", "name"})
_QUERY = re.compile(r"\?([^#\s'\"]*)")


def public(uri: str) -> str:
    """The address without credentials."""
    return _secrets.in_text(_QUERY.sub(_public_query, _USERINFO.sub("", uri)))


def _public_query(found: re.Match[str]) -> str:
    pairs = parse_qsl(found[1], keep_blank_values=True)
    if not pairs and found[1]:
        return f"?{_secrets.HIDDEN}"
    return "?" + "&".join(f"{quote(name)}={quote(value, safe='/:') if name.lower() in _KEPT else _secrets.HIDDEN}" for name, value in pairs)


def in_message(text: str) -> str:
    """What a library says, as it may be shown: addresses in it have no credentials, and one line is enough."""
    return public(text.partition("\n")[0])[:300]
