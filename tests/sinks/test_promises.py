"""The pages name tests and figures that exist, and leave no figure out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from runstream_sinks.metrics import ARCHIVE_PREFIX, PREFIX, ArchiveMetrics, ArchiveReading, Figures, Metrics, Reading

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "docs").rglob("*.md"))


def names_in(path: Path) -> set[str]:
    """The names of a file's tests."""
    return {one.name for one in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    """A promise whose test was renamed or removed is noticed."""
    for file, name in re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8")):
        assert name in names_in(ROOT / file), f"{file}::{name}"


def test_the_page_of_promises_names_tests() -> None:
    """The check above has something to check."""
    named = re.findall(r"::test_\w+`", (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
    assert len(named) > 15


@pytest.mark.parametrize("of", ["sink", "archive"])
def test_every_figure_is_explained(of: str) -> None:
    """The tables of docs/operations.md have the figures that a worker and an archive's worker serve, and no others."""
    metrics: Figures
    if of == "sink":
        metrics, prefix, title = Metrics(), PREFIX, "## Figures"
        metrics.reading = Reading(since_commit_s=1.0)
    else:
        metrics, prefix, title = ArchiveMetrics(), ARCHIVE_PREFIX, "## Figures of the archive"
        metrics.reading = ArchiveReading(since_commit_s=1.0)
    families = {family.name: family.type for family in text_string_to_metric_families(metrics.page().decode()) if family.name.startswith(prefix)}
    # When a counter without labels was made is told beside it.
    served = {f"{name.removeprefix(f'{prefix}_')}{'_total' if kind == 'counter' else ''}" for name, kind in families.items() if not name.endswith("_created")}
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").partition(f"{title}\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == served
