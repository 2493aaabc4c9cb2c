"""What docs/guarantees.md says of the tables is what the engine says of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runstream_sinks.tables import TABLES

if TYPE_CHECKING:
    from runstream_sinks.clickhouse import Server

pytestmark = pytest.mark.stack
PAGE = Path(__file__).parents[2] / "docs" / "guarantees.md"


def rows_of_the_page() -> dict[str, list[str]]:
    """The cells of each line of the page's table, by table name."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells for cells in lines}


def test_the_page_tells_the_keys_of_every_table(server: Server) -> None:
    """Sort key, version column and partition of each table are as written, every view exists, and no table is left out."""
    page = rows_of_the_page()
    found = server.query(
        "SELECT name, sorting_key, partition_key, engine_full FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree' AND name != {ledger:String}",
        {"ledger": "schema_migrations"},
    )
    assert set(TABLES) <= set(page) == {name for name, *_ in found}
    views = {name for (name,) in server.query("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")}
    for name, sorting_key, partition_key, engine in found:
        _, in_views, _, key, version, partition = page[name]
        assert key == f"`{sorting_key}`", name
        assert partition == (f"`{partition_key}`" if partition_key else "none"), name
        assert (f"MergeTree({version.strip('`')})" in engine) == (version != "none"), name
        assert {view.strip("` ") for view in in_views.split(",")} <= views, name
