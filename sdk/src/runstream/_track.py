"""`@runstream.track`: a run around each call of a function."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from runstream_producers.journal import values as val

if TYPE_CHECKING:
    from collections.abc import Callable

R = TypeVar("R")


def track(project: str, name: str | None = None, **options: Any) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Makes each call of a function a run, which ends with it: finished if it returns, failed with the reason if it raises.

    Args:
        project: the project of its runs.
        name: their name; the function's if None.
        options: whatever else `runstream.init` takes.

    Raises:
        TypeError: where it decorates without a project, as in `@runstream.track` alone.

    Returns:
        A decorator. A function with an argument `run` is given the run there, unless the caller gives it one.

    Example:
        >>> @runstream.track(project="digits")
        ... def train(lr, run):
        ...     run.log({"loss": 0.5}, step=1)
        ...     return lr
        >>> train(0.1)
        0.1
    """

    if not isinstance(project, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # what callers do
        raise TypeError(f"runstream.track needs the project of its runs, as in @runstream.track(project='digits'), got {val.shown(project)}")

    def decorate(function: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(function)
        takes_run = "run" in signature.parameters

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> R:
            from runstream._init import init

            with init(project, name or function.__name__, **options) as run:
                given = not takes_run or "run" in signature.bind_partial(*args, **kwargs).arguments
                return function(*args, **(kwargs if given else kwargs | {"run": run}))

        return call

    return decorate
