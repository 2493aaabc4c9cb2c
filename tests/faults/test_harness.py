"""The fault harness on a real stack: every part is killed once while ranks log, and a drawn seed befalls them; what `python -m benchmarks faults` does a hundred times (docs/faults.md)."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.harness import live
from tests.faults.schedule import KINDS, Kind, every_part_once, plan_of

pytestmark = [pytest.mark.stack, pytest.mark.faults, pytest.mark.timeout(420)]

# Of the drawn seeds one that is quick and has none of the blows that need root or a compiler.
DRAWN = 1


def test_every_part_is_killed_and_nothing_is_lost_or_doubled(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """After hard kills of agent, sink, Faust worker, ClickHouse, broker and a rank, deaths at named points, lost answers, poison: ledgers equal views, summaries their recomputation,
    each alert fired once.
    """
    able: list[Kind] = [kind for kind in KINDS if kind not in ("clock", "disk full")]
    first, second, *later = live([every_part_once(), plan_of(DRAWN, able)], tmp_path)
    assert not later, later[0].report()
    for one in (first, second):
        record_property(f"seed {one.plan.seed}", one.report())
        assert one.held, one.report()
        assert one.findings.points_logged > 0
        assert one.findings.alerts_expected > 0
        assert one.kills > 0
    assert first.done.keys() >= {"kill", "unknowing", "die", "poison", "cut after request", "stop", "reset"}
    assert first.places.keys() >= {"cut after request clickhouse", "cut after request kafka"}
    assert first.points.keys() == {"rank torn", "agent answered"}
    assert first.kills == 8
    assert first.findings.repeats + second.findings.repeats > 0, "no row was repeated, so nothing was proved"
    shutil.rmtree(tmp_path)
