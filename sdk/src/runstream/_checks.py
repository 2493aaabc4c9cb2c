"""What is checked of arguments at the edge: each complaint names the call and the argument, what was expected and what came. `guarded` keeps what is ours to fail out of training.

What is no text is told and taken as its text, so that the rest of a call is kept; what is too long to be a name is told with its size and refused.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from runstream_producers.errors import StrictError
from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from runstream._rows import Reporter

    Report = Callable[[str, str], None]

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Reports")

NAME_CHARACTERS_MAX = val.NAME_CHARACTERS_MAX


class Reports:
    """What has a reporter."""

    _report: Reporter


def guarded(fallback: R, named: str = "") -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Tells, with `fallback` for an answer, what a call of a run raises besides StrictError: training must not end by what it is given, such as a mapping that raises."""

    def decorate(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        @functools.wraps(function)
        def call(self: S, *args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(self, *args, **kwargs)
            except StrictError:
                raise
            except Exception as error:
                if val.from_signal(error):
                    raise
                name = named or function.__name__
                self._report(
                    f"{name}:{type(error).__name__}",
                    f"a call of {name} was not recorded, since what it was given cannot be read: {type(error).__name__}: {val.said(error)}",
                )
                return fallback

        return call

    return decorate


def safe_text(value: Any) -> str:
    """The value as a text; its type where it has none, since what an object's own code raises is no reason to end a training."""
    text = readable(value)
    return val.told(value) if text is None else text


def readable(value: Any) -> str | None:
    """The value as a text; None where it has none."""
    try:
        return val.text_of(value)
    except Exception as error:
        if val.from_signal(error):
            raise
        return None


def name_of(call: str, argument: str, value: Any, report: Report) -> str:
    """The text of an argument that names something; empty, which is told, where there is none or it is too long."""
    if value is None or (isinstance(value, str) and not value):
        report(f"{call}:{argument}:empty", f"{argument} of {call} must be a text that is not empty, got {val.shown(value)}: nothing was recorded")
        return ""
    text = text_of(call, argument, value, report)
    return text if fits(call, argument, text, report) else ""


def fits(call: str, argument: str, text: str, report: Report) -> bool:
    """Whether a text is short enough for a name; told with its size where it is not."""
    if len(text) <= NAME_CHARACTERS_MAX:
        return True
    report(
        f"{call}:{argument}:long",
        f"{argument} of {call} must be a text of at most {NAME_CHARACTERS_MAX} characters, got {len(text)}, {val.shown(text[:60])}…: nothing was recorded",
    )
    return False


def text_of(call: str, argument: str, value: Any, report: Report) -> str:
    """The text of an argument that may be left out; what is no text is told and taken as its text."""
    if value is None:
        return ""
    text = safe_text(value)
    if not isinstance(value, str):
        report(f"{call}:{argument}", f"{argument} of {call} must be a text, got {val.told(value)}: it was taken as {val.shown(text)}")
    return text


def step_of(call: str, value: Any, report: Report) -> int | None:
    """A step that may be left out; what is none is told and left out."""
    number = None if value is None or isinstance(value, bool) else val.step_of(value)
    if value is not None and number is None:
        report(f"{call}:step", f"step of {call} must be an integer of at most 64 bits, got {val.shown(value)}: it was kept without one")
    return number


def context_of(call: str, value: Any, report: Report) -> str:
    """The text of a context; what is neither a text nor a member of an Enum is told and taken as its text."""
    if not isinstance(value, str | enum.Enum | None):
        report(f"{call}:context", f"context of {call} must be a text or a member of an Enum, got {val.told(value)}: it was taken as {val.shown(str(value))}")
    return val.context_of(value)


def texts_of(call: str, argument: str, value: Any, report: Report) -> list[str]:
    """The texts of a list; one text is a list of it. What is no list is told and left out."""
    if value is None or isinstance(value, str):
        return [val.text_of(value)] if value else []
    if not isinstance(value, Sequence | set | frozenset):
        report(f"{call}:{argument}", f"{argument} of {call} must be a list of texts, got {val.told(value)}: it was left out")
        return []
    return [text_of(call, f"each of {argument}", one, report) for one in cast("Sequence[Any]", value)]


def labels_of(call: str, value: Any, report: Report) -> dict[str, str]:
    """Names with their texts. What is no mapping is told and left out."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        report(f"{call}:labels", f"labels of {call} must be a mapping of texts, got {val.told(value)}: they were left out")
        return {}
    given = cast("Mapping[Any, Any]", value).items()
    return {text_of(call, "each name of labels", name, report): text_of(call, "each text of labels", text, report) for name, text in given}


def one_of(call: str, argument: str, value: Any, wanted: tuple[str, ...], report: Report) -> str:
    """The argument, if it is one of these; empty, which is told, where it is not."""
    if isinstance(value, str) and value in wanted:
        return str(value)
    report(f"{call}:{argument}", f"{argument} of {call} must be one of {', '.join(wanted)}, got {val.shown(value)}: nothing was recorded")
    return ""
