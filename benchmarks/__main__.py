"""`python -m benchmarks`: runs one benchmark and prints a table, or JSON lines.

Exit codes: 0 when it ran, whatever the figures (`holds` tells); with `--check` 1 when a bar does not hold; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import difflib
import json
import math
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console
from rich.table import Table

from benchmarks.registry import BENCHMARKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from benchmarks.figures import Figure

_SEEDS, _FIRST_SEED = 2, 1


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"seconds must be above 0, got {text}")
    return value


def _seeds(text: str) -> int:
    """How many seeds: 1 at least."""
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, got {text}")
    return int(text)


def _seed(text: str) -> int:
    """A seed, which may be 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number, 0 or more, got {text}")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Runs one benchmark; `ls` lists them.")
    parser.add_argument("name", metavar="NAME", help="a benchmark, or ls")
    parser.add_argument("--json", metavar="FILE", help="write one JSON object a figure to FILE, or to the standard output for -")
    parser.add_argument("--seconds", type=_positive, default=6.0, metavar="N", help="about how long to measure (default: %(default)g)")
    named = ", ".join(one.name for one in BENCHMARKS.values() if one.has_seeds)
    parser.add_argument("--seeds", type=_seeds, metavar="N", help=f"of {named}: how many seeds, instead of for how long (with --first-seed alone: {_SEEDS})")
    parser.add_argument(
        "--first-seed", type=_seed, metavar="N", help=f"of {named}: the first of them (with --seeds alone: {_FIRST_SEED}); 0 is a plan that is not drawn"
    )
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar does not hold; without it, only the output tells")
    return parser


def _list() -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    for one in BENCHMARKS.values():
        table.add_row(one.name, one.about)
    Console().print(table)


def _table(name: str, figures: Sequence[Figure]) -> Table:
    table = Table(title=f"{name}: {BENCHMARKS[name].about}", title_justify="left")
    for column in ("figure", "value", "unit", "bar", "holds", "n"):
        table.add_column(column, justify="right" if column in ("value", "n") else "left")
    for one in figures:
        verdict = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[one.holds]
        table.add_row(one.name, f"{one.value:.3g}", one.unit, "" if one.bar is None else str(one.bar), verdict, str(one.n))
    return table


def _end(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    name: str = arguments.name
    if name == "ls":
        _list()
        return 0
    if name not in BENCHMARKS:
        close = difflib.get_close_matches(name, BENCHMARKS, n=1)
        hint = f"did you mean {close[0]}?" if close else "`python -m benchmarks ls` lists them."
        print(f"There is no benchmark {name!r}: {hint}", file=sys.stderr)
        return 2
    target: str | None = arguments.json
    if target not in (None, "-") and not Path(target).absolute().parent.is_dir():
        print(f"--json must name a file in a folder that is there, got {target}", file=sys.stderr)
        return 2
    benchmark = BENCHMARKS[name]
    seeds: int | None = arguments.seeds
    first: int | None = arguments.first_seed
    by_seeds = seeds is not None or first is not None
    if by_seeds and not benchmark.has_seeds:
        named = ", ".join(one.name for one in BENCHMARKS.values() if one.has_seeds)
        print(f"--seeds and --first-seed are for {named}; {name} has no seeds.", file=sys.stderr)
        return 2
    # Asked to end, a benchmark leaves no stack, process or mounted disk behind, as after Ctrl-C.
    signal.signal(signal.SIGTERM, _end)
    figures = list(benchmark.over_seeds(seeds or _SEEDS, _FIRST_SEED if first is None else first) if by_seeds else benchmark.run(arguments.seconds))
    lines = "".join(json.dumps(one.as_json(name), ensure_ascii=False) + "\n" for one in figures)
    if target is None:
        Console().print(_table(name, figures))
    elif target == "-":
        print(lines, end="")
    else:
        Path(target).write_text(lines, encoding="utf-8")
    return 1 if arguments.check and any(one.holds is False for one in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
