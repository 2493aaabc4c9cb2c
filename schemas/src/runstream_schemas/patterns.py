"""Metric names with `*` and `?`: what they match. The standard library alone, since training code asks."""

from __future__ import annotations

import re


def pattern(metric: str) -> re.Pattern[str]:
    """A metric name with `*` for any text and `?` for any one character; every other character stands for itself, case included.

    Matching takes time in proportion to the name, whatever the pattern: each piece between two stars is taken at its first place and never given back (an atomic group),
    since a later place could not make the rest match where the first one does not.
    """
    first, *pieces = ["".join("." if one == "?" else re.escape(one) for one in piece) for piece in metric.split("*")]
    if not pieces:
        return re.compile(first, re.DOTALL)
    *middle, last = pieces
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle if piece) + ".*" + last, re.DOTALL)


def is_pattern(metric: str) -> bool:
    """Whether a text means more than itself."""
    return "*" in metric or "?" in metric
