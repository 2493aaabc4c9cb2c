"""Planning of migrations, without a server."""

from __future__ import annotations

import json
import re
from typing import get_args

import pytest

from runstream_schemas import catalogue, records
from runstream_sinks.errors import MigrationMismatch
from runstream_sinks.migrations import bundled, parse, plan


def test_files_are_numbered_without_gaps() -> None:
    """Each step is one file, and the order is plain."""
    assert [one.number for one in bundled()] == list(range(1, len(bundled()) + 1))
    assert all(one.statements for one in bundled())


def test_statements_end_at_a_semicolon_at_the_end_of_a_line() -> None:
    """Comments go, and a semicolon within a line stays."""
    made = parse("0007_some_name.sql", "-- about;\nSELECT 1;\n\nSELECT\n  ';a' -- b\n;\n")
    assert (made.number, made.name) == (7, "some_name")
    assert made.statements == ("SELECT 1", "SELECT\n  ';a' -- b")


def test_descriptions_name_every_kind_of_writer() -> None:
    """The schema, and the comment of each column with a writer's kind."""
    kinds = get_args(records.WriterKind)
    [field] = [one for one in json.loads(catalogue.bundled().newest("Writer").text)["fields"] if one["name"] == "kind"]
    comments = [line for one in bundled() for text in one.statements for line in text.splitlines() if "kind LowCardinality" in line and "rank for" in line]
    assert len(comments) == 3
    for told in (field["doc"], *comments):
        assert [kind for kind in kinds if not re.search(rf"\b{kind}\b", told)] == []


def test_only_what_is_missing_is_applied() -> None:
    """What is in the ledger with the same checksum is done."""
    one, two = parse("0001_a.sql", "SELECT 1;"), parse("0002_b.sql", "SELECT 2;")
    assert plan([one, two], {}) == [one, two]
    assert plan([one, two], {1: (one.name, one.checksum)}) == [two]


def test_a_file_that_was_changed_is_refused() -> None:
    """The tables would no longer be what the files say."""
    one = parse("0001_a.sql", "SELECT 1;")
    with pytest.raises(MigrationMismatch, match=r"migration 1 \(a\)"):
        plan([one], {1: ("a", "other")})


def test_a_newer_database_is_refused() -> None:
    """An old worker must not write to tables it does not know."""
    with pytest.raises(MigrationMismatch, match="upgrade"):
        plan([], {9: ("later", "x")})
