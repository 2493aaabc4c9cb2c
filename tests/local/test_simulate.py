"""A simulated fleet without a stack: what it takes of the machine, which arguments it takes, and how its ranks end when nobody ships them."""

from __future__ import annotations

import argparse
import contextlib
import resource
from typing import TYPE_CHECKING

import pytest

import runstream
from runstream_local.commands import simulate
from runstream_local.simulate import fleet as driver
from runstream_local.simulate.fleet import Simulation, StalledError
from runstream_local.simulate.machine import journals_bytes, make_room, segment_bytes
from runstream_local.simulate.shown import shown
from runstream_local.simulate.signals import Fleet
from runstream_producers.journal import survey
from runstream_schemas.settings import SettingsError, load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[runstream.Run]:
    """A run that nobody ships."""
    monkeypatch.setenv("RUNSTREAM_JOURNAL_DIR", str(tmp_path / "own"))
    with runstream.init("simulated", mode="offline", capture="none") as started:
        yield started


def simulation(fleet: Fleet, run: runstream.Run, tmp_path: Path) -> Simulation:
    """The fleet's, whose journals are read by no agent."""
    return Simulation(fleet, run, load({"journal_dir": tmp_path / "ranks", "kafka": "127.0.0.1:1"}), points_s=0.0, now_s=1_800_000_000.0)


@pytest.mark.parametrize(
    ("argument", "value", "words"),
    [
        ("--ranks", "0", "a whole number from 1 to 100,000, got 0"),
        ("--ranks", "1000000000", "a whole number from 1 to 100,000, got 1000000000"),
        ("--metrics", "1.5", "a whole number from 1 to 100,000, got 1.5"),
        ("--rate", "-1", "a number above 0, got -1"),
        ("--hours", "nan", "a number above 0, at most 87,600, got nan"),
        ("--points-s", "inf", "a number above 0, got inf"),
        ("--seed", "-1", "a whole number from 0"),
        ("--seed", "x", "got x"),
    ],
)
def test_an_argument_that_is_none(argument: str, value: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What was expected, and what came."""
    parser = argparse.ArgumentParser()
    simulate.configure(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"{argument}={value}"])
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_fleet_that_the_machine_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is refused before it begins: by the room of its journals, and by the files that it opens; one that fits is allowed its files."""
    with pytest.raises(SettingsError, match=r"100,000 ranks with 100,000 metrics take up to [\d,.]+ GB .* fewer --ranks"):
        make_room(100_000, 100_000, tmp_path / "not" / "there")
    allowed: list[tuple[int, int]] = []

    def limits(_: int) -> tuple[int, int]:
        return 256, 1024

    def allow(_: int, files: tuple[int, int]) -> None:
        allowed.append(files)

    monkeypatch.setattr(resource, "getrlimit", limits)
    monkeypatch.setattr(resource, "setrlimit", allow)
    with pytest.raises(SettingsError, match="1,000 ranks take 6,256 open files and this machine allows 1,024"):
        make_room(1_000, 1, tmp_path)
    make_room(100, 1, tmp_path)
    assert allowed == [(856, 1024)]


def test_more_ranks_have_smaller_segments() -> None:
    """Ten times as many ranks take hardly more of the disk."""
    assert segment_bytes(16) == segment_bytes(1_000) == 1 << 20
    assert segment_bytes(100_000) == 1 << 16
    assert journals_bytes(10_000, 10) < 1.1 * journals_bytes(1_000, 10)


def test_a_simulation_that_is_stopped_ends_its_ranks(run: runstream.Run, tmp_path: Path) -> None:
    """They are killed, and say why; what they had logged is counted and kept."""
    going = simulation(Fleet(16, 5, 100, 1.0, 0), run, tmp_path)
    with contextlib.closing(going.steps()) as steps:
        progress = next(steps)
        assert progress.points == 80
    assert progress.points == 80
    ends = [survey.read_end(folder) for folder in going.folders]
    assert {(end.state, end.reason) for end in ends if end is not None} == {("killed", "stopped in the middle of the simulation")}
    assert len(ends) == going.unshipped() == 16


def test_a_simulation_that_nobody_ships_is_given_up(run: runstream.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says for how long Kafka has taken nothing, and does not wait for ever."""
    monkeypatch.setattr(driver, "STALLED_S_MAX", 0.1)
    monkeypatch.setattr(driver, "_BEHIND_POINTS_MAX", 200)
    going = simulation(Fleet(4, 5, 100, 1.0, 0), run, tmp_path)
    with pytest.raises(StalledError, match=r"Kafka has taken nothing for 0\.1 s"):
        list(going.steps())
    assert 0 < going.progress.points <= 11 * 20
    assert {end.state for folder in going.folders if (end := survey.read_end(folder))} == {"failed"}


def test_what_is_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A line now and then, which also tells that Kafka takes nothing; nothing at all if so wished."""
    monkeypatch.setattr("runstream_local.simulate.shown.LINE_INTERVAL_S", 0.0)
    fleet = Fleet(16, 5, 100, 1.0, 0)
    for quiet in (True, False):
        with shown(fleet, quiet=quiet) as show:
            show.logging(driver.Progress(points=80, simulated_s=3600.0))
            show.logging(driver.Progress(points=80, simulated_s=3600.0, stalled_s=7.0))
            show.shipping(1_000)
    assert capsys.readouterr().err.splitlines() == [
        f"16 ranks, hour 1.00: 80 of {fleet.points:,} points",
        f"16 ranks, hour 1.00, Kafka has taken nothing for 7 s: 80 of {fleet.points:,} points",
        "shipping what is left of 1,000 writers",
    ]
