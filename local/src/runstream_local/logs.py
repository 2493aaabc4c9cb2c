"""Owns the reading of the parts' logs for people: their last lines."""

from __future__ import annotations

from pathlib import Path

__all__ = ["last_line", "log_tail"]

_TAIL_BYTES = 8192
_LINE_CHARACTERS_MAX = 300


def log_tail(data: Path, name: str, *, lines: int = 5) -> str:
    """Returns the last lines of a part's log, or a word that there are none."""
    path = data / "logs" / f"{name}.log"
    return "\n".join(_lines(path)[-lines:]) or f"(nothing in {path})"


def last_line(path: Path) -> str:
    """Returns the last line of a log, cut where it is long; nothing where there is none."""
    return next(reversed(_lines(path)), "").strip()[:_LINE_CHARACTERS_MAX]


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return []
