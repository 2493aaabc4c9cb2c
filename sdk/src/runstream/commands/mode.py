"""Tells or sets in which mode runs begin: `online` ships while training goes on, `offline` keeps everything on disk for `runstream sync`.

What is set here is this user's default, kept in the settings file; an argument of `init` and RUNSTREAM_MODE go before it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import tomllib
from typing import TYPE_CHECKING

from runstream_schemas.settings import PREFIX, SettingsError, load, origin_of, settings_file

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

SUMMARY = "tell or set whether runs are shipped at once or kept for sync"

_LINE = re.compile(r"^[ \t]*(?:mode|\"mode\"|'mode')[ \t]*=.*$", re.MULTILINE)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("mode", nargs="?", choices=("online", "offline"), help="the mode to set; without it the command tells what holds")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Sets the mode or tells it.

    Raises:
        SettingsError: the settings file cannot be read or written.
    """
    path = settings_file()
    if args.mode is not None:
        _write(path, args.mode)
    holds, origin = load().mode, origin_of("mode")
    where = f"{PREFIX}MODE in the environment" if origin == "environment" else origin
    if args.json:
        sys.stdout.write(json.dumps({"mode": holds, "from": where, "file": str(path)}) + "\n")
        return 0
    if args.mode is not None:
        sys.stdout.write(f"{path} says mode = {args.mode} now\n")
    if args.mode != holds:
        sys.stdout.write(f"runs begin in mode {holds} (from {where})\n")
    return 0


def _write(path: Path, mode: str) -> None:
    """Puts the mode into a settings file and keeps everything else in it as it stands."""
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        after = with_mode(before, mode)
        if after is None:
            raise SettingsError(f"the settings file {path} is laid out so that its mode cannot be changed safely: write mode = {mode!r} into it by hand")
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            part.write_text(after, encoding="utf-8")
            if path.exists():
                part.chmod(path.stat().st_mode & 0o777)  # It may hold passwords that nobody else may read.
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"the settings file {path} cannot be written: {error}") from error


def with_mode(text: str, mode: str) -> str | None:
    """The text of a settings file with another mode and everything else as it was; None where that cannot be done for sure."""
    wanted = tomllib.loads(text) | {"mode": mode}
    line = f'mode = "{mode}"'
    candidates = [text[: found.start()] + line + text[found.end() :] for found in _LINE.finditer(text)]
    candidates.append(f"{line}\n{text}")
    for candidate in candidates:
        with contextlib.suppress(tomllib.TOMLDecodeError):
            if tomllib.loads(candidate) == wanted:
                return candidate
    return None
