"""What comes of one try to send a message. Reasons are sentences of ours, chosen from a short list: never what a server, a library or an address said, since that may hold secrets."""

from __future__ import annotations

import email.utils
import math
from dataclasses import dataclass

# Of the answers from 400 on, those that say "not now"; every other answer below 500 says "never".
_PASSING = frozenset({408, 423, 425, 429})
_AFTER_MAX_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The channel took the message."""


@dataclass(frozen=True, slots=True)
class Again:
    """It did not, and may later; `after_s` is how long it asked to be left alone."""

    reason: str
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """It did not, and trying again will not help."""

    reason: str


Outcome = Accepted | Again | Refused


def of_status(status: int, retry_after: str | None = None, now_s: float = 0.0) -> Outcome:
    """What an HTTP answer means; `retry_after` is the header of that name, `now_s` the epoch time that a date in it counts from."""
    if 200 <= status < 300:
        return Accepted()
    if status >= 500 or status in _PASSING:
        return Again(f"it answered {status}", after_of(retry_after, now_s))
    if 300 <= status < 400:
        return Refused(f"it answered {status}, and redirects are not followed: set the address it points to")
    return Refused(f"it answered {status}")


def after_of(retry_after: str | None, now_s: float) -> float:
    """Seconds that a Retry-After header asks for, at most a day; 0 where there is none that can be read."""
    text = (retry_after or "").strip()
    if not text:
        return 0.0
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - now_s
        except (ValueError, OverflowError):
            return 0.0
    return min(max(seconds, 0.0), _AFTER_MAX_S) if math.isfinite(seconds) else 0.0


def backoff_s(tries: int, luck: float) -> float:
    """Seconds before the next try after so many: doubling from half a second to half a minute, less up to a half of it; `luck` is from 0 to 1."""
    return min(30.0, 0.5 * 2.0 ** min(tries - 1, 10)) * (1.0 - luck / 2.0)
