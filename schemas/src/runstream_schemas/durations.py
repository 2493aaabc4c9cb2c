"""Durations as people write them: seconds, or a number with its unit."""

from __future__ import annotations

import math
import re

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_FORM = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")
FORMS = "seconds, or a number with ms, s, m, h or d behind it, such as 30s or 2h"


def seconds_of(given: object) -> float | None:
    """The seconds of a number of seconds, or of a text such as `30s`; None for what is neither, negative or not finite."""
    if isinstance(given, str):
        found = _FORM.fullmatch(given.strip())
        return None if found is None else float(found[1]) * _UNITS_S[found[2] or "s"]
    if isinstance(given, bool) or not isinstance(given, int | float):
        return None
    try:
        seconds = float(given)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0.0 else None
