"""A fixed, realistic mix of metric series: the data on which bytes a point are counted.

Eight kinds in equal shares, as training jobs log them: float32 readings widened to float64 (loss, gradient norm, tokens a second),
a smooth schedule (learning rate), and quantised hardware readings (utilisation, memory, temperature, power).

`series(kind, points, seed)` gives one series as (steps int64, times int64 in epoch ms, values float64); `KINDS` names the kinds.
Deterministic: the same arguments give the same arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("loss", "grad_norm", "learning_rate", "tokens_per_second", "gpu_utilization", "gpu_memory_gib", "gpu_temperature_c", "gpu_power_w")
START_MS = 1_790_000_000_000


def series(kind: str, points: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """One series of a kind: steps, times in epoch milliseconds, values."""
    rng = np.random.default_rng((KINDS.index(kind), seed))
    step = np.arange(points, dtype=np.int64)
    progress = step / max(points - 1, 1)
    period_ms = 250.0 if kind in KINDS[:4] else 5_000.0
    jitter = np.cumsum(rng.normal(0.0, period_ms * 0.004, points))
    times = (START_MS + step * period_ms + jitter).astype(np.int64)
    if kind == "loss":
        values = (2.0 + 8.0 * np.exp(-6.0 * progress) + rng.normal(0.0, 0.05, points)).astype(np.float32)
    elif kind == "grad_norm":
        values = np.exp(rng.normal(-0.5, 0.35, points)).astype(np.float32)
    elif kind == "learning_rate":
        warm = np.minimum(1.0, step / max(points * 0.02, 1.0))
        values = 3e-4 * warm * 0.5 * (1.0 + np.cos(np.pi * progress))
    elif kind == "tokens_per_second":
        values = (41_500.0 * (1.0 + rng.normal(0.0, 0.01, points))).astype(np.float32)
    elif kind == "gpu_utilization":
        values = np.clip(np.round(rng.normal(97.0, 2.0, points)), 0, 100)
    elif kind == "gpu_memory_gib":
        values = np.repeat(rng.integers(680, 760, points // 500 + 1) / 10.0, 500)[:points]
    elif kind == "gpu_temperature_c":
        values = np.round(62.0 + np.cumsum(rng.normal(0.0, 0.08, points)).clip(-10, 15))
    elif kind == "gpu_power_w":
        values = np.round(rng.normal(655.0, 12.0, points), 1)
    else:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}")
    return step, times, values.astype(np.float64)
