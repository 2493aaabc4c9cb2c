"""A rate as a bucket of tokens: it holds `burst` and fills at a steady rate. Pure; `now` is seconds of any steady clock."""

from __future__ import annotations


class Bucket:
    """Full at the start."""

    def __init__(self, per_minute: float, burst: int, now: float) -> None:
        self._rate = per_minute / 60.0
        self._burst = float(burst)
        self._tokens = float(burst)
        self._at = now

    def wait_s(self, now: float) -> float:
        """Seconds until a token is there; 0 if one is."""
        self._fill(now)
        return max(0.0, (1.0 - self._tokens) / self._rate)

    def take(self, now: float) -> bool:
        """Takes a token if one is there."""
        self._fill(now)
        # What is waited for is there when the wait is over, whatever rounding says.
        if self._tokens < 1.0 - 1e-9:
            return False
        self._tokens = max(0.0, self._tokens - 1.0)
        return True

    def is_last(self, now: float) -> bool:
        """Whether no second token is there."""
        self._fill(now)
        return self._tokens < 2.0 - 1e-9

    def _fill(self, now: float) -> None:
        # A clock that stands still or goes back fills nothing.
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
            self._at = now
