"""A run on a machine without a network: everything stays in a journal on disk, and `runstream sync` ships it later, from here or from wherever the folder is copied to.

python examples/offline.py; runstream journal ls; runstream sync
"""

from __future__ import annotations

import random

import runstream


@runstream.track(project="examples", name="offline", mode="offline", tags=["field"], capture="all,-variables")
def measure(samples: int, run: runstream.Run) -> float:
    """Logs a random walk. The run ends with the call: finished, or failed with the reason if it raises."""
    run.log_params({"samples": samples, "sensor": {"kind": "thermometer", "unit": "K"}})
    run.define_metric("temperature", unit="K")
    temperature = 293.0
    for number in range(samples):
        temperature += random.gauss(0.0, 0.05)
        run.log({"temperature": temperature}, step=number)
        if temperature > 293.5:
            run.alert(
                "warm", f"{temperature:.2f} K at sample {number}", "info", step=number
            )  # Told here at once, since nobody else hears of it before the sync.
            break
    run.summary["temperature"] = temperature
    return temperature


def main() -> None:
    """Measures, then says what to do with it."""
    temperature = measure(500)
    print(f"last temperature {temperature:.2f} K; `runstream sync` ships the run once there is a network")  # noqa: T201


if __name__ == "__main__":
    main()
