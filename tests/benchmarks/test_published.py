"""Published figures: the page and its plots say what the stored results say, and the cheap benchmarks still come near them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import capacity, page, plots, publish, results
from benchmarks.data import training_rows
from benchmarks.figures import Bar
from benchmarks.registry import BENCHMARKS
from benchmarks.results import ROOT, Result
from benchmarks.scale import RATES
from tests.benchmarks.bars import BARS

EXAMPLE = Result(
    "codec", "2026-01-01 00:00 UTC", "abc", {"processor": "x", "cores": 2, "memory_gib": 4, "system": "Linux", "python": "3.11"}, {"numpy": "2"}, []
)


def test_the_page_says_what_the_results_say() -> None:
    """docs/benchmarks.md and docs/capacity.md are what the stored results come to; `python -m benchmarks.publish --page` makes it so."""
    assert page.PAGE.read_text(encoding="utf-8") == page.render(results.read_all())
    assert capacity.PAGE.read_text(encoding="utf-8") == capacity.render(results.read_all())


def test_the_plots_are_of_these_results() -> None:
    """Each plot was drawn from the figures that are stored, and is shown on the page."""
    stored = {one.benchmark: one for one in results.read_all()}
    shown = re.findall(r"\(plots/([a-z0-9-]+\.svg)\)", page.PAGE.read_text(encoding="utf-8"))
    assert shown
    for name in shown:
        assert plots.digest(stored[plots.PLOTS[name][0]]) in (page.PLOTS_FOLDER / name).read_text(encoding="utf-8")


def test_a_figure_that_changed_shows(tmp_path: Path) -> None:
    """A result is read back as it was stored; a missed bar is named at the top, and another value makes another page."""
    row: dict[str, Any] = {"figure": "encode_ratio", "value": 0.2, "unit": "ratio", "bar": "<= 0.1", "holds": False, "n": 3}
    one = replace(EXAMPLE, figures=[row])
    results.write(one, tmp_path)
    assert results.read_all(tmp_path) == [one]
    text = page.render([one])
    assert "0 of 1 bars hold. Missed: `codec` `encode_ratio` 0.2 (<= 0.1)." in text
    other = page.render([replace(one, figures=[row | {"value": 0.05, "holds": True}])])
    assert "1 of 1 bars hold." in other
    assert "| `encode_ratio` | 0.05 | ratio | <= 0.1 | yes | 3 |" in other
    assert plots.digest(one) != plots.digest(EXAMPLE)


def test_the_head_of_the_page_says_what_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """Results of several commits are told, and benchmarks that have none; where there is nothing to tell, nothing is."""
    monkeypatch.setattr(page, "BENCHMARKS", {name: BENCHMARKS[name] for name in ("codec", "exit", "read")})
    one = [replace(EXAMPLE, benchmark=name, commit=commit) for name, commit in (("codec", "abc"), ("exit", "def"), ("read", "def"))]
    assert "Measured at commits def (2 benchmarks), abc (1 benchmark).\n" in page.render(one)
    assert "Without a result: `exit`, `read`.\n" in page.render(one[:1])
    assert "commits" not in page.render([replace(two, commit="abc") for two in one])
    assert "Without a result" not in page.render(one)


def test_the_stored_results_have_the_bars_of_today() -> None:
    """A bar that was made stricter, or is new, shows once it was measured: results from before it do not stand for it. `make bench` brings what is missing."""
    stored = {one.benchmark: {row["figure"]: row["bar"] for row in one.figures} for one in results.read_all()}
    lacking = [
        f"{name} {figure} ({bar or 'no bar'})"
        for name, bars in BARS.items()
        if name in stored
        for figure, bar in bars.items()
        if stored[name].get(figure, "not there") != bar
    ]
    assert lacking == []


def test_the_table_of_bars_has_what_the_code_says() -> None:
    """Each bar that stands in a benchmark's source as it is, with its figure's name, is in the table."""
    found: dict[str, dict[str, str]] = {}
    for name in BENCHMARKS:
        said = re.findall(r'Figure\("(\w+)", .*Bar\("(..)", ([\d_.e]+)\)\)', (ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))
        found |= {name: {figure: str(Bar(symbol, float(limit))) for figure, symbol, limit in said}}
    assert sum(map(len, found.values())) > 40
    assert [(name, figure, bar) for name, bars in found.items() for figure, bar in bars.items() if BARS.get(name, {}).get(figure) != bar] == []


def test_a_missed_bar_is_an_exit_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured is stored and published either way; a bar that was missed, and a benchmark that did not run, end it with 1."""
    row: dict[str, Any] = {"figure": "encode_ratio", "value": 0.2, "unit": "ratio", "bar": "<= 0.1", "holds": False, "n": 3}
    said: dict[str, list[dict[str, Any]]] = {"codec": [row], "exit": [row | {"holds": True}]}

    def figures(name: str, seconds: float | None) -> list[dict[str, Any]]:
        if name not in said:
            raise subprocess.CalledProcessError(3, [name, str(seconds)])
        return said[name]

    for module, name in ((publish, "ROOT"), (page, "PLOTS_FOLDER")):
        monkeypatch.setattr(module, name, tmp_path)
    for module in (page, capacity):
        monkeypatch.setattr(module, "PAGE", tmp_path / f"{module.__name__}.md")
    write, read_all = results.write, results.read_all

    def write_here(result: Result) -> None:
        write(result, tmp_path)

    monkeypatch.setattr(results, "write", write_here)
    monkeypatch.setattr(results, "read_all", lambda: read_all(tmp_path))
    monkeypatch.setattr(publish, "_figures", figures)
    assert publish.main(["exit"]) == 0
    assert publish.main(["codec", "exit"]) == 1
    assert "Missed their bars: codec encode_ratio." in capsys.readouterr().err
    assert publish.main(["read", "exit"]) == 1
    assert "Did not run: read." in capsys.readouterr().err
    assert "`codec` `encode_ratio` 0.2 (<= 0.1)" in page.PAGE.read_text(encoding="utf-8")
    assert publish.main(["--page"]) == 0


def test_the_lines_of_the_capacity_model() -> None:
    """Costs that were put in come out: cores at rest and a point, and what a frame takes beside its points."""
    values = {f"points_s.rate_{rate}": float(rate) for rate in RATES} | {f"us_sinks.rate_{rate}": 1e9 * (0.1 + 2e-7 * rate) / rate for rate in RATES}
    found = capacity.line(values, "sinks")
    assert found.rest == pytest.approx(0.1)
    assert found.point == pytest.approx(2e-7)
    frame_s, point_s = capacity.frame_cost(1000 / (50e-6 + 1000 * 0.5e-6), 20 / (50e-6 + 20 * 0.5e-6))
    assert (frame_s, point_s) == (pytest.approx(50e-6), pytest.approx(0.5e-6))
    assert "Not measured yet: scale, e2e" in capacity.render([])


def test_the_capacity_model_plans_for_many_series_too() -> None:
    """The fleet's case has a column of its own, which is the one to plan with: cores are half busy, and a tenth of a microsecond a point is two of them."""
    stored = [one for one in results.read_all() if one.benchmark != "fleet"]
    fleet = next(one for one in results.read_all() if one.benchmark == "fleet")
    put_in = {"points": 1e6, "core_s_sinks": 0.25, "core_s_processors": 1.0, "core_s_kafka": 0.5, "core_s_clickhouse": 2.0, "bytes_point_kafka": 5.0}
    figures = [line | {"value": put_in.get(line["figure"], line["value"])} for line in fleet.figures]
    rows = {
        what: cells
        for what, *cells in (
            re.findall(r"[^|]+", line) for line in capacity.render([*stored, replace(fleet, figures=figures)]).splitlines() if line.startswith("| ")
        )
    }
    found = {what.strip(): [cell.strip() for cell in cells] for what, cells in rows.items()}
    assert [
        cells[-1].split(",")[0].split(":")[0]
        for what, cells in found.items()
        if what in ("sink workers", "processor workers", "partitions of the metric topic")
    ] == [
        "40",
        "5 of one core",
        "20 of one core",
    ]
    assert found["Kafka, brokers"][1] == "3, of 16 cores and 25 Gbit/s each (30 cores in all)"
    assert found["Kafka, in"][1] == "50 MB/s, 150 MB/s with 3 copies; 100 MB/s out"
    assert found["ClickHouse, shards"][1] == "2 of 32 cores, 2 replicas each (40 cores a copy)"
    assert "plan with these" in found["what"][1]
    told = capacity.render(stored)
    assert "plan with these" not in told
    assert "Plan with the last column" not in told
    assert "| sink workers | " in told


def test_what_a_point_costs_is_what_a_fleet_needs() -> None:
    """Ten million points a second of a tenth of a microsecond each, half busy, are two cores; bytes give links and disks."""
    need = capacity.needs(capacity.Case(dict.fromkeys(capacity.STAGES, 1e-7), 5.0), rest=0.01, bytes_series=300.0, bytes_stored=3.0)
    assert need["sink workers"] == "2 of one core"
    assert need["Kafka, in"] == "50 MB/s, 150 MB/s with 3 copies; 100 MB/s out"
    assert need["each training node (8 GPUs)"] == "0.01 cores for the agent, 0.04 MB/s out"
    assert need["partitions of the metric topic"].startswith("4:")
    assert need["processor workers"] == "2 of one core, 1,431 MiB of series each"
    assert need["ClickHouse, disk"] == "2.6 TB a day and copy, 156 TB for 30 days on 2 replicas"


def test_no_two_rows_of_the_pipeline_are_the_same() -> None:
    """Ranks log readings that never repeat, of float32 or of a schedule, the same each time; those of metrics with a rule stay below its bound."""
    drawn = training_rows.rows(40, 300, rank=1, low=5)
    assert len(np.unique(drawn, axis=0)) == 300
    noise = drawn[:, [column for column in range(40) if column < 5 or column % 4 != 2]]
    assert all(len(np.unique(column)) > 290 for column in noise.T)
    assert np.array_equal(noise, noise.astype(np.float32))
    assert drawn[:, :5].max() < 50
    assert np.array_equal(drawn, training_rows.rows(40, 300, rank=1, low=5))
    assert not np.isin(drawn[:, 0], training_rows.rows(40, 300, rank=2, low=5)[:, 0]).all()


def test_a_benchmark_that_does_not_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence and exit code 2."""
    assert publish.main(["codek"]) == 2
    assert "no benchmark 'codek'" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "bars"), [("codec", {"encode_ratio": 0.3, "decode_ratio": 0.3})], ids=["codec"])
def test_no_great_regression(name: str, bars: dict[str, float]) -> None:
    """The cheap benchmarks keep three times their bars on any machine; ratios within one run, so that a slow machine is no reason."""
    argv = [sys.executable, "-m", "benchmarks", name, "--json", "-", "--seconds", "0.3"]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=True, cwd=ROOT)
    found = {line["figure"]: line["value"] for line in map(json.loads, said.stdout.splitlines())}
    assert {figure: found[figure] <= bar for figure, bar in bars.items()} == dict.fromkeys(bars, True), found
