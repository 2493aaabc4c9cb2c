"""Plots of published figures, as SVG whose text stays text. Each carries the digest of the figures it was drawn from."""

from __future__ import annotations

import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure as Sheet

from benchmarks.fleet import PARTS_OF_TIME
from benchmarks.pipeline import STAGES
from benchmarks.scale import RATES, SERIES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from benchmarks.results import Result

_COLOURS = dict(zip(STAGES, ("#4477aa", "#66ccee", "#ccbb44", "#228833", "#ee6677", "#aa3377"), strict=True))
_STYLE = {"svg.hashsalt": "runstream", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def digest(result: Result) -> str:
    """What a plot carries of the figures it shows."""
    return hashlib.sha256(json.dumps(result.figures, sort_keys=True).encode()).hexdigest()[:16]


def draw(results: Sequence[Result], folder: Path) -> list[str]:
    """Draws what can be drawn of these results; returns the names of the files."""
    by_name = {one.benchmark: one for one in results}
    folder.mkdir(parents=True, exist_ok=True)
    drawn: list[str] = []
    for name, (benchmark, plot) in PLOTS.items():
        if benchmark in by_name:
            _save(folder / name, by_name[benchmark], plot)
            drawn.append(name)
    return drawn


def _save(path: Path, result: Result, plot: Callable[[Axes, dict[str, float]], None]) -> None:
    with mpl.rc_context(_STYLE):  # pyright: ignore[reportUnknownMemberType, reportArgumentType]  # matplotlib's stubs name every key
        sheet = Sheet(figsize=(6.4, 3.6), layout="constrained")
        plot(sheet.add_subplot(), {one["figure"]: float(one["value"]) for one in result.figures})
        out = io.BytesIO()
        sheet.savefig(out, format="svg", metadata={"Date": None, "Creator": None})  # pyright: ignore[reportUnknownMemberType]
    path.write_text(out.getvalue().decode() + f"<!-- figures {digest(result)} -->\n", encoding="utf-8")


def _stages_by(kind: str, places: Sequence[int]) -> Callable[[Axes, dict[str, float]], None]:
    def plot(axes: Any, values: dict[str, float]) -> None:
        for stage in STAGES:
            axes.plot(places, [values[f"us_{stage}.{kind}_{place}"] / 1000.0 for place in places], marker="o", markersize=3, label=stage, color=_COLOURS[stage])
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("points a second" if kind == "rate" else "series, at 100,000 points a second")
        axes.set_ylabel("core time, µs a point")
        axes.grid(visible=True, linewidth=0.3)
        axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return plot


def _cores(axes: Any, values: dict[str, float]) -> None:
    left = 0.0
    for stage in STAGES:
        cores = values[f"cores_{stage}"]
        axes.barh([0], [cores], left=left, color=_COLOURS[stage], label=f"{stage} {cores:.2f}")
        left += cores
    axes.set_yticks([])
    axes.set_xlabel(f"cores, at {values['points_s']:,.0f} points a second")
    axes.legend(fontsize=8, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.25))


def _memory(axes: Any, values: dict[str, float]) -> None:
    part_min = values["lasted_s"] / 60.0 / PARTS_OF_TIME
    for stage in STAGES:
        seen = [
            ((part + 0.5) * part_min, values[f"mb_{stage}.part_{part + 1:02d}"]) for part in range(PARTS_OF_TIME) if f"mb_{stage}.part_{part + 1:02d}" in values
        ]
        axes.plot(*zip(*seen, strict=True), marker="o", markersize=3, label=stage, color=_COLOURS[stage])
    axes.axvline(values["points"] / values["shipped_points_s"] / 60.0, color="#bbbbbb", linewidth=0.8)
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("minutes (grey line: all points are in Kafka)")
    axes.set_ylabel("memory of its own, MiB")
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))


PLOTS: dict[str, tuple[str, Callable[[Axes, dict[str, float]], None]]] = {
    "e2e-cores.svg": ("e2e", _cores),
    "scale-rate.svg": ("scale", _stages_by("rate", RATES)),
    "scale-series.svg": ("scale", _stages_by("series", SERIES)),
    "fleet-memory.svg": ("fleet", _memory),
    "endurance-memory.svg": ("endurance", _memory),
}
