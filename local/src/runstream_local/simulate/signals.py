"""What the metrics of a simulated training look like: pure, and the same for the same seed.

Every rank has a loss that falls with noise on it, norms that follow it, a throughput, a step time, memory, and then names of layers until there are as many as were asked for. One rank is a
straggler for a while, one has a loss that is not a number once, and one node is lost in the middle: the job starts again from the last checkpoint, so that steps come twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

RANKS_A_NODE = 8
NAMED = ("train/loss", "train/grad_norm", "train/learning_rate", "perf/step_time_s", "perf/tokens_s", "memory/allocated_gib", "data/wait_s")
_KINDS = ("grad_norm", "weight_norm", "update_norm", "activation_mean", "activation_std")
_NOISE_ROWS = 509  # A prime, so that ranks and steps meet the rows in ever other order.
_CHECKPOINT_SHARE = 0.05  # Of all steps, between checkpoints.


@dataclass(frozen=True, slots=True)
class Attempt:
    """One start of the job: the step it begins at, the step at which it ends and why; `lost_node` is the node that is gone then, -1 where the job is done."""

    number: int
    first: int
    end: int
    lost_node: int


class Fleet:
    """The signals of a fleet of `ranks`, each with `metrics` names, over `steps` steps of `step_s` seconds."""

    def __init__(self, ranks: int, metrics: int, steps: int, step_s: float, seed: int) -> None:
        if min(ranks, metrics, steps) < 1 or not step_s > 0:
            raise ValueError(f"expected at least one rank, metric and step and a step of more than 0 s, got {ranks}, {metrics}, {steps} and {step_s:g} s")
        self.ranks = ranks
        self.steps = steps
        self.step_s = step_s
        self.names = names_of(metrics)
        random = np.random.default_rng(seed)
        self._noise: NDArray[np.float64] = random.normal(0.0, 1.0, (_NOISE_ROWS, metrics)).astype(np.float32).astype(np.float64)
        self._scale: NDArray[np.float64] = random.lognormal(-1.0, 1.0, metrics)
        self._floor = random.uniform(1.6, 2.2)
        self._rank_speed: NDArray[np.float64] = random.normal(1.0, 0.01, ranks)
        self.straggler = int(random.integers(ranks))
        self._slow_from, self._slow_until = (int(share * steps) for share in (0.25, 0.35))
        self.nan_rank, self.nan_step = int(random.integers(ranks)), int(0.15 * steps)
        self._lost_at = int(random.uniform(0.45, 0.6) * steps)
        self._lost_node = int(random.integers(math.ceil(ranks / RANKS_A_NODE)))

    def attempts(self) -> list[Attempt]:
        """The starts of the job; a job of few steps, or of one node, is not interrupted."""
        every = max(1, int(_CHECKPOINT_SHARE * self.steps))
        if self.ranks <= RANKS_A_NODE or self._lost_at < every:
            return [Attempt(0, 0, self.steps, -1)]
        return [Attempt(0, 0, self._lost_at, self._lost_node), Attempt(1, self._lost_at // every * every, self.steps, -1)]

    def row(self, rank: int, step: int, attempt: int = 0) -> dict[str, float]:
        """What a rank logs at a step; another attempt sees other batches, and so other noise."""
        noise = self._noise[(step * 31 + rank * 7 + attempt * 101) % _NOISE_ROWS]
        falling = self._floor + 8.0 * math.exp(-6.0 * step / self.steps)
        values: list[float] = (self._scale * (1.0 + 0.5 * falling + 0.1 * noise)).tolist()
        slow = 1.6 if rank == self.straggler and self._slow_from <= step < self._slow_until else 1.0
        took_s = self.step_s * slow * float(self._rank_speed[rank]) * (1.0 + 0.02 * float(noise[-1]))
        loss = math.nan if (rank, step, attempt) == (self.nan_rank, self.nan_step, 0) else falling * (1.0 + 0.02 * float(noise[0]))
        warmed = min(1.0, step / max(1.0, 0.02 * self.steps))
        named = (
            loss,
            0.4 * falling * math.exp(0.3 * float(noise[min(1, len(noise) - 1)])),
            3e-4 * warmed * 0.5 * (1.0 + math.cos(math.pi * step / self.steps)),
            took_s,
            131_072.0 / took_s,
            61.0 + 0.2 * math.sin(step / 50.0),
            abs(0.01 * float(noise[-1])),
        )
        values[: len(NAMED)] = named[: len(values)]
        return dict(zip(self.names, values, strict=True))


def names_of(metrics: int) -> list[str]:
    """So many names, the well-known ones first."""
    layers = (f"layer_{number // len(_KINDS)}/{_KINDS[number % len(_KINDS)]}" for number in range(max(0, metrics - len(NAMED))))
    return [*NAMED[:metrics], *layers]
