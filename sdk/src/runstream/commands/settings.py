"""Lists every setting: its environment variable, value, and what it means.

Settings come in one order: argument, environment, settings file, the embedded stack that runs on the home folder, default.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from runstream_schemas.settings import PREFIX, SECRET, Settings, load

if TYPE_CHECKING:
    import argparse

SUMMARY = "list every setting with its value and meaning"
_ADDRESSES = ("clickhouse_url", "read_url")  # Hidden where they have a user.


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the settings as this process would use them; those that may carry passwords only say whether they differ from the default."""
    settings = load()
    default = Settings.model_fields
    values: dict[str, str] = {}
    for name in default:
        value = getattr(settings, name)
        hidden = name in SECRET and value != default[name].get_default() and "@" in str(value) + "@" * (name not in _ADDRESSES)
        values[name] = "(set)" if hidden else str(value)
    if args.json:
        sys.stdout.write(json.dumps(values) + "\n")
        return 0
    for name, value in values.items():
        sys.stdout.write(f"{PREFIX + name.upper():34} {value}\n{'':34} {default[name].description}\n")
    return 0
