"""One rank of the demo: trains on scikit-learn's handwritten digits and logs through the SDK. `python -m runstream_local.demo.train` runs it.

A line of JSON on standard output, a few times a second, tells the demo's live view how far this rank is; nothing else depends on it.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

import runstream
from runstream import Context, EventSource, Run
from runstream_local.demo.network import Network

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

HIDDEN = 448
BATCH = 64
TOLD_EVERY_S = 0.2
LAYERS = ("layer1", "layer2", "layer3")
TRAINER = EventSource("trainer")


def digits() -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Training and validation images [N, 64] with values from 0 to 1, and their labels [N]."""
    from sklearn.datasets import load_digits

    bunch = cast("Any", load_digits())
    order = np.random.default_rng(0).permutation(len(bunch.data))
    images, labels = bunch.data[order] / 16.0, bunch.target[order].astype(np.int64)
    return images[360:], labels[360:], images[:360], labels[:360]


class Told:
    """Tells the live view, at most a few times a second."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._at = 0.0

    def tell(self, *, epoch: int, loss: float, accuracy: float, force: bool = False) -> None:
        """One line about where training is."""
        now = time.monotonic()
        if now - self._at < TOLD_EVERY_S and not force:
            return
        self._at = now
        shown = loss if math.isfinite(loss) else None
        line = {
            "rank": self._run.rank,
            "epoch": epoch,
            "loss": shown,
            "accuracy": accuracy,
            "logged": self._run.points_logged,
            "shipped": self._run.points_shipped,
        }
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def save(network: Network, run: Run, folder: Path, step: int) -> None:
    """Saves a checkpoint and logs when it started, when it finished, how large it is and how long it took."""
    subject = f"checkpoint/rank{run.rank}-step{step}"
    run.log_event("checkpoint_started", source=TRAINER, step=step, subject=subject, metadata={"parameters": network.parameters})
    begun = time.perf_counter()
    size = network.save(folder / f"rank{run.rank}-{step}.npz")
    seconds = time.perf_counter() - begun
    run.log_event("checkpoint_finished", source=TRAINER, step=step, subject=subject, metadata={"bytes": size, "seconds": round(seconds, 6)})


def warmed_up(learning_rate: float, epoch: int, epochs: int) -> float:
    """The learning rate of an epoch: it grows over the first half of the training, and then stays."""
    return learning_rate * min(1.0, (epoch + 1) / max(1, epochs // 2))


def train(run: Run, *, epochs: int, learning_rate: float, folder: Path) -> None:
    """Trains for `epochs`, logging every step, every epoch's validation and every tenth epoch's checkpoint."""
    images, labels, held_images, held_labels = digits()
    network = Network((64, HIDDEN, HIDDEN, 10), seed=run.rank)
    rng = np.random.default_rng(run.rank)
    told = Told(run)
    step = 0
    for epoch in range(epochs):
        order = rng.permutation(len(images))
        rate = warmed_up(learning_rate, epoch, epochs)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            batch = order[start : start + BATCH]
            begun = time.perf_counter()
            measured, norms = network.step(images[batch], labels[batch], rate)
            seconds = time.perf_counter() - begun
            grad_norms = {f"grad_norm/{name}": norm for name, norm in zip(LAYERS, norms, strict=True)}
            row = {"loss": measured.loss, "accuracy": measured.accuracy, "learning_rate": rate, "images_per_second": BATCH / seconds, "step_seconds": seconds}
            run.log(row | grad_norms, step=step, context=Context.TRAINING)
            told.tell(epoch=epoch, loss=measured.loss, accuracy=measured.accuracy)
            step += 1
        held = network.measure(held_images, held_labels)
        run.log({"loss": held.loss, "accuracy": held.accuracy, "epoch": epoch}, step=step, context=Context.VALIDATION)
        if (epoch + 1) % 10 == 0:
            save(network, run, folder, step)
        told.tell(epoch=epoch, loss=held.loss, accuracy=held.accuracy, force=epoch == epochs - 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Trains as the rank that the environment says."""
    parser = argparse.ArgumentParser(prog="python -m runstream_local.demo.train", description="One rank of the demo.")
    parser.add_argument("--epochs", type=int, default=60, help="passes over the training images")
    parser.add_argument("--learning-rate", type=float, default=0.1, help="step size after warm-up; 0.1 learns, 4 diverges on the way there")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for checkpoints")
    args = parser.parse_args(argv)
    config = {
        "model": {"kind": "mlp", "hidden": [HIDDEN, HIDDEN]},
        "optimizer": {"name": "sgd", "learning_rate": args.learning_rate, "batch": BATCH},
        "epochs": args.epochs,
    }
    with (
        np.errstate(all="ignore"),  # One rank is meant to diverge; what numpy would say of it is what the alerts are for.
        runstream.init(project="digits", name="two learning rates", task="image classification", framework="numpy", tags=["demo"], config=config) as run,
    ):
        run.alert_on("loss", ">", 10.0, context=Context.TRAINING, severity="warning", text="rank {rank}: training loss is {value}, over {threshold}")
        run.alert_on("loss", "non_finite", context=Context.TRAINING, severity="critical", text="rank {rank}: training loss is {value}; it has diverged")
        train(run, epochs=args.epochs, learning_rate=args.learning_rate, folder=args.checkpoints)
    return 0


if __name__ == "__main__":
    sys.exit(main())
