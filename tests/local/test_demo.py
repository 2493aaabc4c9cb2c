"""The demo's pure parts: the network that it trains, the verdict on its end, and what it draws."""

from __future__ import annotations

import io
import math
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from runstream_local.demo import reads, show
from runstream_local.demo.agents import end_agents, holder
from runstream_local.demo.chart import Line, draw
from runstream_local.demo.network import Network
from runstream_local.demo.train import BATCH, digits, warmed_up


def writer(rank: int, points: int, **other: Any) -> dict[str, Any]:
    """A row of the account that balances, unless `other` says otherwise."""
    row = {
        "kind": "rank",
        "rank": rank,
        "state": "finished",
        "points_logged": points,
        "points_shipped": points,
        "points_stored": points,
        "points_dropped": 0,
        "balanced": True,
    }
    return row | other


def alert(rank: int, severity: str = "critical") -> dict[str, Any]:
    """A row of the alerts."""
    return {
        "alert_id": f"a{rank}",
        "rule": "loss is not finite",
        "severity": severity,
        "state": "firing",
        "rank": rank,
        "step": 7,
        "text": "diverged",
        "fired_latency_ms": 120,
    }


GOOD = [writer(0, 10), writer(1, 12), writer(0, 5, kind="hardware")]
LOGGED = {0: 10, 1: 12}


def test_a_balanced_account_with_the_alert_on_the_rank_that_diverged_holds() -> None:
    """The demo holds when every count agrees and the alert fired."""
    assert reads.verdict(GOOD, [alert(1)], LOGGED, LOGGED).holds


@pytest.mark.parametrize(
    ("account", "alerts", "logged", "reason"),
    [
        ([writer(0, 10), writer(1, 12, points_stored=11), GOOD[2]], [alert(1)], LOGGED, "11 stored"),
        ([writer(0, 10), writer(1, 12, points_shipped=11), GOOD[2]], [alert(1)], LOGGED, "11 shipped"),
        (GOOD, [alert(1)], {0: 10, 1: 13}, "logged 13 points"),
        (GOOD, [alert(1)], {0: 10, 1: 13}, "summaries of rank 1 hold 12"),
        ([writer(0, 10), GOOD[2]], [alert(1)], LOGGED, "rank 1 is missing"),
        ([writer(0, 10), writer(1, 12, state="running"), GOOD[2]], [alert(1)], LOGGED, "still running"),
        ([*GOOD[:2], writer(0, 5, kind="hardware", balanced=False)], [alert(1)], LOGGED, "hardware"),
        (GOOD[:2], [alert(1)], LOGGED, "no writer of hardware"),
        (GOOD, [], LOGGED, "did not fire"),
        (GOOD, [alert(1, severity="warning")], LOGGED, "did not fire"),
        (GOOD, [alert(1), alert(0)], LOGGED, "fired on rank 0"),
    ],
)
def test_whatever_is_off_is_named(account: reads.Rows, alerts: reads.Rows, logged: dict[int, int], reason: str) -> None:
    """A count that differs, a writer that is missing or still runs, an alert that is missing or wrong: each makes the demo fail, with its reason."""
    judged = reads.verdict(account, alerts, logged, LOGGED)
    assert not judged.holds
    assert any(reason in said for said in judged.reasons)


def test_the_network_learns_and_diverges() -> None:
    """A small learning rate lowers the loss; a large one makes it not finite."""
    rng = np.random.default_rng(0)
    inputs, labels = rng.random((64, 8)), rng.integers(0, 3, 64)
    good, bad = Network((8, 16, 16, 3), seed=1), Network((8, 16, 16, 3), seed=1)
    before = good.measure(inputs, labels).loss
    with np.errstate(all="ignore"):
        for _ in range(300):
            good.step(inputs, labels, 0.3)
            bad.step(inputs, labels, 50.0)
        assert good.measure(inputs, labels).loss < before * 0.7
        assert not math.isfinite(bad.measure(inputs, labels).loss)


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    """A step changes the loss by as much as the norms of its gradients say, to first order."""
    rng = np.random.default_rng(3)
    inputs, labels = rng.random((32, 6)), rng.integers(0, 4, 32)
    network = Network((6, 12, 12, 4), seed=2)
    network.biases = [np.zeros_like(bias) for bias in network.biases]
    before = network.measure(inputs, labels).loss
    saved = [bias.copy() for bias in network.biases]
    rate = 1e-5
    _, norms = network.step(inputs, labels, rate)
    network.biases = saved  # Only the weights' part of the gradient is in the norms.
    assert (before - network.measure(inputs, labels).loss) / rate == pytest.approx(sum(norm**2 for norm in norms), rel=0.01)


def test_a_saved_network_is_a_file_of_its_size(tmp_path: Path) -> None:
    """`save` returns the size of a file that holds every weight."""
    network = Network((8, 16, 3), seed=1)
    size = network.save(tmp_path / "network.npz")
    assert size == (tmp_path / "network.npz").stat().st_size > 8 * network.parameters
    with np.load(tmp_path / "network.npz") as arrays:
        assert np.array_equal(arrays["weight_0"], network.weights[0])


def test_the_learning_curve_is_by_epoch() -> None:
    """The question's epochs have as many steps as training takes through its images, and what diverged says in which of how many epochs."""
    images = digits()[0]
    assert f"intDiv(step, {len(images) // BATCH})" in reads.CURVE
    rows = [{"rank": 1, "epoch": epoch, "first_step": 22 * epoch, "loss": 0.5, "non_finite": int(epoch >= 12)} for epoch in range(60)]
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(show.curve(rows, 100))
    assert "rank 1: first not finite in epoch 13 of 60" in console.export_text()


def test_warm_up_grows_over_the_first_half_and_stays() -> None:
    """The learning rate grows linearly over the first half."""
    rates = [warmed_up(2.0, epoch, 10) for epoch in range(10)]
    assert rates == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0])


def test_a_chart_has_its_size_and_survives_what_is_not_finite() -> None:
    """NaN and infinities are left out, values beyond the axis are drawn at its edge, and no points at all are no error."""
    lines = [Line("a", [(0.0, 1.0), (1.0, float("nan")), (2.0, float("inf")), (3.0, 1e9), (4.0, -5.0)]), Line("b", [])]
    for shown in (lines, [Line("empty", [])]):
        rows = draw(shown, width=40, height=6, y_min=0.01, y_max=100.0)
        assert len(rows) == 6
        assert all(len(row.plain) == 40 for row in rows)
    assert any(char != "⠀" for row in draw(lines, width=40, height=6, y_min=0.01, y_max=100.0) for char in row.plain[8:])


def test_agents_below_a_folder_are_ended(tmp_path: Path) -> None:
    """The process that holds an agent's lock is found by the kernel's word and ended; a folder without agents is no error."""
    end_agents(tmp_path, timeout_s=1.0)
    folder = tmp_path / "v1-abc"
    folder.mkdir()
    code = "import sys, time; from pathlib import Path; from runstream_producers.agent import take_lock; "
    code += "assert take_lock(Path(sys.argv[1])) is not None; print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert holder(folder / "agent.lock") == process.pid
        end_agents(tmp_path, timeout_s=5.0)
        assert process.wait(timeout=5) == -signal.SIGTERM
    assert holder(folder / "agent.lock") is None


def test_progress_reads_as_plain_lines_and_as_a_live_view() -> None:
    """Both forms show the counts, a loss that is not finite, and the alerts."""
    progress = show.Progress(60, stored=1234, hardware=5, alerts=[alert(1)])
    progress.ranks[1] = {"rank": 1, "epoch": 9, "loss": None, "accuracy": 0.1, "logged": 5678, "shipped": 5600}
    line = progress.line(3.0)
    assert "5,678" in line
    assert "1,234" in line
    assert "metric points logged 5,678" in line
    assert "not finite" in line
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(show.live(progress, 3.0))
    console.print(show.account(GOOD, reads.verdict(GOOD, [alert(1)], LOGGED, LOGGED)))
    text = console.export_text()
    assert "5,678" in text
    assert "metric points logged" in text
    assert "diverged" in text
    assert "balanced: 27 points logged" in text
