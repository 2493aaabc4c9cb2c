"""The signature of a webhook: HMAC-SHA256 over a time and the body, so that a receiver knows who sent it, that nothing was changed, and that it is not an old one played again.

The header is `Runstream-Signature: t=SECONDS,v1=HEX`, with HEX over the bytes `SECONDS.BODY`. docs/notify.md shows how to check it in a few lines.
"""

from __future__ import annotations

import hashlib
import hmac

HEADER = "Runstream-Signature"
TOLERANCE_S = 300


def sign(secret: bytes, body: bytes, now_s: int) -> str:
    """The header's value."""
    return f"t={now_s},v1={_digest(secret, body, now_s)}"


def is_genuine(secret: bytes, body: bytes, header: str, now_s: float, tolerance_s: float = TOLERANCE_S) -> bool:
    """Whether a body was signed with the secret, no longer ago than the tolerance (nor that far in the future)."""
    parts = {name.strip(): value.strip() for name, _, value in (part.partition("=") for part in header.split(","))}
    try:
        signed_s = int(parts.get("t", ""))
    except ValueError:
        return False
    given = parts.get("v1", "").encode("utf-8", "replace")
    return abs(now_s - signed_s) <= tolerance_s and hmac.compare_digest(given, _digest(secret, body, signed_s).encode())


def _digest(secret: bytes, body: bytes, now_s: int) -> str:
    return hmac.new(secret, f"{now_s}.".encode() + body, hashlib.sha256).hexdigest()
