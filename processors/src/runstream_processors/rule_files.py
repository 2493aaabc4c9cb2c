"""Rule files as commands are given them: their texts, and the ready-made one that the rules' package brings."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from runstream_schemas.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

_BYTES_MAX = 8 << 20


def texts_of(names: Iterable[str]) -> list[tuple[str, str]]:
    """Names and texts of files; `-` is standard input. Raises SettingsError for a file that cannot be read."""
    out: list[tuple[str, str]] = []
    for name in names:
        try:
            raw = sys.stdin.buffer.read(_BYTES_MAX + 1) if name == "-" else _bytes_of(Path(name))
            out.append((name, raw.decode("utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"the rule file {name} cannot be read: {error}") from error
        if len(raw) > _BYTES_MAX:
            raise SettingsError(f"the rule file {name} has more than {_BYTES_MAX >> 20} MiB: it is none")
    return out


def _bytes_of(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_BYTES_MAX + 1)


def looks_like_file(target: str) -> bool:
    """Whether a target is meant as a file: it is one, or is called like one; ids have no slash and seldom such an end."""
    return target == "-" or "/" in target or target.endswith((".yaml", ".yml")) or Path(target).is_file()


def ready_made() -> tuple[str, str]:
    """The ready-made rules, as `texts_of` gives files."""
    return "ready-made", files("runstream_rules").joinpath("ready_made.yaml").read_text(encoding="utf-8")
