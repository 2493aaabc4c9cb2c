"""How `runstream up` shows itself: a bar while Kafka is fetched, then a live table of the parts; plain lines where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runstream_local.overview import HEADINGS, Row, memory_of, rows

if TYPE_CHECKING:
    from rich.table import Table

    from runstream_local.kafka_jars import Progress
    from runstream_local.stack import Stack
    from runstream_local.stack_file import StackRecord

__all__ = ["changes", "download", "show"]

_LOOK_S = 0.25
_COLOURS = {"healthy": "green", "done": "green", "failed": "red", "hung": "red", "starting": "yellow", "waiting": "dim", "stopping": "yellow", "stopped": "dim"}


@contextmanager
def download() -> Generator[Progress]:
    """Yields a callback that shows how much of Kafka is here; shows nothing when it is never called."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_download()
        return
    with Bar("fetching Apache Kafka, once", BarColumn(), DownloadColumn(), console=console, transient=True) as bar:
        task = bar.add_task("fetch", total=None, visible=False)
        yield lambda here, total: bar.update(task, completed=here, total=total, visible=True)


def _plain_download() -> Progress:
    last = -1

    def say(here: int, total: int) -> None:
        nonlocal last
        quarter = 4 * here // total
        if quarter != last:
            last = quarter
            sys.stderr.write(f"fetching Apache Kafka, once: {here / 1e6:.0f} of {total / 1e6:.0f} MB\n")

    return say


def show(stack: Stack) -> bool:
    """Shows the stack until its supervisor ends, and returns whether it ended without ever being healthy; Ctrl-C goes through to the caller."""
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True)
    seen: StackRecord | None = None
    was_up = False
    with Live(console=console, auto_refresh=False, transient=False) if console.is_terminal else _NoLive() as live:
        while stack.is_running:
            record = stack.record
            if record is not None:
                if console.is_terminal:
                    memory = memory_of([part.pid for part in record.parts if part.pid is not None])
                    live.update(_table(stack, record, rows(record, now=time.time(), memory=memory)), refresh=True)
                for line in changes(seen, record) if not console.is_terminal else ():
                    sys.stderr.write(f"{line}\n")
                if record.state == "running" and not was_up:
                    was_up = True
                    if not console.is_terminal:
                        sys.stderr.write(f"the stack on {stack.data} is up: Kafka {stack.kafka}, ClickHouse {stack.clickhouse_url}; Ctrl-C stops it\n")
                seen = record
            time.sleep(_LOOK_S)
    return not was_up


class _NoLive:
    """Stands in for the live table where there is no terminal."""

    def __enter__(self) -> _NoLive:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, renderable: object, *, refresh: bool = False) -> None:
        """Shows nothing."""
        del renderable, refresh


def changes(before: StackRecord | None, after: StackRecord) -> list[str]:
    """Returns one line for each part whose phase or process changed."""
    lines: list[str] = []
    for part in after.parts:
        old = before.part(part.name) if before is not None else None
        if old is not None and (old.phase, old.pid) == (part.phase, part.pid):
            continue
        if old is None and part.phase == "waiting":
            continue
        pid = "" if part.pid is None else f" (pid {part.pid})"
        place = f" at {part.address}" if part.address and part.phase == "healthy" else ""
        why = f": {part.reason}" if part.reason and part.phase in ("failed", "hung") else ""
        lines.append(f"{part.name} is {part.phase}{pid}{place}{why}")
    return lines


def _table(stack: Stack, record: StackRecord, found: tuple[Row, ...]) -> Table:
    from rich.table import Table

    hint = "Ctrl-C stops it" if record.state != "stopping" else "stopping"
    table = Table(title=f"Runstream on {stack.data}: {record.state}; {hint}", title_justify="left", box=None)
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in ("pid", "uptime", "restarts", "memory") else "left")
    for row in found:
        cells = list(row.cells())
        colour = _COLOURS.get(row.state, "")
        cells[1] = f"[{colour}]{row.state}[/]" if colour else row.state
        table.add_row(*cells)
    return table
