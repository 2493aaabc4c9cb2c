"""The command line of the benchmarks, and the fairness of what they compare."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from benchmarks import checkpoint, codec
from benchmarks.__main__ import main
from benchmarks.figures import Bar, Figure
from benchmarks.registry import BENCHMARKS, Benchmark
from benchmarks.timing import ROUNDS_MIN, by_turns, median_us, middle, quantile
from benchmarks.training import Training
from runstream_schemas import frame
from tests.benchmarks.bars import BARS
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Bars for any machine that does other things at the same time: what is missed then has got much worse. Shares of a core and ratios within one run, some three to five times the bars.
LOOSE = {
    "log_call": {"ratio_1": "<= 1.8", "ratio_20": "<= 0.75", "ratio_1000": "<= 0.36"},
    "deliver": {"core_share_1000": "<= 0.05", "peak_rss_mb": "<= 300"},
    "hardware": {"core_share": "<= 0.015"},
    "exit": {"finish_over_timeout": "<= 2"},
    "process": {"of_no_rules": ">= 0.25", "small_frame_ratio": ">= 0.15"},
}


def lines_of(name: str, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a benchmark says as JSON lines when it may take a tenth of a second for each thing it measures; nothing of it is left on the disk or in memory."""
    argv = [sys.executable, "-m", "benchmarks", name, "--json", "-", "--seconds", "0.1"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(environ)) as process:
        try:
            out, errors = process.communicate(timeout=100)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    assert not [path for folder in ("/var/tmp", "/dev/shm") for path in Path(folder).glob(f"runstream-benchmark-{process.pid}-*")]
    return [json.loads(line) for line in out.splitlines()]


def check_lines(name: str, lines: list[dict[str, Any]]) -> None:
    """Every figure is one object with the agreed fields, and the bars are the project's."""
    for line in lines:
        assert list(line) == ["benchmark", "figure", "value", "unit", "bar", "holds", "n"]
        assert line["benchmark"] == name
        assert math.isfinite(line["value"])
        assert line["n"] >= 1
        assert (line["holds"] is None) == (line["bar"] is None)
    assert BARS[name].items() <= {line["figure"]: line["bar"] for line in lines}.items()


def check_loosely(name: str, lines: list[dict[str, Any]]) -> None:
    """Nothing has got much worse."""
    values = {line["figure"]: line["value"] for line in lines}
    kept = {
        figure: (bar, values[figure] <= float(bar[3:]) if bar.startswith("<=") else values[figure] >= float(bar[3:])) for figure, bar in LOOSE[name].items()
    }
    assert all(holds for _, holds in kept.values()), (kept, values)


@pytest.mark.parametrize("name", ["codec", "hardware"])
def test_json_lines(name: str) -> None:
    """A benchmark that needs nothing beside it says its figures, each from rounds enough."""
    lines = lines_of(name, os.environ)
    check_lines(name, lines)
    assert all(line["value"] > 0 and line["n"] >= ROUNDS_MIN for line in lines)
    if name in LOOSE:
        check_loosely(name, lines)


@pytest.mark.stack
def test_rules_cost_no_much_more() -> None:
    """A processors' worker with rules over one without, and small records over an agent that only decodes, on a stack of the benchmark's own."""
    check_loosely("process", lines_of("process", os.environ))


@pytest.mark.stack
@pytest.mark.parametrize("name", ["log_call", "training_impact", "deliver", "exit"])
def test_json_lines_beside_an_agent(name: str, kafka: str) -> None:
    """A benchmark that ships to Kafka says its figures and loses nothing."""
    lines = lines_of(name, {**os.environ, "BENCHMARK_KAFKA": kafka})
    check_lines(name, lines)
    values = {line["figure"]: line["value"] for line in lines}
    if name in LOOSE:
        check_loosely(name, lines)
    if name == "log_call":
        assert values["kept"] == values["shipped"] == 1.0
        assert 0 < values["checkpoint_gb"] < 0.1
    if name == "training_impact":
        assert values["points_logged"] > 20 * 5 * ROUNDS_MIN
        assert values["call_us"] > 0


class Low(Benchmark):
    """A benchmark whose one bar does not hold."""

    def run(self, seconds: float) -> Iterator[Figure]:
        """Yields at once."""
        assert seconds > 0
        yield Figure("ratio", 1.0, "ratio", 3, Bar("<=", 0.5))


def test_exit_codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A bar that does not hold is told; only with --check it is an exit code."""
    monkeypatch.setitem(BENCHMARKS, "low", Low("low", "nothing"))
    assert main(["low"]) == 0
    shown = capsys.readouterr().out
    assert "ratio" in shown
    assert "no" in shown
    assert main(["low", "--check", "--json", str(tmp_path / "out")]) == 1
    assert json.loads((tmp_path / "out").read_text())["holds"] is False


class Seeded(Benchmark):
    """A benchmark that says which seeds it was asked for."""

    def run(self, seconds: float) -> Iterator[Figure]:
        """Without seeds, for a time."""
        yield Figure("seconds", seconds, "s", 1)

    def over_seeds(self, seeds: int, first: int) -> Iterator[Figure]:
        """From a seed on."""
        yield Figure(f"from_{first}", seeds, "seeds", 1)


@pytest.mark.parametrize(
    ("options", "figure", "value"),
    [
        ([], "seconds", 6),
        (["--first-seed", "7"], "from_7", 2),
        (["--first-seed", "0"], "from_0", 2),
        (["--seeds", "3"], "from_1", 3),
        (["--seeds", "1", "--first-seed", "9"], "from_9", 1),
    ],
    ids=["neither", "first", "fixed", "count", "both"],
)
def test_seeds_are_those_that_were_asked_for(
    options: list[str], figure: str, value: float, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds run from the first one on, two where nobody says how many, and from 1 on where nobody says from where."""
    monkeypatch.setitem(BENCHMARKS, "seeded", Seeded("seeded", "nothing", has_seeds=True))
    assert main(["seeded", "--json", "-", *options]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["figure"], line["value"]) == (figure, value)


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown benchmark or a file that cannot be written is one sentence and exit code 2, before anything runs."""
    assert main(["codek"]) == 2
    assert capsys.readouterr().err == "There is no benchmark 'codek': did you mean codec?\n"
    assert main(["zzz"]) == 2
    assert "ls" in capsys.readouterr().err
    assert main(["codec", "--json", str(tmp_path / "none" / "out")]) == 2
    for option in ("--seeds", "--first-seed"):
        capsys.readouterr()
        assert main(["codec", option, "3"]) == 2
        assert capsys.readouterr().err == "--seeds and --first-seed are for faults; codec has no seeds.\n"
    for option, wrong in (("--seeds", "0"), ("--seeds", "-1"), ("--seeds", "some"), ("--first-seed", "-1"), ("--first-seed", "x")):
        with pytest.raises(SystemExit) as caught:
            main(["faults", f"{option}={wrong}"])
        assert caught.value.code == 2
        assert f"{option}: must be a whole number{' above 0' if option == '--seeds' else ', 0 or more'}, got {wrong}" in capsys.readouterr().err
    for seconds in ("0", "-1", "nan", "inf", "soon"):
        with pytest.raises(SystemExit) as caught:
            main(["codec", "--seconds", seconds])
        assert caught.value.code == 2


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    """`ls` names every benchmark."""
    assert main(["ls"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in BENCHMARKS)


def test_turns_are_taken() -> None:
    """The sides of a comparison run by turns, one round of them uncounted."""
    seen: list[str] = []
    taken = by_turns((lambda: seen.append("a"), lambda: seen.append("b")), seconds=0.0)
    assert seen == ["a", "b"] * (ROUNDS_MIN + 1)
    assert [len(times) for times in taken] == [ROUNDS_MIN, ROUNDS_MIN]
    assert median_us([3000, 1000, 2000], 2) == 1.0


def test_quantiles_leave_nothing_out() -> None:
    """A quantile is one of the values, and the worst one counts."""
    values = [*range(1, 1000), 1_000_000]
    assert quantile(values, 0.99) == 990
    assert quantile(values, 0.999) == 999
    assert quantile(values, 1.0) == 1_000_000
    assert quantile([7], 0.5) == 7


def test_a_median_comes_with_what_it_may_be_off() -> None:
    """The margin holds the true median of noise in 19 of 20 samples, however heavy its tail, and shrinks as samples grow."""
    draw = random.Random(1)
    for n in (25, 400):
        off = [middle([draw.gauss(0.0, 1.0) + (100.0 if draw.random() < 0.1 else 0.0) for _ in range(n)]) for _ in range(400)]
        true = 0.1397  # Where nine tenths of a normal distribution and a tenth far above it have their middle.
        assert sum(abs(one.median - true) <= one.margin for one in off) >= 0.94 * 400
    assert middle([1.0] * 30) == (1.0, 0.0)
    small, large = (middle([float(one % 97) for one in range(97 * times)]).margin for times in (1, 50))
    assert large < small / 4


def test_a_training_step_trains() -> None:
    """The loop beside which logging is measured is a real one: its loss falls, and each step has the same 20 metrics."""
    with threadpool_limits(1):
        training = Training()
        steps = [training.step() for _ in range(60)]
    assert {tuple(one) for one in steps} == {tuple(steps[0])}
    assert len(steps[0]) == 20
    assert sum(one["train/loss"] for one in steps[-16:]) < 0.9 * sum(one["train/loss"] for one in steps[:16])


def test_a_checkpoint_is_written_whole_and_goes(tmp_path: Path) -> None:
    """The process beside the log calls writes what it was asked to and removes it; one that is cut short leaves nothing either."""
    with checkpoint.being_written(tmp_path, 20_000_000) as process:
        assert process.wait(timeout=60) == 0
    with checkpoint.being_written(tmp_path, 1 << 40):
        wait_for((tmp_path / "checkpoint").exists, 30, "the checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_bars() -> None:
    """A bar holds at its limit, and never for a figure that is no number."""
    assert Bar("<=", 0.5).holds(0.5)
    assert not Bar("<=", 0.5).holds(0.51)
    assert not Bar("<=", 0.5).holds(float("nan"))
    assert Bar(">=", 2).holds(3)
    assert Figure("x", 1.0, "s", 1).holds is None


def test_both_codecs_do_the_same_work() -> None:
    """fastavro's side of the comparison comes to the same frame as ours, and frames differ from each other."""
    frames = [codec.make_frame(number) for number in range(codec.FRAMES)]
    assert len({frame.encode(one) for one in frames}) == len({one.groups[0].values.tobytes() for one in frames}) == codec.FRAMES
    for one in frames:
        theirs = codec.fastavro_decode(codec.fastavro_encode(one))
        ours = frame.decode(frame.encode(one))
        assert theirs[:10] == ours[:10] == one[:10]
        for left, right, true in zip(theirs.groups[0], ours.groups[0], one.groups[0], strict=True):
            assert np.array_equal(left, right)
            assert np.array_equal(left, true)
