"""What looks at a fleet's memory come to: figures, the plot and the words of the capacity page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import capacity, page, plots
from benchmarks.figures import Figure
from benchmarks.fleet import PARTS_OF_TIME, growth_figures, memory_figures
from benchmarks.pipeline import STAGES
from benchmarks.results import Result

if TYPE_CHECKING:
    from pathlib import Path

MACHINE = {"processor": "x", "cores": 2, "memory_gib": 4, "system": "Linux", "python": "3.11"}


def looks() -> list[dict[str, float]]:
    """Two minutes of which the ranks live one; all parts are level but ClickHouse, which grows by a mebibyte a second."""
    return [{stage: 100.0 + (second if stage == "clickhouse" else 0.0) for stage in STAGES if stage != "ranks" or second < 60} for second in range(120)]


def figures() -> list[Figure]:
    """All that the page and the plots ask of the benchmark."""
    spent = [Figure(f"core_s_{stage}", 60.0, "s", 1) for stage in STAGES]
    counts = [("points", 1e8), ("series", 1e6), ("lasted_s", 120.0), ("shipped_points_s", 2e6), ("core_s", 360.0), ("accounted_s", 9.0)]
    return [*(Figure(name, value, "", 1) for name, value in counts), *spent, *memory_figures(looks()), *growth_figures(looks())]


def test_growth_is_told_by_the_second_quarter() -> None:
    """A part that is level has grown by nothing; one that grows shows, and misses its bar; what is worked off once ranks have ended does not count."""
    found = {one.name: one for one in growth_figures(looks())}
    assert found["growth_kafka"].value == 1.0
    assert found["growth_clickhouse"].value == pytest.approx((100 + 52) / (100 + 22))
    assert found["late_mb_clickhouse"].value == 152
    assert found["growth_clickhouse"].n == 60
    grown = {one.name: one for one in growth_figures([dict.fromkeys(STAGES, 100.0 + 3 * second) for second in range(120)])}
    assert [grown[f"growth_{stage}"].holds for stage in STAGES] == [False] * len(STAGES)


def test_the_most_is_told() -> None:
    """A part that took a gigabyte for a second took a gigabyte; each has its course for as long as it lives."""
    seen = looks()
    seen[70]["sinks"] = 1_024.0
    found = {one.name: one for one in memory_figures(seen)}
    assert (found["peak_mb_sinks"].value, found["peak_mb_sinks"].holds, found["peak_mb_kafka"].holds) == (1_024.0, False, True)
    assert sum(name.startswith("mb_sinks.part_") for name in found) == PARTS_OF_TIME
    assert sum(name.startswith("mb_ranks.part_") for name in found) == PARTS_OF_TIME // 2


def test_the_course_of_memory_is_drawn_and_told(tmp_path: Path) -> None:
    """The plot has a line for each part; the page folds away what it is drawn from, and the capacity page says what each part took."""
    result = Result("fleet", "2026-01-01 00:00 UTC", "abc", MACHINE, {"numpy": "2"}, [one.as_json("fleet") for one in figures()])
    assert plots.draw([result], tmp_path) == ["fleet-memory.svg"]
    drawn = (tmp_path / "fleet-memory.svg").read_text()
    assert plots.digest(result) in drawn
    assert all(f">{stage}<" in drawn for stage in STAGES)
    text = page.render([result])
    assert text.index("`peak_mb_kafka`") < text.index("<details>") < text.index("`mb_kafka.part_01`") < text.index("</details>")
    values = {one["figure"]: float(one["value"]) for one in result.figures}
    assert "| clickhouse | 60 | 0.60 | 219 |" in capacity.fleet(values)


def test_a_long_run_is_drawn_and_told_by_itself(tmp_path: Path) -> None:
    """The half hour has a plot of its own, and the capacity page says what grew."""
    result = Result("endurance", "2026-01-01 00:00 UTC", "abc", MACHINE, {"numpy": "2"}, [one.as_json("endurance") for one in figures()])
    assert plots.draw([result], tmp_path) == ["endurance-memory.svg"]
    text = capacity.endurance({one["figure"]: float(one["value"]) for one in result.figures})
    assert "2,000,000 points a second for 2 minutes (100 million points, `endurance`)" in text
    assert "| clickhouse | 219 | 152 | 1.25 |" in text
