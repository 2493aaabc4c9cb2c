"""What is checked of arguments at the edge: each complaint names the call and the argument, what was expected and what came. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from collections.abc import Callable

    Report = Callable[[str, str], None]


def name_of(call: str, argument: str, value: Any, report: Report) -> str:
    """The text of an argument that names something; empty, which is told, where there is none. What is no text is told and taken as its text."""
    if isinstance(value, str) and value:
        return val.text_of(value)
    if value is None or value == "":
        report(f"{call}:{argument}", f"{argument} of {call} must be a text that is not empty, got {val.shown(value)}: nothing was recorded")
        return ""
    text = val.text_of(value)
    report(f"{call}:{argument}", f"{argument} of {call} must be a text, got {val.told(value)}: it was taken as {val.shown(text)}")
    return text


def one_of(call: str, argument: str, value: Any, wanted: tuple[str, ...], report: Report) -> str:
    """The argument, if it is one of these; empty, which is told, where it is not."""
    if value in wanted:
        return str(value)
    report(f"{call}:{argument}", f"{argument} of {call} must be one of {', '.join(wanted)}, got {val.shown(value)}: nothing was recorded")
    return ""
