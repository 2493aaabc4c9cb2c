"""What the demo shows: the live view while it runs, and the report at its end. Pure: values in, rich renderables out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from runstream_local.demo.chart import COLOURS, Line, draw

if TYPE_CHECKING:
    from rich.console import RenderableType

    from runstream_local.demo.reads import Rows, Verdict

_SEVERITY = {"critical": "bold red", "warning": "yellow", "info": "cyan"}


@dataclass(slots=True)
class Progress:
    """Where the demo stands: what each rank told last, what is stored, which alerts have come."""

    epochs: int
    ranks: dict[int, dict[str, Any]] = field(default_factory=dict[int, dict[str, Any]])
    stored: int = 0
    hardware: int = 0
    alerts: Rows = field(default_factory=list[dict[str, Any]])

    @property
    def logged(self) -> int:
        """Metric points that the ranks have logged."""
        return sum(int(told["logged"]) for told in self.ranks.values())

    @property
    def shipped(self) -> int:
        """Metric points that Kafka has acknowledged."""
        return sum(int(told["shipped"]) for told in self.ranks.values())

    def line(self, elapsed_s: float) -> str:
        """The state in one plain line, for output that is no terminal."""
        ranks = ", ".join(f"rank {rank} epoch {told['epoch'] + 1}/{self.epochs} loss {_loss(told)}" for rank, told in sorted(self.ranks.items()))
        return f"{elapsed_s:5.1f} s  {ranks or 'starting'}  metric points logged {self.logged:,} shipped {self.shipped:,} stored {self.stored:,}  alerts {len(self.alerts)}"


def _loss(told: dict[str, Any]) -> str:
    return "not finite" if told["loss"] is None else f"{told['loss']:.3g}"


def number(value: Any) -> str:
    """A number for people: few digits, NaN and infinities by name. JSON gives NaN as null and infinities as texts."""
    if value is None:
        return "nan"
    amount = float(value)
    if not math.isfinite(amount):
        return str(amount)
    return f"{amount:,.0f}" if amount == int(amount) and abs(amount) < 1e9 else f"{amount:.3g}"


def live(progress: Progress, elapsed_s: float) -> RenderableType:
    """The live view."""
    ranks = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("rank", "epoch", "", "loss", "accuracy"):
        ranks.add_column(title, justify="right" if title != "" else "left")
    for rank, told in sorted(progress.ranks.items()):
        done = (told["epoch"] + 1) / progress.epochs
        bar = Text("━" * round(24 * done), style=COLOURS[rank % len(COLOURS)]) + Text("━" * (24 - round(24 * done)), style="dim")
        loss = Text(_loss(told), style="bold red" if told["loss"] is None else "")
        ranks.add_row(str(rank), f"{told['epoch'] + 1}/{progress.epochs}", bar, loss, f"{told['accuracy']:.1%}")
    points = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("metric points logged", "shipped", "stored", "hardware readings stored"):
        points.add_column(title, justify="right")
    points.add_row(f"{progress.logged:,}", f"{progress.shipped:,}", f"{progress.stored:,}", f"{progress.hardware:,}")
    parts: list[RenderableType] = [ranks, Text(), points]
    if progress.alerts:
        parts += [Text(), *(_alert_text(row) for row in progress.alerts)]
    return Panel(Group(*parts), title="runstream demo: two ranks on handwritten digits", subtitle=f"{elapsed_s:.0f} s", border_style="dim")


def _alert_text(row: dict[str, Any]) -> Text:
    style = _SEVERITY.get(row["severity"], "")
    return Text.assemble(
        ("▲ ", style),
        (row["severity"], style),
        f"  {row['text'] or row['rule']}  (step {row['step']}, {row['state']}, {row['fired_latency_ms']} ms after log())",
    )


def curve(rows: Rows, width: int) -> RenderableType:
    """The learning curve: training loss by epoch, one line a rank, on a logarithmic axis."""
    ranks = sorted({int(row["rank"]) for row in rows})
    epochs = 1 + max((int(row["epoch"]) for row in rows), default=0)
    lines: list[Line] = []
    legend: list[Text] = []
    for rank in ranks:
        mine = [row for row in rows if int(row["rank"]) == rank]
        points = [(float(row["first_step"]), float("nan") if row["loss"] is None else float(row["loss"])) for row in mine]
        lines.append(Line(f"rank {rank}", points))
        broken = next((row for row in mine if int(row["non_finite"])), None)
        good = [loss for _, loss in points if math.isfinite(loss)]
        said = f"first not finite in epoch {int(broken['epoch']) + 1} of {epochs}" if broken else f"{good[0]:.3g} → {good[-1]:.3g}" if good else "no value"
        legend.append(Text.assemble(("── ", COLOURS[rank % len(COLOURS)]), f"rank {rank}: {said}"))
    chart = draw(lines, width=min(width, 100), height=10, y_min=0.01, y_max=100.0)
    return Group(*chart, Text("        epochs →", style="dim"), *legend)


def table(rows: Rows, columns: dict[str, str]) -> Table:
    """Rows as a table; `columns` maps a row's keys to headings, and numbers are set to the right."""
    out = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    numeric = {key for key in columns if rows and all(not isinstance(row[key], (str, bool)) or _is_number(row[key]) for row in rows)}
    for key, title in columns.items():
        out.add_column(title, justify="right" if key in numeric else "left", no_wrap=True)
    for row in rows:
        out.add_row(*(number(row[key]) if key in numeric else str(row[key]) for key in columns))
    return out


def _is_number(value: object) -> bool:
    if isinstance(value, bool):
        return False
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def summaries(rows: Rows) -> Table:
    """The summary of each metric and rank."""
    columns = {"context": "context", "name": "metric", "rank": "rank", "count": "values", "non_finite": "not finite", "min": "min", "max": "max"}
    return table(rows, columns | {"mean": "mean", "last": "last"})


def alerts(rows: Rows) -> RenderableType:
    """The alerts with how long they took."""
    return Group(*(_alert_text(row) for row in rows)) if rows else Text("none")


def hardware(rows: Rows) -> Table:
    """Hardware by process."""
    shown = [
        row
        | {
            "memory_max": f"{float(row['memory_max']) / 2**20:.0f} MiB",
            "cpu_mean": f"{_or_nan(row['cpu_mean']):.0f} %",
            "cpu_max": f"{_or_nan(row['cpu_max']):.0f} %",
        }
        for row in rows
    ]
    return table(
        shown, {"process": "rank", "cpu_mean": "CPU mean", "cpu_max": "CPU max", "memory_max": "memory max", "threads": "threads", "readings": "readings"}
    )


def _or_nan(value: Any) -> float:
    return float("nan") if value is None else float(value)


def checkpoints(rows: Rows) -> Table:
    """Checkpoints by rank."""
    shown = [row | {"bytes": f"{int(row['bytes']) / 2**20:.1f} MiB", "seconds_max": f"{float(row['seconds_max']) * 1000:.0f} ms"} for row in rows]
    return table(shown, {"rank": "rank", "checkpoints": "checkpoints", "bytes": "size in all", "seconds_max": "slowest"})


def account(rows: Rows, judged: Verdict) -> RenderableType:
    """The account of the run, to the last point, and whether it balances."""
    columns = {
        "kind": "writer",
        "rank": "rank",
        "state": "state",
        "points_logged": "points logged",
        "points_shipped": "shipped",
        "points_stored": "stored",
        "points_dropped": "dropped",
    }
    total = {key: sum(int(row[key]) for row in rows) for key in ("points_logged", "points_shipped", "points_stored", "points_dropped")}
    said = (
        Text(
            f"balanced: {total['points_logged']:,} points logged = {total['points_shipped']:,} shipped = {total['points_stored']:,} stored", style="bold green"
        )
        if judged.balanced
        else Text("the account does not balance", style="bold red")
    )
    reasons = [Text(f"✗ {reason}", style="red") for reason in judged.reasons]
    return Group(table(rows, columns), said, *reasons)
