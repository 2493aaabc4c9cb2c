"""The page of published figures, made from the results and nothing else."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from benchmarks.plots import PLOTS
from benchmarks.registry import BENCHMARKS
from benchmarks.results import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.results import Result

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS_FOLDER = ROOT / "docs" / "plots"
_HEAD = """# Benchmarks

Made by `make bench` from `benchmarks/results/`; do not edit. `python -m benchmarks NAME` measures one of them on your machine, `python -m benchmarks ls` says what each
measures. Bars are what we hold ourselves to. Ratios compare within one run, since machines differ and are noisy; a figure without a bar is there to be read.

"""
_SHOWN = {
    "e2e-cores.svg": "Cores by stage, with the whole pipeline on this machine",
    "scale-rate.svg": "What a point costs each stage, by points a second",
    "scale-series.svg": "What a point costs each stage, by series",
    "fleet-memory.svg": "Memory of each part while a hundred million points of a million series pass",
    "endurance-memory.svg": "Memory of each part over a quarter of an hour of a million series",
}


def render(results: Sequence[Result]) -> str:
    """The page, as Markdown."""
    parts = [_HEAD, _missed(results), _measured(results)]
    for one in results:
        machine, versions = one.machine, ", ".join(f"{name} {version}" for name, version in one.versions.items())
        parts.append(f"## {one.benchmark}\n\n{_sentence(BENCHMARKS[one.benchmark].about)}\n\n")
        parts += [f"![{_SHOWN[name]}](plots/{name})\n\n" for name, (benchmark, _) in PLOTS.items() if benchmark == one.benchmark]
        # What a plot shows place by place is there to look up, and not in the way.
        placed = [row for row in one.figures if "." in row["figure"]]
        plain = [row for row in one.figures if row not in placed]
        tables = [_table(plain)] if plain else []
        if placed:
            tables.append(f"<details><summary>What the plots are drawn from</summary>\n\n{_table(placed)}\n</details>\n")
        parts.append("\n".join(tables))
        parts.append(
            f"\nMeasured {one.measured} at commit {one.commit}; {machine['cores']} cores of {machine['processor']}, {machine['memory_gib']} GiB, {machine['system']}, "
            f"Python {machine['python']}; {versions}.\n\n"
        )
    return "".join(parts).rstrip("\n") + "\n"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    out = "| figure | value | unit | bar | holds | n |\n| --- | ---: | --- | --- | --- | ---: |\n"
    for row in rows:
        verdict = {None: "", True: "yes", False: "**no**"}[row["holds"]]
        out += f"| `{row['figure']}` | {row['value']:,.4g} | {row['unit']} | {row['bar'] or ''} | {verdict} | {row['n']:,} |\n"
    return out


def _missed(results: Sequence[Result]) -> str:
    bars = [(one.benchmark, row) for one in results for row in one.figures if row["bar"]]
    missed = [f"`{name}` `{row['figure']}` {row['value']:,.4g} ({row['bar']})" for name, row in bars if not row["holds"]]
    return f"{len(bars) - len(missed)} of {len(bars)} bars hold." + (f" Missed: {'; '.join(missed)}." if missed else "") + "\n\n"


def _measured(results: Sequence[Result]) -> str:
    """Of which commits the results are, where they are of several, and which benchmarks have none: neither is told by the bars."""
    commits = Counter(one.commit for one in results)
    missing = [name for name in BENCHMARKS if name not in {one.benchmark for one in results}]
    said: list[str] = []
    if len(commits) > 1:
        listed = [f"{commit} ({count} {'benchmarks' if count > 1 else 'benchmark'})" for commit, count in commits.most_common()]
        said.append(f"Measured at commits {', '.join(listed)}.")
    if missing:
        said.append(f"Without a result: {', '.join(f'`{name}`' for name in missing)}.")
    return " ".join(said) + "\n\n" if said else ""


def _sentence(about: str) -> str:
    return about[0].upper() + about[1:] + "."
