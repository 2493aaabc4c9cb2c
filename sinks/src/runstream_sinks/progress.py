"""How far a long command is, on standard error: a bar where that is a terminal, else a line now and then."""

from __future__ import annotations

import signal
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from runstream_sinks.fill import Progress

LINE_INTERVAL_S = 5.0


@contextmanager
def shown(what: str, *, quiet: bool) -> Generator[Callable[[Progress], None]]:
    """Gives a function that shows progress; `quiet` shows nothing."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Bar(
            TextColumn(what),
            BarColumn(),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("records, {task.fields[rows]:,} rows, {task.fields[rate]:,.0f} a second"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task(what, total=None, rows=0, rate=0.0)
            yield lambda one: bar.update(task, completed=one.records, total=one.records_all or None, rows=one.rows, rate=_rate(one))
    else:
        yield _Lines(what)


@contextmanager
def waiting(what: str, *, quiet: bool) -> Generator[Callable[[str], None]]:
    """Gives a function that shows, beside what is waited for, what is going on; a line at the beginning where there is no terminal, and nothing for `quiet`."""
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with console.status(what) as status:
            yield lambda text: status.update(f"{what}: {text}")
    else:
        sys.stderr.write(f"{what}\n")
        sys.stderr.flush()
        yield lambda _: None


def _rate(one: Progress) -> float:
    return one.rows / one.seconds if one.seconds > 0 else 0.0


class _Lines:
    def __init__(self, what: str) -> None:
        self._what = what
        self._at = time.monotonic() + LINE_INTERVAL_S

    def __call__(self, one: Progress) -> None:
        if time.monotonic() < self._at:
            return
        self._at = time.monotonic() + LINE_INTERVAL_S
        of_all = f" of {one.records_all:,}" if one.records_all else ""
        sys.stderr.write(f"{self._what}: {one.records:,}{of_all} records, {one.rows:,} rows, {_rate(one):,.0f} a second\n")
        sys.stderr.flush()


@contextmanager
def until_asked() -> Generator[Callable[[], bool]]:
    """Gives a function that says whether SIGINT or SIGTERM has come since; the first ends nothing by itself meanwhile, the second raises KeyboardInterrupt."""
    asked = False

    def ask(_number: int, _frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
