"""How artifacts are named in calls: by id, or a version of a model by its name and number. Pure."""

from __future__ import annotations

import re
import uuid

_VERSION = re.compile(r"(?P<name>[^:/\\][^:\\]*):(?P<number>latest|\d{1,18})")


def is_named(text: str) -> bool:
    """Whether it is the id of an artifact or a version of a model, and no address."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return version_of(text) is not None


def version_of(text: str) -> tuple[str, int | None] | None:
    """The name and number of a model's version, as `net:3` or `net:latest`, whose number is None; None for other texts."""
    found = _VERSION.fullmatch(text)
    return None if found is None else (found["name"], None if found["number"] == "latest" else int(found["number"]))
