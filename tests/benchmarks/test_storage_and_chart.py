"""What the benchmarks of tables store and ask is what they say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks import chart, storage
from benchmarks.data import metric_mix
from benchmarks.tables import empty_tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.tables import Tables

pytestmark = pytest.mark.stack

CALLS = 200_000


@pytest.fixture(scope="module")
def tables() -> Iterator[Tables]:
    """Tables of this module's own."""
    with empty_tables() as made:
        yield made


def test_the_mix_is_stored_as_it_is(tables: Tables) -> None:
    """Every point of every kind, with its step, time and value, in the table that it belongs to, as if eight processes had logged it."""
    points = 1500
    for name, kinds in storage.KINDS.items():
        storage.store(tables.server, name, points)
        view = "metrics" if name == "metric_points" else "hardware"
        for kind in kinds:
            steps, times, values = metric_mix.series(kind, points, 3)
            asked = f"SELECT step, toUnixTimestamp64Milli(time), value FROM {view} WHERE name = {{name:String}} AND rank = 3 ORDER BY step"
            assert tables.server.query(asked, {"name": kind}) == list(zip(steps.tolist(), times.tolist(), values.tolist(), strict=True))
    rows, size = storage.bytes_of(tables.server)
    assert rows == len(metric_mix.KINDS) * storage.RANKS * points
    assert size > rows
    assert {kind for kinds in storage.KINDS.values() for kind in kinds} == set(metric_mix.KINDS)


def test_charts_are_asked_and_answered_exactly(tables: Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each figure of the issue comes out, each answer is checked, and a wrong one fails."""
    monkeypatch.setattr(chart, "QUIET_S", 0.0)
    figures = {one.name: one for one in chart.measure(tables, 0.1, CALLS)}
    bars = {name: str(one.bar) for name, one in figures.items() if one.bar}
    assert bars == {
        "one_series_1m_ms_fresh": "<= 100",
        "one_series_1m_ms_merged": "<= 60",
        "one_series_1m_ms_replayed": "<= 300",
        "one_series_100m_ms": "<= 1000",
        "hundred_series_10k_ms": "<= 100",
        "latest_10k_series_ms": "<= 100",
    }
    tables.server.command("ALTER TABLE metric_points UPDATE value = value + 1 WHERE name = 'loss' AND step = 100 SETTINGS mutations_sync = 1")
    with pytest.raises(AssertionError, match="expected"):
        chart.check(tables, chart.one_series(CALLS))
