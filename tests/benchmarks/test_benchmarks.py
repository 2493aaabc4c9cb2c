"""The command line of the benchmarks, and the fairness of what they compare."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks import codec
from benchmarks.__main__ import main
from benchmarks.figures import Bar, Figure
from benchmarks.registry import BENCHMARKS, Benchmark
from benchmarks.timing import ROUNDS_MIN, by_turns, median_us
from runstream_schemas import frame

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BARS = {
    "codec": {"encode_ratio": "<= 0.1", "decode_ratio": "<= 0.1"},
    "log_call": {"ratio_1": "<= 0.6", "ratio_20": "<= 0.25", "ratio_1000": "<= 0.12"},
}


@pytest.mark.parametrize("name", BARS)
def test_json_lines(name: str) -> None:
    """Every figure is one object a line with the agreed fields, and the bars are the project's."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", name, "--json", "-", "--seconds", "0.1"], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        assert list(line) == ["benchmark", "figure", "value", "unit", "bar", "holds", "n"]
        assert line["benchmark"] == name
        assert line["value"] > 0
        assert line["n"] >= ROUNDS_MIN
        assert (line["holds"] is None) == (line["bar"] is None)
    assert BARS[name].items() <= {line["figure"]: line["bar"] for line in lines}.items()


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


def test_wrong_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown benchmark or a file that cannot be written is one sentence and exit code 2, before anything runs."""
    assert main(["codek"]) == 2
    assert capsys.readouterr().err == "There is no benchmark 'codek': did you mean codec?\n"
    assert main(["zzz"]) == 2
    assert "ls" in capsys.readouterr().err
    assert main(["codec", "--json", str(tmp_path / "none" / "out")]) == 2
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
        assert theirs[:9] == ours[:9] == one[:9]
        for left, right, true in zip(theirs.groups[0], ours.groups[0], one.groups[0], strict=True):
            assert np.array_equal(left, right)
            assert np.array_equal(left, true)
