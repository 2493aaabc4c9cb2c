"""Module-level calls for scripts that have one run: they go to the run that `init` began last in this process."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from runstream._types import Finished
from runstream_producers.journal.compilers import untraced

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from runstream._run import Run
    from runstream._types import Event

_log = logging.getLogger("runstream")


class _Current:
    run: Run | None = None
    told = False


def hold(run: Run | None) -> None:
    """Makes a run the one that module-level calls go to."""
    _Current.run = run


def current() -> Run | None:
    """The run that module-level calls go to, if any."""
    return _Current.run


def _run(call: str) -> Run | None:
    if _Current.run is None and not _Current.told:
        _Current.told = True
        _log.warning("runstream: %s was called before runstream.init(project=...): nothing is recorded", call)
    return _Current.run


@untraced
def log(data: Mapping[str, Any], step: int | None = None, **options: Any) -> None:
    """`Run.log` on the current run."""
    run = _run("log")
    if run is not None:
        run.log(data, step, **options)


@untraced
def log_params(params: Mapping[str, Any], **options: Any) -> None:
    """`Run.log_params` on the current run."""
    run = _run("log_params")
    if run is not None:
        run.log_params(params, **options)


@untraced
def log_event(event: Event | str, **options: Any) -> str:
    """`Run.log_event` on the current run."""
    run = _run("log_event")
    return "" if run is None else run.log_event(event, **options)


@untraced
def alert_on(metric: str, condition: Any, threshold: float | None = None, **options: Any) -> str:
    """`Run.alert_on` on the current run."""
    run = _run("alert_on")
    return "" if run is None else run.alert_on(metric, condition, threshold, **options)


@untraced
def alert(title: str, text: str = "", level: Any = "warning", **options: Any) -> str:
    """`Run.alert` on the current run."""
    run = _run("alert")
    return "" if run is None else run.alert(title, text, level, **options)


@untraced
def define_metric(name: str, **options: Any) -> None:
    """`Run.define_metric` on the current run."""
    run = _run("define_metric")
    if run is not None:
        run.define_metric(name, **options)


def timed(name: str, **options: Any) -> AbstractContextManager[Any]:
    """`Run.timed` on the current run."""
    run = _run("timed")
    return nullcontext() if run is None else run.timed(name, **options)


@untraced
def finish(timeout: float = 30.0) -> Finished:
    """`Run.finish` on the current run."""
    run = _run("finish")
    return Finished(shipped=True, rows_left=0, folder=None) if run is None else run.finish(timeout)
