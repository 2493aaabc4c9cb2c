"""A bar on standard error for transfers that take a while."""

from __future__ import annotations

import sys
import time as clock

_LARGE_BYTES = 64 << 20
_EVERY_S = 0.1
_WIDTH = 30
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Bar:
    """How far a transfer is. Draws where it is asked to; if None is, for large transfers on a terminal."""

    def __init__(self, what: str, total: int, wanted: bool | None) -> None:
        self._what = what
        self._total = total
        self._done = 0
        self._drawn_at = 0.0
        self._began = clock.monotonic()
        self._draws = sys.stderr is not None and (wanted if wanted is not None else total >= _LARGE_BYTES and sys.stderr.isatty())

    def __call__(self, size: int) -> None:
        """So many bytes more are done."""
        self._done += size
        now = clock.monotonic()
        if self._draws and now - self._drawn_at >= _EVERY_S:
            self._drawn_at = now
            self._draw(now)

    def end(self) -> None:
        """Leaves the last state on a line of its own."""
        if self._draws:
            self._draw(clock.monotonic())
            sys.stderr.write("\n")

    def _draw(self, now: float) -> None:
        share = min(1.0, self._done / self._total) if self._total else 1.0
        full = round(share * _WIDTH)
        rate = shown_bytes(round(self._done / max(now - self._began, 1e-3)))
        sys.stderr.write(
            f"\r\x1b[K{self._what}  [{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%}  {shown_bytes(self._done)} of {shown_bytes(self._total)}, {rate}/s"
        )
        sys.stderr.flush()


def shown_bytes(size: int) -> str:
    """A size for people."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"
