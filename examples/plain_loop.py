"""A training loop in plain Python: params, metrics of two phases, an alert rule, an event pair around each checkpoint, and a summary.

python examples/plain_loop.py        ships to RUNSTREAM_KAFKA or the stack of `runstream up`; with RUNSTREAM_MODE=offline it keeps everything on disk
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from pathlib import Path

import runstream
from runstream import Context

STEPS = 200


def main() -> None:
    """Fits a line to noisy points by gradient descent."""
    random.seed(0)
    points = [(x / 50.0, 3.0 * x / 50.0 - 1.0 + random.gauss(0.0, 0.1)) for x in range(50)]
    config = {"optimizer": {"name": "sgd", "lr": 0.1}, "steps": STEPS}
    with runstream.init(project="examples", name="plain-loop", config=config, tags=["example"], task="regression") as run:
        run.define_metric("loss", goal="min", unit="1")
        run.alert_on("loss", ">", 100.0, severity="critical", text="loss is {value} at step {step}")
        run.alert_on("loss", "non_finite")
        slope, offset = 0.0, 0.0
        for step in range(STEPS):
            errors = [(x, slope * x + offset - y) for x, y in points]
            loss = sum(error**2 for _, error in errors) / len(points)
            slope_gradient = 2.0 * sum(error * x for x, error in errors) / len(points)
            offset_gradient = 2.0 * sum(error for _, error in errors) / len(points)
            slope -= 0.1 * slope_gradient
            offset -= 0.1 * offset_gradient
            run.log({"loss": loss, "gradient/norm": math.hypot(slope_gradient, offset_gradient)}, step=step, context=Context.TRAINING)
            if (step + 1) % 100 == 0:
                save(run, step, {"slope": slope, "offset": offset})
                run.log({"loss": abs(slope - 3.0) + abs(offset + 1.0)}, step=step, context=Context.VALIDATION)
        run.summary["slope"] = slope
        run.summary["offset"] = offset
        finished = run.finish(timeout=30)
    print(f"run {run.id}: {run.points_logged} points logged, {'all shipped' if finished.shipped else f'kept in {finished.folder}'}")  # noqa: T201


def save(run: runstream.Run, step: int, weights: dict[str, float]) -> None:
    """Writes a checkpoint between two events, and one about the checkpoint itself."""
    folder = Path(tempfile.mkdtemp())
    with run.timed("checkpoint", source="trainer", step=step, subject=f"checkpoint/step-{step}") as block:
        path = folder / f"step-{step}.json"
        path.write_text(json.dumps(weights), encoding="utf-8")
        block.metadata["bytes"] = path.stat().st_size
    run.log_event("checkpoint_verified", source="trainer", subject=f"checkpoint/step-{step}", metadata=weights)


if __name__ == "__main__":
    main()
