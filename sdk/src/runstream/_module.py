"""Module-level calls for scripts that have one run: they go to the run that `init` began last in this process."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

from runstream._types import Finished
from runstream_producers.errors import StrictError
from runstream_producers.journal.compilers import untraced
from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from runstream._run import Run
    from runstream._types import Event

_log = logging.getLogger("runstream")


class _Current:
    run: Run | None = None
    told: ClassVar[set[str]] = set()


def hold(run: Run | None) -> None:
    """Makes a run the one that module-level calls go to."""
    _Current.run = run


def current() -> Run | None:
    """The run that module-level calls go to, if any."""
    return _Current.run


def called_on(call: str) -> Run | None:
    """The current run, for a call of this name; where there is none, that is told."""
    if _Current.run is None and call not in _Current.told:
        sentence = f"{call} was called before runstream.init(project=...): nothing is recorded"
        if _strict():
            raise StrictError(sentence)
        _Current.told.add(call)
        _log.warning("runstream: %s", sentence)
    return _Current.run


def _strict() -> bool:
    try:
        return load().strict
    except SettingsError:
        return False  # `init` will say what is wrong with them.


@untraced
def log(data: Mapping[str, Any], step: int | None = None, **options: Any) -> None:
    """`Run.log` on the current run."""
    run = called_on("log")
    if run is not None:
        run.log(data, step, **options)


@untraced
def log_params(params: Mapping[str, Any], **options: Any) -> None:
    """`Run.log_params` on the current run."""
    run = called_on("log_params")
    if run is not None:
        run.log_params(params, **options)


@untraced
def log_event(event: Event | str, **options: Any) -> str:
    """`Run.log_event` on the current run."""
    run = called_on("log_event")
    return "" if run is None else run.log_event(event, **options)


@untraced
def alert_on(metric: str, condition: Any, threshold: float | None = None, **options: Any) -> str:
    """`Run.alert_on` on the current run."""
    run = called_on("alert_on")
    return "" if run is None else run.alert_on(metric, condition, threshold, **options)


@untraced
def alert(title: str, text: str = "", level: Any = "warning", **options: Any) -> str:
    """`Run.alert` on the current run."""
    run = called_on("alert")
    return "" if run is None else run.alert(title, text, level, **options)


@untraced
def define_metric(name: str, **options: Any) -> None:
    """`Run.define_metric` on the current run."""
    run = called_on("define_metric")
    if run is not None:
        run.define_metric(name, **options)


def timed(name: str, **options: Any) -> AbstractContextManager[Any]:
    """`Run.timed` on the current run."""
    run = called_on("timed")
    return nullcontext(SimpleNamespace(metadata={}, seconds=0.0)) if run is None else run.timed(name, **options)


@untraced
def finish(timeout: float = 30.0) -> Finished:
    """`Run.finish` on the current run."""
    run = called_on("finish")
    return Finished(shipped=True, rows_left=0, folder=None) if run is None else run.finish(timeout)
