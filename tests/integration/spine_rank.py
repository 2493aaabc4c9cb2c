"""One rank of the spine test: logs a data set that the test knows, of every kind. Run as a script."""

from __future__ import annotations

import math
import sys
import time

import runstream
from runstream import Context, Event, EventSource

STEPS = 400
PHASES = 5


def value(rank: int, name: str, step: int) -> float:
    """What a rank logs under a name at a step."""
    special = {37: math.nan, 73: math.inf, 111: -math.inf, 222: -0.0, 333: 5e-324}
    if name == "special":
        return special.get(step, 1.7976931348623157e308)
    return (step - 200) * 0.1 + rank * 1e-9 + len(name) / 3.0


NAMES = ("loss", "special", "layer/1/norm", "größe")


def main() -> int:
    """Logs everything and finishes."""
    with runstream.init(
        "spine", "known", owner="ada", framework="numpy", task="test", notes="two ranks", tags=["a", "b"], metadata={"k": [1, {"x": None}]}
    ) as run:
        run.alert_on("loss", ">=", 15.0, context=Context.TRAINING, name="high", text="{metric} at {value} on rank {rank}, step {step}")
        run.alert_on("special", "non_finite", name="odd", severity="critical")
        # Steps run backwards, and each is logged twice: neither order nor repetition loses a row.
        for step in reversed(range(STEPS)):
            for _ in range(2):
                run.log({name: value(run.rank, name, step) for name in NAMES}, step=step, context=Context.TRAINING, time=1_790_000_000.0 + step + 0.125)
        for phase in range(PHASES):
            run.log({"val": {"loss": 1.0 / (phase + 1), "bad": ["no number"]}}, context=Context.VALIDATION)
            run.log({"score": float(phase)}, step=2**62 + phase, subject="model/net/1")
        params = {"int": 2**40, "float": 0.1, "nan": math.nan, "bool": True, "text": "ü", "none": None, "list": [1, "two", 3.5], "nested": {"rank": run.rank}}
        run.log_params(params)
        run.log_params({"int": 7})
        run.log_event(
            Event(
                "checkpoint_started", source=EventSource("trainer"), time=1_790_000_001.5, metadata={"size": 123, "why": "test"}, subject="checkpoint/1", step=5
            )
        )
        run.log_event("checkpoint_finished", metadata={"seconds": 0.25}, source="trainer")
        time.sleep(1.5)  # Hardware is read twice a second, and should be read while this process lives.
        finished = run.finish(timeout=60)
        sys.stdout.write(f"{run.points_logged}\n")
    return 0 if finished.shipped else 1


if __name__ == "__main__":
    sys.exit(main())
