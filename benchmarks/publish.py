"""`python -m benchmarks.publish [NAME ...]`: runs benchmarks one after the other, stores what each said, and makes the page of figures and its plots anew.

Without names all of them run, which takes about three quarters of an hour on two cores. `--page` runs none and makes the page from what is stored. Exit codes: 0 when every one ran and
held its bars; 1 when one missed a bar, or did not run, whose last result then stays: what the others said is stored and published all the same; 2 for wrong arguments.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import capacity, page, plots, results
from benchmarks.registry import BENCHMARKS
from benchmarks.results import ROOT

_LIMIT_S = 3600.0
_EXITS = "Exits with 1 when a benchmark missed a bar or did not run, once all have had their turn and the page is made; with 0 when every bar held."


def _figures(name: str, seconds: float | None) -> list[dict[str, Any]]:
    """Runs a benchmark in a process of its own, since it leaves caches and threads behind."""
    with tempfile.TemporaryDirectory(prefix="runstream-publish-") as folder:
        target = Path(folder) / "figures"
        asked = [] if seconds is None else ["--seconds", str(seconds)]
        subprocess.run([sys.executable, "-m", "benchmarks", name, "--json", str(target), *asked], cwd=ROOT, check=True, timeout=_LIMIT_S)
        lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key != "benchmark"} for line in lines]


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.publish", description="Runs benchmarks, stores their figures and makes docs/benchmarks.md from them.", epilog=_EXITS
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="benchmarks; all unless named")
    parser.add_argument("--page", action="store_true", help="run none: make the page from what is stored")
    parser.add_argument("--seconds", type=float, help="about how long each measures; its own default unless given")
    asked = parser.parse_args(argv)
    unknown = [name for name in asked.names if name not in BENCHMARKS]
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}: `python -m benchmarks ls` lists them.", file=sys.stderr)
        return 2
    failed: list[str] = []
    missed: list[str] = []
    names = [] if asked.page else asked.names or list(BENCHMARKS)
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name} ...", flush=True)
        begun = time.monotonic()
        try:
            figures = _figures(name, asked.seconds)
        except subprocess.SubprocessError as error:
            failed.append(name)
            print(f"    did not end well: {error}", file=sys.stderr, flush=True)
            continue
        results.write(results.measured_here(name, figures))
        below = [figure["figure"] for figure in figures if figure["holds"] is False]
        missed += [f"{name} {figure}" for figure in below]
        print(f"    {time.monotonic() - begun:.0f} s" + (f"; missed: {', '.join(below)}" if below else ""), flush=True)
    found = results.read_all()
    plots.draw(found, page.PLOTS_FOLDER)
    page.PAGE.write_text(page.render(found), encoding="utf-8")
    capacity.PAGE.write_text(capacity.render(found), encoding="utf-8")
    print(f"{page.PAGE.relative_to(ROOT)} has the figures of {len(found)} benchmarks.")
    for said, what in (("Did not run", failed), ("Missed their bars", missed)):
        if what:
            print(f"{said}: {', '.join(what)}.", file=sys.stderr)
    return 1 if failed or missed else 0


if __name__ == "__main__":
    sys.exit(main())
